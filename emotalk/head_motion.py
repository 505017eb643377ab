"""Move the head of a photograph by a few degrees and pixels: hair and neck go along, the background stays put."""

from __future__ import annotations

import cv2
import numpy as np

from .landmarks import FACE_UNIT, invert_transform, transform_points
from .life import POSE, POSE_LIMITS

# Canonical crop pixels unless said otherwise. The head is an ellipse around face and hair; eyes lie at half its height.
HEAD_WIDTH = 1.22  # of the jaw line: ears and hair
HEAD_TOP = 1.12  # of the distance from eyes to chin, above the eyes
HEAD_ROUND = 1.06  # chin and crown lie a little inside
FADE = 0.95  # radii of the head over which the motion fades to nothing
BORDER = 48.0  # over which it fades towards the border of the picture
NECK = 34.0  # below the chin: the head tilts about this point
DEPTH = 0.55  # of the head's width: how far the middle of the face lies before the axis it turns about
NOSE_DEPTH, NOSE_WIDTH = 11.0, 22.0  # how far and how widely the nose stands out
CELL = 4.0  # spacing of the grid that the motion is computed on; it is smooth, so a picture of any size needs no more
MOST_STRETCH = 0.16  # by one part of the strongest pose: all six together never fold; narrow pictures move less
STRIP_PIXELS = 1 << 18
STILL = 1 / 64  # picture pixels: less motion changes no pixel


class HeadMotion:
    """How one photograph's head can move.

    Args:
        height, width: of the photograph.
        crop: (2, 3), its pixels -> canonical crop.
        points: (68, 2) landmarks in that crop.

    Attributes:
        room: (6,) how much of each part of a pose the photograph allows without visible stretching, in (0, 1].
        rows, columns: the part of the photograph that moves.
    """

    def __init__(self, height: int, width: int, crop: np.ndarray, points: np.ndarray) -> None:
        centre, radii = head_ellipse(points)
        reach = radii * (1 + FADE)
        corners = centre + np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * reach
        spanned = transform_points(invert_transform(crop), corners)
        low = np.clip(np.floor(spanned.min(0)).astype(int), 0, (width - 1, height - 1))
        high = np.clip(np.ceil(spanned.max(0)).astype(int) + 1, low + 1, (width, height))
        self.columns, self.rows = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
        zoom = float(np.sqrt(abs(np.linalg.det(crop[:, :2]))))  # canonical crop pixels per picture pixel
        size = high - low
        grid = np.maximum(np.ceil(size * zoom / CELL).astype(int), 2)
        x, y = ((np.arange(n) + 0.5) * (s / n) - 0.5 + start for n, s, start in zip(grid, size, low, strict=True))
        place = np.stack(np.meshgrid(x, y), axis=-1)  # (h, w, 2) picture pixels
        edge = np.minimum(place, (width - 1, height - 1) - place).min(-1) * zoom
        fields = pose_fields(transform_points(crop, place), points) * ease(edge / BORDER)[..., None]
        spacing = size / grid
        slopes = np.abs(np.stack(np.gradient(fields, axis=(1, 2)), -1)) / (spacing[::-1] * zoom)
        stretch = slopes.max((1, 2, 3, 4)) * POSE_LIMITS
        self.room = np.minimum(1.0, MOST_STRETCH / np.maximum(stretch, 1e-9))
        to_picture = np.linalg.inv(crop[:, :2])
        self._fields = (fields @ to_picture.T).astype(np.float32)  # (6, h, w, 2)
        self._cells = 1 / spacing
        self._x = np.arange(size[0], dtype=np.float32)
        self._y = np.arange(size[1], dtype=np.float32)[:, None]

    def move(self, part: np.ndarray, pose: np.ndarray) -> None:
        """Move the head of a frame, in place.

        Shape:
            part: (rows, columns, 3) uint8, that part of the frame; pose: (6,), see `life.POSE`.
        """
        shift = np.tensordot(np.asarray(pose, np.float32), self._fields, 1)  # (h, w, 2)
        if np.abs(shift).max() < STILL:
            return
        before = part.copy()
        across, down = self._cells
        width = self._x.size
        height = max(1, STRIP_PIXELS // width)
        for top in range(0, len(part), height):  # in strips: large heads need no more memory than small ones
            bottom = min(top + height, len(part))
            matrix = np.array([[across, 0, (across - 1) / 2], [0, down, (top + 0.5) * down - 0.5]])
            fine = cv2.warpAffine(
                shift,
                matrix,
                (width, bottom - top),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            x, y = self._x - fine[..., 0], self._y[top:bottom] - fine[..., 1]
            part[top:bottom] = cv2.remap(before, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def head_ellipse(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (2,) and radii (2,) of a head in the canonical crop, from its landmarks (68, 2)."""
    eyes = points[36:48, 1].mean()
    chin = points[8, 1]
    top = eyes - HEAD_TOP * (chin - eyes)
    across = points[16, 0] - points[0, 0]
    centre = np.array([(points[0, 0] + points[16, 0]) / 2, (top + chin) / 2])
    return centre, np.array([across / 2 * HEAD_WIDTH, (chin - top) / 2 * HEAD_ROUND])


def pose_fields(place: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where the parts of the picture go when one number of the pose is 1.

    Shape:
        place: (h, w, 2) canonical crop pixels; points: (68, 2).
        returns: (6, h, w, 2) canonical crop pixels, in the order of `life.POSE`.
    """
    centre, radii = head_ellipse(points)
    outward = (place - centre) / radii
    radius = np.hypot(outward[..., 0], outward[..., 1])
    weight = ease((1 + FADE - radius) / FADE)[..., None]
    nose = np.exp(-((place - points[30]) ** 2).sum(-1) / (2 * NOSE_WIDTH**2))
    depth = radii[0] * DEPTH * np.maximum(1 - radius**2, 0) ** 1.5 + NOSE_DEPTH * nose * (radius < 1)
    depth = depth[..., None] * np.deg2rad(1.0)  # canonical crop pixels per degree
    from_neck = place - (centre[0], points[8, 1] + NECK)
    turned = np.stack([-from_neck[..., 1], from_neck[..., 0]], -1) * np.deg2rad(1.0)
    fields = {
        "yaw": depth * (1.0, 0.0),
        "pitch": depth * (0.0, 1.0),
        "roll": turned * weight,
        "right": weight * (FACE_UNIT, 0.0),
        "down": weight * (0.0, FACE_UNIT),
        "nearer": (place - centre) * weight,
    }
    return np.stack([fields[name] for name in POSE])


def ease(share: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth in between."""
    held = np.clip(share, 0.0, 1.0)
    return held * held * (3.0 - 2.0 * held)
