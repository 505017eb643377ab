"""Fit the rig to 68 landmarks: pose, identity, expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from ..landmarks import POINTS, check_landmarks
from .rig import Rig

# Expressions that move landmarks enough to be read off them.
FITTED = (
    "jawOpen", "mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmile_L", "mouthSmile_R", "mouthFrown_L", "mouthFrown_R",
    "mouthStretch_L", "mouthStretch_R", "mouthUpperUp_L", "mouthUpperUp_R", "mouthLowerDown_L", "mouthLowerDown_R",
    "eyeBlink_L", "eyeBlink_R", "eyeWide_L", "eyeWide_R", "browInnerUp_L", "browInnerUp_R", "browDown_L", "browDown_R",
    "browOuterUp_L", "browOuterUp_R", "noseSneer_L", "noseSneer_R",
)  # fmt: skip
OPENING = ("jawOpen", "mouthFunnel", "mouthUpperUp", "mouthLowerDown")  # both sides; not believed of a closed mouth
CLOSED_MOUTH = 0.08  # inner-lip gap over inner mouth width below which a mouth counts as closed
IDENTITY_COST = 0.15  # residual units (px of a 25 cm wide head = 1/25 of its width) per standard deviation
EXPRESSION_COST = 0.8


@dataclass(frozen=True)
class Pose:
    """Weak perspective: picture = scale * (R v).xy, y down, plus offset."""

    rotation: np.ndarray  # (3, 3) float64
    scale: float  # pixels per centimetre
    offset: np.ndarray  # (2,) pixels

    def project(self, vertices: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) -> pixels (V, 2), x then y."""
        turned = vertices @ self.rotation[:2].T.astype(np.float32)
        return turned * np.array([self.scale, -self.scale], np.float32) + self.offset.astype(np.float32)  # type: ignore[no-any-return]

    def depth(self, vertices: np.ndarray) -> np.ndarray:
        """Distance towards the viewer (V,), centimetres."""
        return vertices @ self.rotation[2].astype(np.float32)


@dataclass(frozen=True)
class Fit:
    """A person as the rig sees them."""

    pose: Pose
    who: np.ndarray  # (I,) identity weights
    expression: np.ndarray  # (E,) what the photograph shows
    error: float  # root mean square distance at the inner face, pixels over head width


def close_lips(landmarks: np.ndarray) -> tuple[np.ndarray, bool]:
    """Bring the inner lips of a closed mouth together exactly; tells whether the mouth was closed."""
    points = check_landmarks(landmarks).copy()
    width = np.linalg.norm(points[60] - points[64]) + 1e-6
    closed = bool(np.linalg.norm(points[62] - points[66]) / width < CLOSED_MOUTH)
    if closed:
        for upper, lower in ((61, 67), (62, 66), (63, 65)):
            points[[upper, lower]] = points[[upper, lower]].mean(0)
    return points, closed


def fit_rig(rig: Rig, landmarks: np.ndarray, prior: dict[str, float] | None = None, *, rounds: int = 6) -> Fit:
    """Pose, identity and expression that put the rig's landmarks on the photograph's.

    Pose and shape are solved in turn: the pose in closed form (scaled orthographic, by SVD), the shape as a
    bounded ridge regression. `prior` holds expression weights believed beforehand (blendshape scores).

    Shape:
        landmarks: (68, 2) pixels.
    """
    points, closed = close_lips(landmarks)
    names = list(FITTED)
    if closed:  # a closed mouth must stay closed in the fit, or the lips tear when it opens
        names = [name for name in names if not name.startswith(OPENING)]
    shapes = np.array([rig.names.index(n) for n in names])
    expected = np.array([(prior or {}).get(n, 0.0) for n in names])
    neutral = rig.neutral[rig.landmarks].astype(np.float64)
    expressions = rig.expression[np.ix_(shapes, rig.landmarks)]
    modes = np.concatenate([rig.identity[:, rig.landmarks], expressions]).astype(np.float64)
    count = len(rig.identity)
    weight = np.ones(POINTS)
    weight[:17] = 0.3  # the contour slides over the cheek when the head turns
    weight[36:] = 1.5
    x = np.concatenate([np.zeros(count), expected])
    low = np.concatenate([np.full(count, -2.5), np.zeros(len(names))])
    high = np.concatenate([np.full(count, 2.5), np.full(len(names), 1.3)])
    cost = np.concatenate([np.full(count, IDENTITY_COST), np.full(len(names), EXPRESSION_COST)])
    start = np.concatenate([np.zeros(count), expected])
    for _ in range(rounds):
        vertices = neutral + np.tensordot(x, modes, 1)
        pose = solve_pose(vertices, points, weight)
        unit = pose.scale
        flat = (modes @ pose.rotation[:2].T) * np.array([1.0, -1.0])  # (M, 68, 2) centimetres
        base = (neutral @ pose.rotation[:2].T) * np.array([1.0, -1.0]) + pose.offset / unit
        rows = (flat * weight[None, :, None]).reshape(len(x), -1).T
        target = ((points / unit - base) * weight[:, None]).ravel()
        a = np.vstack([rows, np.diag(cost)])
        b = np.concatenate([target, cost * start])
        x = lsq_linear(a, b, (low, high), max_iter=30, tol=1e-4).x
    expression = np.zeros(len(rig.names), np.float32)
    expression[shapes] = x[count:]
    who = x[:count].astype(np.float32)
    pose = solve_pose(neutral + np.tensordot(x, modes, 1), points, weight)
    placed = pose.project(rig.skin(who, expression)[rig.landmarks])
    error = float(np.sqrt(((placed - points)[17:] ** 2).sum(1).mean()) / (25 * pose.scale))
    return Fit(pose, who, expression, error)


def solve_pose(vertices: np.ndarray, points: np.ndarray, weight: np.ndarray) -> Pose:
    """Scaled orthographic pose of vertices (P, 3) on points (P, 2), y down.

    Source:
        Affine camera by linear least squares, brought to the nearest scaled rotation by SVD (as in Kemelmacher-
        Shlizerman and Basri, PAMI 2011, eq. 14), then Gauss-Newton steps.
    """
    w = (weight / weight.sum())[:, None]
    middle, centre = (vertices * w).sum(0), (points * w).sum(0)
    v, p = vertices - middle, (points - centre) * np.array([1.0, -1.0])
    affine = np.linalg.lstsq(v * np.sqrt(w), p * np.sqrt(w), rcond=None)[0].T  # (2, 3)
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation = np.vstack([rows, np.cross(rows[0], rows[1])])
    scale = float(s.mean())
    for _ in range(8):
        q = v @ rotation.T
        residual = (p - scale * q[:, :2]) * np.sqrt(w)
        # d(q)/d(omega): omega x q; only x and y are seen
        jx = np.stack([np.zeros(len(q)), q[:, 2], -q[:, 1], q[:, 0] / scale], 1) * scale * np.sqrt(w)
        jy = np.stack([-q[:, 2], np.zeros(len(q)), q[:, 0], q[:, 1] / scale], 1) * scale * np.sqrt(w)
        step = np.linalg.lstsq(np.vstack([jx, jy]), np.concatenate([residual[:, 0], residual[:, 1]]), rcond=None)[0]
        rotation = Rotation.from_rotvec(step[:3]).as_matrix() @ rotation
        scale += float(step[3])
    offset = centre - scale * (rotation[:2] @ middle) * np.array([1.0, -1.0])
    return Pose(rotation, scale, offset)
