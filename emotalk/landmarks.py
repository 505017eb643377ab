"""Landmark scheme, the canonical crop, the PCA basis and the line drawings: pure geometry, no networks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .errors import LandmarkError

# The 68 points of iBUG 300-W (Sagonas et al., 2013); "left" is the left side of the picture.
POINTS = 68
JAW = slice(0, 17)
LEFT_BROW = slice(17, 22)
RIGHT_BROW = slice(22, 27)
NOSE_BRIDGE = slice(27, 31)
NOSE_BASE = slice(31, 36)
LEFT_EYE = slice(36, 42)
RIGHT_EYE = slice(42, 48)
MOUTH_OUTER = slice(48, 60)
MOUTH_INNER = slice(60, 68)
MOUTH = slice(48, 68)
LOWER_FACE = np.r_[0:17, 48:68]  # jaw, then mouth: the 37 points that speech moves
LOWER_POINTS = len(LOWER_FACE)
LOWER_JAW = slice(0, 17)  # the same parts, counted within the 37
LOWER_MOUTH_OUTER = slice(17, 29)
LOWER_MOUTH_INNER = slice(29, 37)
UPPER_LIP_INNER = (61, 62, 63)
LOWER_LIP_INNER = (67, 66, 65)

# Curves drawn for the networks: (slice, closed).
CURVES: tuple[tuple[slice, bool], ...] = (
    (JAW, False), (LEFT_BROW, False), (RIGHT_BROW, False), (NOSE_BRIDGE, False), (NOSE_BASE, False),
    (LEFT_EYE, True), (RIGHT_EYE, True), (MOUTH_OUTER, True), (MOUTH_INNER, True),
)  # fmt: skip
LOWER_CURVES: tuple[tuple[slice, bool], ...] = (
    (LOWER_JAW, False), (LOWER_MOUTH_OUTER, True), (LOWER_MOUTH_INNER, True),
)  # fmt: skip

CROP_SIZE = 256  # pixels, side of the canonical crop
FACE_UNIT = 64.0  # pixels between the eye centres in the canonical crop: the unit of landmark motion
EYE_LINE = 96.0  # y of the eye centres in the canonical crop
LOWER_WINDOW = (48, 96, 160)  # left, top, side in the canonical crop: nose to throat, what speech can move

# Points that expressions and speech hardly move, and where they lie in the canonical crop. Mean of 1,226 near-frontal
# photographs after the eye centres were brought to (-1/2, 0) and (1/2, 0); the unit is their distance.
STABLE = np.array([36, 39, 42, 45, 27, 33])
TEMPLATE = np.array(
    [[-0.718, -0.015], [-0.282, 0.015], [0.282, 0.015], [0.718, -0.015], [0.0, -0.054], [0.0, 0.738]]
) * FACE_UNIT + (CROP_SIZE / 2, EYE_LINE)


def check_landmarks(landmarks: np.ndarray, points: int = POINTS) -> np.ndarray:
    """Return `landmarks` as float64 (points, 2).

    Raises:
        LandmarkError: if the shape differs or a value is not finite.
    """
    array = np.asarray(landmarks, np.float64)
    if array.shape != (points, 2):
        raise LandmarkError(f"landmarks have shape {array.shape}; expected ({points}, 2)")
    if not np.isfinite(array).all():
        raise LandmarkError("landmarks contain NaN or infinity")
    return array


def crop_transform(landmarks: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """Similarity from picture pixels to the canonical crop: eyes level, 64 px apart at size 256, nose below.

    Shape:
        landmarks: (68, 2) pixels, x then y.
        returns:   (2, 3) float64; `crop = M @ [x, y, 1]`.

    Raises:
        LandmarkError: if the points are malformed or fall together.

    Source:
        Least-squares similarity, Umeyama (1991), over the six points of `STABLE`.
    """
    points = check_landmarks(landmarks)[STABLE]
    target = TEMPLATE * (size / CROP_SIZE)
    p, q = points - points.mean(0), target - target.mean(0)
    spread = float((p**2).sum())
    if spread < 1.0:
        raise LandmarkError("landmarks fall together in one point; no face can be aligned")
    a = float((p * q).sum()) / spread
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / spread
    linear = np.array([[a, -b], [b, a]])
    return np.hstack([linear, (target.mean(0) - linear @ points.mean(0))[:, None]])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) affine matrix to points (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]  # type: ignore[no-any-return]


def invert_transform(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) affine matrix, float64."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.hstack([inverse, -(inverse @ matrix[:, 2])[:, None]])


def draw_curves(
    points: np.ndarray, height: int, width: int, curves: tuple[tuple[slice, bool], ...] = CURVES
) -> np.ndarray:
    """Draw landmark curves as one thin anti-aliased line image: the heatmap of the networks.

    Shape:
        points:  (P, 2) pixels of the picture drawn, x then y; parts outside the picture are cut off.
        returns: (height, width) float32 in [0, 1].

    Source:
        Wang et al., MEAD (ECCV 2020), one-channel heatmap; 68 open points instead of 106 proprietary ones.
    """
    canvas: np.ndarray = np.zeros((height, width), np.uint8)
    fixed = np.round(np.clip(points, -4096, 4096) * 16).astype(np.int32)  # 4 fractional bits
    for part, closed in curves:
        cv2.polylines(canvas, [fixed[part].reshape(-1, 1, 2)], closed, 255, 1, cv2.LINE_AA, 4)
    canvas = cv2.GaussianBlur(canvas, (3, 3), 0)
    return canvas.astype(np.float32) / 255.0


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """Mean distance between the inner lips.

    Shape:
        landmarks: (..., 68, 2) or (..., 37, 2).
        returns:   (...,) in the unit of the landmarks.
    """
    offset = 0 if landmarks.shape[-2] == POINTS else POINTS - LOWER_POINTS
    upper = landmarks[..., [i - offset for i in UPPER_LIP_INNER], :]
    lower = landmarks[..., [i - offset for i in LOWER_LIP_INNER], :]
    return np.linalg.norm(upper - lower, axis=-1).mean(-1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Basis:
    """PCA basis of lower-face displacements, in face units (distance of the eye centres in the crop = 1).

    Shape:
        mean:       (74,) float32, usually close to 0.
        components: (K, 74) float32, orthonormal rows, strongest first.
        scale:      (K,) float32, standard deviation of each coefficient in the corpus.
    """

    mean: np.ndarray
    components: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, displacements: np.ndarray, size: int) -> Basis:
        """PCA of displacements (N, 37, 2); `size` components."""
        rows = displacements.reshape(len(displacements), -1).astype(np.float64)
        if len(rows) <= size:
            raise LandmarkError(f"{len(rows)} frames are too few for {size} components")
        mean = rows.mean(0)
        _, singular, components = np.linalg.svd(rows - mean, full_matrices=False)
        scale = singular[:size] / np.sqrt(len(rows) - 1)
        return cls(mean.astype(np.float32), components[:size].astype(np.float32), scale.astype(np.float32))

    def encode(self, displacements: np.ndarray) -> np.ndarray:
        """Displacements (..., 37, 2) -> coefficients (..., K), in units of their standard deviation."""
        rows = displacements.reshape(*displacements.shape[:-2], -1) - self.mean
        return rows @ self.components.T / self.scale  # type: ignore[no-any-return]

    def decode(self, coefficients: np.ndarray) -> np.ndarray:
        """Coefficients (..., K) -> displacements (..., 37, 2)."""
        rows = (coefficients * self.scale) @ self.components + self.mean
        return rows.reshape(*rows.shape[:-1], LOWER_POINTS, 2)  # type: ignore[no-any-return]
