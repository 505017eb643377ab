"""Find faces and their 68 landmarks in a picture; the only file that knows the detector."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .device import resolve_device
from .errors import ConfigError, FaceError, WeightsError
from .landmarks import (
    CROP_SIZE,
    EYE_LINE,
    FACE_UNIT,
    LEFT_EYE,
    RIGHT_EYE,
    crop_transform,
    invert_transform,
    transform_points,
)
from .weights import is_offline, load_network

if TYPE_CHECKING:
    import torch

SOURCES = ("auto", "shipped", "face-alignment")

# Eye centres, nose tip and mouth corners in the canonical crop: mean of 2,257 aligned photographs, made symmetric.
FIVE_TEMPLATE = np.array(
    [[-0.508, -0.013], [0.508, -0.013], [0.0, 0.538], [-0.446, 1.071], [0.446, 1.071]]
) * FACE_UNIT + (CROP_SIZE / 2, EYE_LINE)

# Point i of a mirrored face is point MIRROR[i] of the face.
MIRROR = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),  # jaw, brows, nose
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
        *(*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65),  # lips
    ]
)

# The part of the canonical crop that the landmark network sees: brows to chin of an open mouth, ear to ear.
WINDOW_CENTRE = np.array([128.0, 150.0])
WINDOW_SIDE = 222.6

# The finder knows faces of about 13 to 70 pixels; these long sides of the picture, in pixels, bring every face there.
USUAL_SIDES = (320, 160, 80, 48)
SECOND_SIDES = ((640, 226, 113, 64), (1280,))  # looked at only when the sides before show no face
MARGIN = 8  # pixels of repeated border around each scaled picture
FINDER_THRESHOLD = 0.3
FACE_THRESHOLD = 0.65  # of both networks together
TRACK_THRESHOLD = 0.3  # a face already followed may turn or be covered for a moment
MOST_CANDIDATES = 32
SMALLEST = 12.0  # pixels between the eyes; below it the lips are a smear


@dataclass(frozen=True)
class Face:
    """One face in a picture.

    Shape:
        landmarks: (68, 2) float64 pixels of the picture, x then y.
        box:       x0, y0, x1, y1 in pixels: chin to forehead, ear to ear; may reach past the picture.
        score:     0 to 1, how sure the networks are that this is a face.
    """

    landmarks: np.ndarray
    box: tuple[float, float, float, float]
    score: float

    @property
    def size(self) -> float:
        """Pixels between the eye centres."""
        return eye_distance(self.landmarks)


def eye_distance(landmarks: np.ndarray) -> float:
    """Pixels between the eye centres."""
    return float(np.linalg.norm(landmarks[LEFT_EYE].mean(0) - landmarks[RIGHT_EYE].mean(0)))


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Eye centres, nose tip, mouth corners of landmarks (..., 68, 2): (..., 5, 2)."""
    eyes = landmarks[..., LEFT_EYE, :].mean(-2), landmarks[..., RIGHT_EYE, :].mean(-2)
    return np.stack([*eyes, landmarks[..., 30, :], landmarks[..., 48, :], landmarks[..., 54, :]], -2)


def mirror_points(points: np.ndarray, width: int) -> np.ndarray:
    """Landmarks (..., 68, 2) of a face in the mirrored picture, `width` pixels wide."""
    return (width - 1, 0) + points[..., MIRROR, :] * (-1, 1)


def window_transform(matrix: np.ndarray, size: int) -> np.ndarray:
    """Continue a transform into the canonical crop to the landmark network's crop of `size` pixels."""
    zoom = size / WINDOW_SIDE
    result = matrix * zoom
    result[:, 2] += (size - 1) / 2 - WINDOW_CENTRE * zoom
    return result


def coarse_transform(five: np.ndarray, size: int) -> np.ndarray:
    """Similarity from picture pixels to the landmark network's crop, by the finder's five points.

    Source:
        Least-squares similarity, Umeyama (1991).
    """
    p, q = five - five.mean(0), FIVE_TEMPLATE - FIVE_TEMPLATE.mean(0)
    spread = max(float((p**2).sum()), 1e-6)
    a = float((p * q).sum()) / spread
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / spread
    linear = np.array([[a, -b], [b, a]])
    return window_transform(np.hstack([linear, (FIVE_TEMPLATE.mean(0) - linear @ five.mean(0))[:, None]]), size)


def fine_transform(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Similarity from picture pixels to the landmark network's crop, by known landmarks."""
    return window_transform(crop_transform(landmarks), size)


def cut(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Sample a crop of a picture, without aliasing when the picture is much larger.

    Shape:
        image: (H, W, 3) uint8; matrix: (2, 3), `crop = matrix @ [x, y, 1]`. returns: (size, size, 3) uint8.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.7:
        edge = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float64)
        corners = transform_points(invert_transform(matrix), edge)
        height, width = image.shape[:2]
        reach = 2 / scale
        x0, y0 = np.clip(np.floor(corners.min(0) - reach), 0, (width - 1, height - 1)).astype(int)
        x1, y1 = np.clip(np.ceil(corners.max(0) + reach), (x0 + 1, y0 + 1), (width, height)).astype(int)
        part = image[y0:y1, x0:x1]
        small = max(1, round((x1 - x0) * scale * 1.25)), max(1, round((y1 - y0) * scale * 1.25))
        image = cv2.resize(part, small, interpolation=cv2.INTER_AREA)
        factor = np.array([(x1 - x0) / small[0], (y1 - y0) / small[1]])
        matrix = np.hstack(
            [matrix[:, :2] * factor, (matrix[:, 2] + matrix[:, :2] @ (0.5 * factor - 0.5 + (x0, y0)))[:, None]]
        )
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def bounding_box(landmarks: np.ndarray) -> tuple[float, float, float, float]:
    """Box of the whole face: the landmarks' own box, with the forehead added above the brows."""
    low, high = landmarks.min(0), landmarks.max(0)
    up = landmarks[27] - landmarks[8]
    top = min(low[1], (landmarks[27] + 0.45 * up)[1])
    return float(low[0]), float(top), float(high[0]), float(high[1])


class FaceFinder:
    """Finds faces and their landmarks.

    Args:
        landmarks: "shipped" uses this package's own networks; "face-alignment" asks that package for the landmarks;
            "auto" does so only if it is installed and its weights are already on this machine.
        weights: None for the shipped ones, a folder, a file or a published name.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        offline: never touch the network.

    Raises:
        ConfigError: if `landmarks` is unknown, or face-alignment is asked for and not installed.
        WeightsError: if weights are missing.
    """

    def __init__(
        self,
        landmarks: str = "auto",
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        offline: bool = False,
    ) -> None:
        if landmarks not in SOURCES:
            raise ConfigError(f"unknown landmarks {landmarks!r} (known: {', '.join(SOURCES)})")
        self.device = resolve_device(device)
        self._finder = load_network("facefinder", weights, offline=offline, device=self.device)
        self._net = load_network("landmarks", weights, offline=offline, device=self.device)
        self._size = int(self._net.config.size)  # type: ignore[arg-type]
        self._other = None
        if landmarks == "face-alignment" or (landmarks == "auto" and FaceAlignment.ready()):
            self._other = FaceAlignment(self.device, offline=offline)

    def find(self, image: np.ndarray) -> list[Face]:
        """All faces of a picture, largest first; an empty list if there is none.

        Shape:
            image: (H, W, 3) uint8 RGB.
        """
        image = check_picture(image)
        faces: list[Face] = []
        for sides in (USUAL_SIDES, *SECOND_SIDES):
            faces = self._confirm(image, self._candidates(image, sides))
            if faces:
                break
        if self._other is not None:
            faces = [self._other.refine(image, face) for face in faces]
        return sorted(faces, key=lambda face: -face.size)

    def one(self, image: np.ndarray, index: int = 1, name: str = "the picture") -> Face:
        """Face number `index` of a picture, counted from 1, largest first.

        Args:
            image: (H, W, 3) uint8 RGB.
            index: 1 is the largest face.
            name: of the picture, for the message.

        Raises:
            FaceError: if there is no such face, or it is too small.
        """
        faces = self.find(image)
        height, width = image.shape[:2]
        if not faces:
            raise FaceError(f"no face found in {name} ({width}x{height}); try a frontal photograph")
        if not 1 <= index <= len(faces):
            count = "1 face" if len(faces) == 1 else f"{len(faces)} faces"
            raise FaceError(f"{name} shows {count}; --face {index} does not exist")
        face = faces[index - 1]
        if face.size < SMALLEST:
            raise FaceError(
                f"the face in {name} is too small ({face.size:.0f} pixels between the eyes, at least {SMALLEST:.0f} "
                "are needed); try a larger photograph"
            )
        return face

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[Face | None]:
        """The largest face of each frame, followed from frame to frame; None where there is none.

        Following costs one small network per frame; the whole picture is searched only when the face is lost.
        """
        last: Face | None = None
        for frame in frames:
            face = None
            if last is not None:
                found = self._fit(check_picture(frame), [fine_transform(last.landmarks, self._size)])[0]
                jump = np.linalg.norm(found.landmarks.mean(0) - last.landmarks.mean(0))
                if found.score > TRACK_THRESHOLD and jump < last.size and 0.7 < found.size / last.size < 1.4:
                    face = found if self._other is None else self._other.refine(frame, found)
            if face is None:
                face = next(iter(self.find(frame)), None)
            last = face
            yield face

    def _candidates(self, image: np.ndarray, sides: Sequence[int]) -> list[tuple[float, np.ndarray]]:
        """Scores and five points of possible faces, best first, one for each place."""
        import torch

        height, width = image.shape[:2]
        found: list[tuple[float, np.ndarray]] = []
        small = image
        longest = max(height, width)
        usable = sorted((min(side, longest) for side in sides), reverse=True)
        for side in dict.fromkeys(usable):
            size = max(1, round(width * side / longest)), max(1, round(height * side / longest))
            if size != (small.shape[1], small.shape[0]):
                small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
            right, bottom = (-(n + 2 * MARGIN) % 16 + MARGIN for n in size)
            padded = cv2.copyMakeBorder(small, MARGIN, bottom, MARGIN, right, cv2.BORDER_REPLICATE)
            with torch.inference_mode():
                output = self._finder(to_tensor([padded], self.device))
                score = output.score.sigmoid()
                peak = torch.nn.functional.max_pool2d(score[:, None], 3, 1, 1)[:, 0]
                hits = (score == peak) & (score > FINDER_THRESHOLD)
                scores, points = score[hits].cpu().numpy(), output.points[hits].cpu().double().numpy()
            scale = np.array([width / size[0], height / size[1]])
            for value, five in zip(scores.tolist(), points, strict=True):
                found.append((value, (five - MARGIN + 0.5) * scale - 0.5))
        found.sort(key=lambda item: -item[0])
        kept: list[tuple[float, np.ndarray]] = []
        for value, five in found:
            if np.linalg.norm(five[1] - five[0]) > 1 and not any(same_place(five, other) for _, other in kept):
                kept.append((value, five))
        return kept[:MOST_CANDIDATES]

    def _confirm(self, image: np.ndarray, candidates: list[tuple[float, np.ndarray]]) -> list[Face]:
        """Landmarks of the candidates that the landmark network also takes for faces, one for each place."""
        if not candidates:
            return []
        first = self._fit(image, [coarse_transform(five, self._size) for _, five in candidates])
        kept = [
            (value, face)
            for (value, _), face in zip(candidates, first, strict=True)
            if joint_score(value, face.score) > FACE_THRESHOLD / 2 and face.size > 2
        ]
        if not kept:
            return []
        second = self._fit(image, [fine_transform(face.landmarks, self._size) for _, face in kept], mirrored=True)
        scored = [
            replace(face, score=joint_score(value, face.score)) for (value, _), face in zip(kept, second, strict=True)
        ]
        faces: list[Face] = []
        # Of two faces in one place the larger is the likelier: a nose and a mouth alone can look like a small face.
        for face in sorted(scored, key=lambda face: -face.score * face.size**0.15):
            if face.score > FACE_THRESHOLD and all(overlap(face.box, other.box) < 0.3 for other in faces):
                faces.append(face)
        return faces

    def _fit(self, image: np.ndarray, matrices: list[np.ndarray], mirrored: bool = False) -> list[Face]:
        """One pass of the landmark network over crops; `mirrored` averages it with the pass over the mirrored crops."""
        import torch

        crops = [cut(image, matrix, self._size) for matrix in matrices]
        if mirrored:
            crops += [np.ascontiguousarray(crop[:, ::-1]) for crop in crops]
        with torch.inference_mode():
            output = self._net(to_tensor(crops, self.device))
            points, scores = output.points.cpu().double().numpy(), output.face.sigmoid().cpu().numpy()
        if mirrored:
            count = len(matrices)
            points = (points[:count] + mirror_points(points[count:], self._size)) / 2
            scores = (scores[:count] + scores[count:]) / 2
        faces = []
        for matrix, shape, score in zip(matrices, points, scores.tolist(), strict=True):
            landmarks = transform_points(invert_transform(matrix), shape)
            faces.append(Face(landmarks, bounding_box(landmarks), score))
        return faces


class FaceAlignment:
    """Landmarks by the package face-alignment (Bulat and Tzimiropoulos, ICCV 2017), on faces that we found.

    Its jaw follows the visible edge of the face; ours follows a turning head a little behind it.
    """

    WEIGHTS = "2DFAN4-11f355bf06.pth.tar"  # the name in its registry, face_alignment/api.py of 1.5.0

    def __init__(self, device: torch.device, *, offline: bool = False) -> None:
        if importlib.util.find_spec("face_alignment") is None:
            raise ConfigError(
                "face-alignment is not installed; pip install 'emotalk[landmarks]', or --landmarks shipped"
            )
        if is_offline(offline) and not self.cached():
            raise WeightsError(
                f"the weights of face-alignment ({self.WEIGHTS}) are not on this machine and downloads are off; "
                "run once without --offline, or use --landmarks shipped"
            )
        import face_alignment

        try:
            # "folder" is its detector without a network: we hand in the boxes. compile would cost 25 s the first time.
            self._net: Any = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D,
                device=str(device),
                flip_input=False,
                face_detector="folder",
                compile=False,
            )
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"face-alignment cannot load its weights: {reason}; use --landmarks shipped") from error

    @classmethod
    def cached(cls) -> bool:
        """Whether its weights lie where it looks for them."""
        import torch

        return (Path(torch.hub.get_dir()) / "checkpoints" / cls.WEIGHTS).is_file()

    @classmethod
    def ready(cls) -> bool:
        """Whether it is installed and can start without a download."""
        return importlib.util.find_spec("face_alignment") is not None and cls.cached()

    def refine(self, image: np.ndarray, face: Face) -> Face:
        """The same face with its landmarks; unchanged if it gives none."""
        found = self._net.get_landmarks_from_image(image, detected_faces=[np.array([*face.box, face.score])])
        if not found:
            return face
        landmarks = np.asarray(found[0], np.float64)[:, :2]
        return Face(landmarks, bounding_box(landmarks), face.score)


def check_picture(image: np.ndarray) -> np.ndarray:
    """Refuse anything but uint8 RGB.

    Raises:
        FaceError: naming what was given.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise FaceError(
            f"a picture of shape {image.shape} and type {image.dtype} cannot be searched; expected uint8 RGB"
        )
    return image


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two sets of five points are one face seen twice: close together and of about one size."""
    sizes = float(np.linalg.norm(a[1] - a[0])), float(np.linalg.norm(b[1] - b[0]))
    away = float(np.linalg.norm(a.mean(0) - b.mean(0)))
    return away < 0.6 * min(sizes) and max(sizes) < 1.6 * min(sizes)


def joint_score(finder: float, net: float) -> float:
    """What both networks think together: the geometric mean of their probabilities."""
    return math.sqrt(finder * net)


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Area common to two boxes, as a part of the smaller one."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(0.0, width) * max(0.0, height) / max(smaller, 1e-6)


def to_tensor(pictures: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """uint8 pictures (H, W, 3) of one size -> (B, 3, H, W) float32 in [-1, 1], channels last."""
    import torch

    batch = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
    return batch.float().div_(127.5).sub_(1.0)
