"""Carry out an edit on a photograph at the photograph's own resolution: motion is upsampled, never the picture."""

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

AT_REST = 1e-3  # grid pixels of flow, share of gain and mask: nothing smaller can be seen
MASK_FLOOR = 0.02  # a sigmoid never reaches 0: masks below this paint nothing, so skin stays the photograph's own
MAX_UPSAMPLING = 8
STRIP_PIXELS = 1 << 18
CARRY_STEPS = 30
LIP_ANCHOR = 0.45  # share of the thickness of its lip that an inner lip point moves into the lip before it is carried
LIP_SEARCH = (8.0, 20.0, 40.0)  # canonical crop pixels outwards at which the search for a lip point begins, too
OUTER_OF_INNER = np.array([0, 2, 3, 4, 6, 8, 9, 10])  # within the outer lip: the point beside each inner one


@dataclass(frozen=True, slots=True)
class NumpyEdit:
    """One `nets.edit.Edit` as arrays, channels last, ready for OpenCV.

    Shape:
        motion: (H, W, 4) float32: flow x, flow y in pixels of this grid, gain - 1, mask in [0, 1].
        colour: (H, W, 3) uint8, what is painted where the mask is.
    """

    motion: np.ndarray
    colour: np.ndarray


def numpy_edits(flow: np.ndarray, gain: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> list[NumpyEdit]:
    """A batch of network output as one `NumpyEdit` per picture.

    Shape:
        flow (B, 2, H, W), gain (B, 1, H, W), mask (B, 1, H, W), colour (B, 3, H, W) in [-1, 1].
    """
    batch, _, height, width = flow.shape
    motion = np.empty((batch, height, width, 4), np.float32)
    motion[..., :2] = flow.transpose(0, 2, 3, 1)
    np.subtract(gain[:, 0], 1.0, out=motion[..., 2])
    motion[..., 3] = np.maximum(mask[:, 0] - MASK_FLOOR, 0.0) * (1.0 / (1.0 - MASK_FLOOR))
    paint = (colour.transpose(0, 2, 3, 1) * 127.5 + 128.0).clip(0, 255).astype(np.uint8)  # (B, H, W, 3), rounded
    return [NumpyEdit(*parts) for parts in zip(motion, paint, strict=True)]


def mix_edits(edits: Sequence[NumpyEdit], shares: Sequence[float | np.ndarray]) -> NumpyEdit:
    """An edit between others: motion, shading and masks are averaged, and colours as far as they are painted.

    Args:
        edits: at least one, of one size.
        shares: of each, a number or (H, W); they sum to 1. The only edit, or one of share 1, comes back as it is.
    """
    used = [(edit, np.float32(share)) for edit, share in zip(edits, shares, strict=True) if np.any(share)]
    if len(used) == 1 and np.all(used[0][1] == 1):
        return used[0][0]
    motion = np.zeros_like(edits[0].motion)
    paint, painted = np.zeros(edits[0].colour.shape, np.float32), np.zeros(motion.shape[:2], np.float32)
    for edit, share in used:
        motion += edit.motion * (share[..., None] if share.ndim else share)
        mask = edit.motion[..., 3] * share
        painted += mask
        paint += edit.colour * mask[..., None]
    colour = np.divide(paint, painted[..., None], out=paint, where=painted[..., None] > 0)
    return NumpyEdit(motion, np.rint(colour).astype(np.uint8))


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
    return moved * (size / side)


def feather(size: int, margins: Sequence[float]) -> np.ndarray:
    """Weight of an edit on its grid: 0 on the border, 1 inside, smooth in between.

    The two outermost pixels are 0, so that cubic interpolation carries nothing beyond the grid.

    Args:
        margins: four, how many grid pixels the weight takes to rise, from the left, top, right and bottom border.

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

    def __init__(self, height: int, width: int, transform: np.ndarray, size: int, margins: Sequence[float]) -> None:
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
        scale = 1.0 / float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))  # photograph pixels per grid pixel
        self._density = int(np.clip(np.ceil(scale / 1.5), 1, MAX_UPSAMPLING))
        self._x = np.arange(low[0], high[0], dtype=np.float32)
        self._y = np.arange(low[1], high[1], dtype=np.float32)[:, None]

    @property
    def empty(self) -> bool:
        """Whether the grid lies outside the photograph."""
        return self.rows.start >= self.rows.stop or self.columns.start >= self.columns.stop

    @property
    def pixels(self) -> int:
        """Number of photograph pixels in `rows` and `columns`, at least one."""
        return max(1, (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start))

    def feathered(self, edit: NumpyEdit) -> np.ndarray:
        """The edit's motion, (size, size, 4), faded out towards the border of the grid."""
        return edit.motion * self.weight[:, :, None]

    def apply(self, photograph: np.ndarray, edit: NumpyEdit, interpolation: int = cv2.INTER_CUBIC) -> np.ndarray:
        """The photograph's pixels inside `rows` and `columns`, edited.

        Shape:
            photograph: (H, W, 3) uint8.
            returns:    (rows, columns, 3) uint8; pixels that the edit does not touch are the photograph's own.
        """
        out = photograph[self.rows, self.columns].copy()
        motion = self.feathered(edit)
        rows, columns = self.part(cv2.inRange(motion, (-AT_REST,) * 4, (AT_REST,) * 4) == 0)
        if columns.start < columns.stop:  # most of the grid is at rest: work on what moves
            out[rows, columns] = self.edited(photograph, edit, rows, columns, interpolation)
        return out

    def edited(
        self, photograph: np.ndarray, edit: NumpyEdit, rows: slice, columns: slice, interpolation: int = cv2.INTER_CUBIC
    ) -> np.ndarray:
        """A part of the photograph, edited.

        Args:
            rows, columns: counted from the region's own corner, see `part`.

        Shape:
            photograph: (H, W, 3) uint8. returns: (rows, columns, 3) uint8.
        """
        motion, colour = self._denser(self.feathered(edit)), self._denser(edit.colour)
        out = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), np.uint8)
        height = max(1, STRIP_PIXELS // max(1, out.shape[1]))
        for top in range(0, len(out), height):  # in strips: large faces need no more memory than small ones
            strip = slice(rows.start + top, min(rows.start + top + height, rows.stop))
            fine = self._onto_photograph(motion, strip, columns)
            part = self._move(photograph, fine, strip, columns, interpolation)
            self._paint(part, fine[:, :, 3], colour, strip, columns)
            out[top : top + height] = part
        return out

    def part(self, used: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns, counted from the region's own corner, that hold every used grid pixel; maybe none."""
        x0, y0, width, height = cv2.boundingRect(used.astype(np.uint8))
        if not width:
            return slice(0, 0), slice(0, 0)
        x0, y0, x1, y1 = x0 - 2, y0 - 2, x0 + width + 1, y0 + height + 1
        corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], np.float64)
        spanned = transform_points(invert_transform(self.transform), corners) - self._low
        limit = (len(self._x), len(self._y))
        low = np.clip(np.floor(spanned.min(0)).astype(int), 0, limit)
        high = np.clip(np.ceil(spanned.max(0)).astype(int) + 1, low, limit)
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    def _move(
        self, photograph: np.ndarray, fine: np.ndarray, rows: slice, columns: slice, interpolation: int
    ) -> np.ndarray:
        """Warp a part of the photograph and multiply it by (1 - mask) * gain."""
        to_x, to_y = self._to_photograph
        x = self._x[columns] + (to_x[0] * fine[:, :, 0] + to_x[1] * fine[:, :, 1])
        y = self._y[rows] + (to_y[0] * fine[:, :, 0] + to_y[1] * fine[:, :, 1])
        moved = cv2.remap(photograph, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
        share = (1.0 - fine[:, :, 3]) * (1.0 + fine[:, :, 2])
        return cv2.multiply(moved, cv2.merge([share, share, share]), dtype=cv2.CV_8U)  # rounds and saturates

    def _paint(self, part: np.ndarray, mask: np.ndarray, colour: np.ndarray, rows: slice, columns: slice) -> None:
        """Add mask * colour to a part of the picture, in place; usually only the inside of the mouth."""
        x, y, width, height = cv2.boundingRect((mask > AT_REST).astype(np.uint8))
        if not width:
            return
        down, across = slice(y, y + height), slice(x, x + width)
        where = slice(rows.start + y, rows.start + y + height), slice(columns.start + x, columns.start + x + width)
        painted = self._onto_photograph(colour, *where)
        weight = mask[down, across]
        paint = cv2.multiply(painted, cv2.merge([weight, weight, weight]), dtype=cv2.CV_8U)
        part[down, across] = cv2.add(part[down, across], paint)

    def _denser(self, planes: np.ndarray) -> np.ndarray:
        """Upsample grid planes (size, size, C) by a whole number, cubic: what is left to do may be linear.

        Both steps together cost a third of one cubic warp.
        """
        k = self._density
        return planes if k == 1 else cv2.resize(planes, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC)

    def _onto_photograph(self, denser: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """Bring planes that `_denser` made onto a part of the region; 0 outside the grid."""
        k = self._density
        matrix = self.transform * k
        matrix[:, 2] += (k - 1) / 2  # centre of a k x k block
        matrix[:, 2] += matrix[:, :2] @ (self._low + np.array([columns.start, rows.start]))
        return cv2.warpAffine(
            denser,
            matrix,
            (columns.stop - columns.start, rows.stop - rows.start),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
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
        x, y = found.astype(np.float32).T[:, :, None]
        moved = cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
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
    return best - into


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
    points: np.ndarray, size: int, curves: tuple[tuple[slice, bool], ...], window: tuple[int, int, int]
) -> np.ndarray:
    """`draw_window` for the points of many frames, (B, P, 2): (B, 1, size, size) float32."""
    return np.stack([draw_window(frame, size, curves, window) for frame in points])[:, None]
