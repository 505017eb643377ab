"""Carry out an edit on a photograph at the photograph's own resolution: what is upsampled is the motion, not the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .landmarks import (
    CROP_SIZE,
    LOWER_WINDOW,
    MOUTH_INNER,
    MOUTH_OUTER,
    check_landmarks,
    draw_curves,
    invert_transform,
    transform_points,
)

MAX_SUPERSAMPLING = 16  # crops of faces more than 16 times the size of the crop begin to alias
MASK_FLOOR = 0.02  # a sigmoid never reaches 0: masks below this paint nothing, so skin stays the photograph's own
CARRY_STEPS = 30
LIP_ANCHOR = 0.25  # share of the lip's thickness that an inner lip point moves into the lip before it is carried
LIP_SEARCH = (8.0, 20.0, 40.0)  # canonical crop pixels outwards at which the search for a lip point begins, too
OUTER_OF_INNER = np.array([0, 2, 3, 4, 6, 8, 9, 10])  # within the outer lip: the point beside each inner one


@dataclass(frozen=True, slots=True)
class NumpyEdit:
    """One `nets.edit.Edit` as arrays, channels last, ready for OpenCV.

    Shape:
        motion: (H, W, 4) float32: flow x, flow y in pixels of this grid, gain - 1, mask in [0, 1].
        colour: (H, W, 3) float32 in [0, 255], what is painted where the mask is.
    """

    motion: np.ndarray
    colour: np.ndarray


def numpy_edits(flow: np.ndarray, gain: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> list[NumpyEdit]:
    """A batch of network output as one `NumpyEdit` per picture.

    Shape:
        flow (B, 2, H, W), gain (B, 1, H, W), mask (B, 1, H, W), colour (B, 3, H, W) in [-1, 1].
    """
    mask = np.maximum(mask - MASK_FLOOR, 0.0) / (1.0 - MASK_FLOOR)
    motion = np.concatenate([flow, gain - 1.0, mask], axis=1).transpose(0, 2, 3, 1).astype(np.float32)
    paint = ((colour + 1.0) * 127.5).transpose(0, 2, 3, 1).astype(np.float32)
    return [
        NumpyEdit(np.ascontiguousarray(m), np.ascontiguousarray(p)) for m, p in zip(motion, paint, strict=True)
    ]  # (H, W, 4), (H, W, 3)


def grid_transform(crop: np.ndarray, size: int, window: tuple[int, int, int] = (0, 0, CROP_SIZE)) -> np.ndarray:
    """From picture pixels to the pixels of a network grid that covers a window of the canonical crop.

    Args:
        crop: picture pixels -> 256 px canonical crop, as `landmarks.crop_transform` gives it.
        size: side of the grid.
        window: left, top, side in the canonical crop.

    Shape:
        returns: (2, 3) float64.
    """
    left, top, side = window
    moved = crop.copy()
    moved[:, 2] -= (left, top)
    return moved * (size / side)  # type: ignore[no-any-return]


def sample_grid(picture: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """Resample a picture onto a square grid without aliasing; outside the picture its border is repeated.

    Where the picture is finer than the grid, a grid that is k times finer is sampled and averaged in k x k blocks.

    Shape:
        picture:   (H, W, 3) uint8.
        transform: (2, 3), picture pixels -> grid pixels.
        returns:   (size, size, 3) uint8.
    """
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    k = int(np.clip(np.ceil(1.0 / scale - 0.25), 1, MAX_SUPERSAMPLING))
    fine = transform * k
    fine[:, 2] += (k - 1) / 2  # centre of a k x k block
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    sampled = cv2.warpAffine(
        picture, fine, (size * k, size * k), flags=interpolation, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled if k == 1 else cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)


def feather(size: int, margins: tuple[float, float, float, float]) -> np.ndarray:
    """Weight of an edit on its grid: 0 on the border, 1 inside, smooth in between.

    The two outermost pixels are 0, so that cubic interpolation carries nothing beyond the grid.

    Args:
        margins: how many grid pixels the weight takes to rise, from the left, top, right and bottom border.

    Shape:
        returns: (size, size) float32.
    """
    left, top, right, bottom = margins
    there = np.arange(size, dtype=np.float64) - 1
    across = np.clip(np.minimum(there / left, (size - 3 - there) / right), 0.0, 1.0)
    along = np.clip(np.minimum(there / top, (size - 3 - there) / bottom), 0.0, 1.0)
    across, along = (ramp * ramp * (3.0 - 2.0 * ramp) for ramp in (across, along))
    return np.outer(along, across).astype(np.float32)


class Region:
    """Where a network grid lies on photographs of one size, and how an edit on that grid is carried out there.

    Everything that does not depend on the edit is computed once: the bounding box of the grid on the photograph
    and the feather that makes the edit vanish at the border of the grid.

    Args:
        height, width: size of the photograph.
        transform: (2, 3), photograph pixels -> grid pixels.
        size: side of the grid.
        margins: of the feather, see `feather`.
    """

    def __init__(
        self, height: int, width: int, transform: np.ndarray, size: int, margins: tuple[float, float, float, float]
    ) -> None:
        self.transform = transform
        self.size = size
        corners = np.array([[0.0, 0.0], [size - 1, 0.0], [0.0, size - 1], [size - 1, size - 1]])
        spanned = transform_points(invert_transform(transform), corners)
        low = np.maximum(np.floor(spanned.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(spanned.max(0)).astype(int) + 1, (width, height))
        high = np.maximum(high, low)
        self.rows = slice(int(low[1]), int(high[1]))
        self.columns = slice(int(low[0]), int(high[0]))
        self.weight = feather(size, margins)
        self._low = low.astype(np.float64)
        self._to_photograph = np.linalg.inv(transform[:, :2]).astype(np.float32)  # turns grid motion into photo motion
        self._scale = 1.0 / float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))  # photograph pixels per grid pixel
        self._x = np.arange(low[0], high[0], dtype=np.float32)
        self._y = np.arange(low[1], high[1], dtype=np.float32)[:, None]

    @property
    def empty(self) -> bool:
        """Whether the grid lies outside the photograph."""
        return self.rows.start >= self.rows.stop or self.columns.start >= self.columns.stop

    def feathered(self, edit: NumpyEdit) -> np.ndarray:
        """The edit's motion, (size, size, 4), faded out towards the border of the grid."""
        return edit.motion * self.weight[:, :, None]

    def apply(self, photograph: np.ndarray, edit: NumpyEdit, interpolation: int = cv2.INTER_CUBIC) -> np.ndarray:
        """The photograph's pixels inside `rows` and `columns`, edited.

        Shape:
            photograph: (H, W, 3) uint8.
            returns:    (rows, columns, 3) uint8; pixels that the edit does not touch are the photograph's own.
        """
        motion = self.feathered(edit)
        used = np.abs(motion).max(2) > 1e-3  # most of the grid is at rest: work on what moves
        if self.empty or not used.any():
            return photograph[self.rows, self.columns].copy()
        out = photograph[self.rows, self.columns].copy()
        rows, columns = self._part(used)
        out[rows, columns] = self._edit_part(photograph, motion, edit.colour, rows, columns, interpolation)
        return out

    def _part(self, used: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns, counted from the region's own corner, that hold every used grid pixel."""
        ys, xs = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
        x0, x1, y0, y1 = xs[0] - 2, xs[-1] + 2, ys[0] - 2, ys[-1] + 2
        corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], np.float64)
        spanned = transform_points(invert_transform(self.transform), corners) - self._low
        limit = (len(self._x), len(self._y))
        low = np.clip(np.floor(spanned.min(0)).astype(int), 0, limit)
        high = np.clip(np.ceil(spanned.max(0)).astype(int) + 1, low, limit)
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    def _edit_part(
        self,
        photograph: np.ndarray,
        motion: np.ndarray,
        colour: np.ndarray,
        rows: slice,
        columns: slice,
        interpolation: int,
    ) -> np.ndarray:
        fine = self._onto_photograph(motion, rows, columns)
        sources = np.empty((*fine.shape[:2], 2), np.float32)
        to_x, to_y = self._to_photograph
        np.add(self._x[columns], to_x[0] * fine[:, :, 0] + to_x[1] * fine[:, :, 1], out=sources[:, :, 0])
        np.add(self._y[rows], to_y[0] * fine[:, :, 0] + to_y[1] * fine[:, :, 1], out=sources[:, :, 1])
        moved = cv2.remap(photograph, sources, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
        mask = np.clip(fine[:, :, 3], 0.0, 1.0)
        share = (1.0 - mask) * (1.0 + fine[:, :, 2])
        out = moved * share[:, :, None]
        if mask.any():
            out += self._onto_photograph(colour, rows, columns) * mask[:, :, None]
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)

    def _onto_photograph(self, planes: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Upsample grid planes (size, size, C) to a part of the region; 0 outside the grid."""
        matrix = self.transform.copy()
        matrix[:, 2] += matrix[:, :2] @ (self._low + (columns.start, rows.start))
        interpolation = cv2.INTER_CUBIC if self._scale > 1.5 else cv2.INTER_LINEAR
        return cv2.warpAffine(
            planes,
            matrix,
            (columns.stop - columns.start, rows.stop - rows.start),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )


def carry_points(
    points: np.ndarray, motion: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where landmarks of the input lie in the output of an edit: y with y + flow(y) = x, to sub-pixel precision.

    Shape:
        points:  (P, 2) grid pixels of the input.
        motion:  (H, W, >=2), flow x and y first.
        start:   (P, 2), where to begin looking; `points` if None.
        returns: (P, 2) grid pixels of the output, and (P,) how far y + flow(y) is from x.
    """
    flow = np.ascontiguousarray(motion[:, :, :2])
    found = (points if start is None else start).astype(np.float64)
    best, error = found.copy(), np.full(len(points), np.inf)
    for step in range(CARRY_STEPS):
        there = found.astype(np.float32).reshape(-1, 1, 2)
        moved = cv2.remap(flow, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
        residual = points - (found + moved)
        distance = np.linalg.norm(residual, axis=1)
        better = distance < error
        best[better], error[better] = found[better], distance[better]
        found = found + residual * (1.0 if step < CARRY_STEPS // 2 else 0.5)  # damped where folds make it swing
    return best, error


def carry_face(landmarks: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Carry all 68 landmarks of a face through an edit.

    Between opening lips the flow means nothing (there the mouth's inside is painted), and the inner lip points lie
    exactly at its edge. So mouth points are moved a little into their own lip, carried, and moved back; the search
    also begins farther out on their own side, and of several answers the outermost is the lip.

    Shape:
        landmarks: (68, 2) grid pixels. motion: (H, W, >=2). returns: (68, 2).
    """
    points = check_landmarks(landmarks)
    outer, inner = points[MOUTH_OUTER], points[MOUTH_INNER]
    partner = outer[OUTER_OF_INNER]
    into = np.zeros_like(points)
    into[MOUTH_INNER] = (partner - inner) * LIP_ANCHOR
    outwards = np.zeros_like(points)
    outwards[MOUTH_OUTER] = outer - outer.mean(0)
    outwards[MOUTH_INNER] = partner - inner
    outwards /= np.maximum(np.linalg.norm(outwards, axis=1, keepdims=True), 1e-6)
    anchored = points + into
    best, error = carry_points(anchored, motion)
    for distance in LIP_SEARCH:
        found, wrong = carry_points(anchored, motion, anchored + outwards * (distance * len(motion) / CROP_SIZE))
        farther = ((found - best) * outwards).sum(1) > 0
        better = np.where(wrong < 0.1, farther | (error > 0.1), wrong < error)
        best[better], error[better] = found[better], wrong[better]
    return best - into  # type: ignore[no-any-return]


def draw_window(
    points: np.ndarray, size: int, curves: tuple[tuple[slice, bool], ...], window: tuple[int, int, int] = LOWER_WINDOW
) -> np.ndarray:
    """Landmark lines as a network sees them: canonical crop points drawn on the grid of a window.

    Shape:
        points: (P, 2) canonical crop pixels. returns: (size, size) float32 in [0, 1].
    """
    left, top, side = window
    return draw_curves((points - (left, top)) * (size / side), size, size, curves)


def stack_lines(
    frames: Sequence[np.ndarray], size: int, curves: tuple[tuple[slice, bool], ...], window: tuple[int, int, int]
) -> np.ndarray:
    """`draw_window` for many frames: (B, 1, size, size) float32."""
    return np.stack([draw_window(points, size, curves, window) for points in frames])[:, None]
