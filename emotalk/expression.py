"""One photograph with any feeling: `neutral2emotion` answers on a grid of conditions, everything between is mixed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from . import compose, landmarks
from .conditions import Feeling, Stop, Weights, stops_of
from .config import PipelineConfig
from .face import cut
from .speech_motion import SpeakingMouth

T = TypeVar("T")

KEPT_EDITS = 96  # conditions whose edits are kept: some 30 MB
KEPT_FACES = 3  # whole pictures
# Canonical crop pixels. Above, a compound face has the upper feeling, below the lower one.
UPPER_END, LOWER_BEGIN = 116.0, 146.0
LIDS_REACH, LIDS_FADE = 8.0, 16.0  # around the corners of the eyes: all lids move in there, and nothing beyond
BROW_RISE = 1.6
BROW_SPREAD = (30.0, 16.0, 7.0)  # over which the rise of a brow fades: across, upwards, and downwards to the lids
NOTHING = 1e-3  # lids or brows that move less move nothing

# One run of `neutral2emotion`: face (1, 3, S, S), lines (1, 1, S, S), condition (1, 12) -> its edit.
Answer = Callable[[np.ndarray, np.ndarray, np.ndarray], compose.NumpyEdit]


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph and where its face lies.

    Shape:
        picture: (H, W, 3) uint8 RGB; crop: (2, 3), its pixels -> canonical crop; points: (68, 2) in that crop.
    """

    picture: np.ndarray
    crop: np.ndarray
    points: np.ndarray

    def part(self, rows: slice, columns: slice) -> Photograph:
        """A part of the photograph that holds the face."""
        crop = self.crop.copy()
        crop[:, 2] += crop[:, :2] @ (columns.start, rows.start)
        return Photograph(np.ascontiguousarray(self.picture[rows, columns]), crop, self.points)


@dataclass(frozen=True, slots=True)
class EmotionalFace:
    """A photograph that feels: what every frame of one condition starts from.

    Shape:
        picture: (H, W, 3) uint8 RGB, the emotional photograph at full resolution.
        points:  (68, 2) canonical crop pixels, its landmarks.
        window:  (3, S, S) float32 in [-1, 1], its lower face as `refinement` sees it.
        resting: (1, S, S) float32 in [0, 1], the lines of that lower face.
    """

    picture: np.ndarray
    points: np.ndarray
    mouth: SpeakingMouth
    window: np.ndarray
    resting: np.ndarray


class Kept:
    """The last few results of something slow. Two threads may both make the same one; that is rare and harmless."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result for `key`, made now if it is not there."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]  # type: ignore[no-any-return]
        result = make()
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._most:
                self._results.popitem(last=False)
        return result


class Expressions:
    """The faces that one photograph can make.

    On the grid of `conditions` a face is exactly what the network says; between two conditions motion, shading and
    painting are mixed, never finished pictures, so nothing pops and nothing shows double.

    Args:
        photograph: whose face.
        answer: runs `neutral2emotion`.
        size: side of its grid.
        window_size: side of the grid of `refinement`.
        config: margins of the edits.
    """

    def __init__(
        self, photograph: Photograph, answer: Answer, size: int, window_size: int, config: PipelineConfig
    ) -> None:
        self.photograph = photograph
        height, width = photograph.picture.shape[:2]
        self._answer = answer
        self._scale = size / landmarks.CROP_SIZE
        transform = compose.grid_transform(photograph.crop, size)
        self._points = photograph.points * self._scale
        self._seen = signed(cut(photograph.picture, transform, size))[None]
        self._lines = landmarks.draw_curves(self._points, size, size)[None, None]
        self._region = compose.Region(height, width, transform, size, [m * self._scale for m in config.emotion_margins])
        window = landmarks.LOWER_WINDOW
        self._window_size = window_size
        self._window_transform = compose.grid_transform(photograph.crop, window_size, window)
        margins = [m * window_size / window[2] for m in config.speech_margins]
        self.speech_region = compose.Region(height, width, self._window_transform, window_size, margins)
        row, column = np.mgrid[:size, :size] / self._scale
        self._upper = vertical_share(row)
        self._lids = lids_share(column, row, photograph.points)
        self._brows = brow_rise(column, row, photograph.points) * self._scale
        self._eyes = self._region.part((self._lids > 0) | (self._brows > NOTHING))
        self._edits, self._carried, self._faces = Kept(KEPT_EDITS), Kept(KEPT_EDITS), Kept(KEPT_FACES)

    def face(self, feeling: Feeling) -> EmotionalFace:
        """The photograph with a feeling, eyes as the feeling has them."""
        key = (*stops_of(feeling.weights, feeling.intensity).items(), None)
        if feeling.lower is not None:
            key = (*key, *stops_of(feeling.lower, feeling.intensity).items())
        return self._faces.get(key, lambda: self._make(feeling))

    def enliven(self, picture: np.ndarray, feeling: Feeling, lids: float, brows: float) -> np.ndarray:
        """The picture of `face(feeling)` with lids that close and brows that rise; only around the eyes is it redone.

        Args:
            picture: (H, W, 3) uint8, of the face; it stays as it is.
            feeling: of the face.
            lids: 0 as the feeling has them, 1 closed.
            brows: 0 as the feeling has them, 1 raised.

        Shape:
            returns: (H, W, 3) uint8; the very same array if nothing moves.
        """
        if lids < NOTHING and brows < NOTHING:
            return picture
        edit = self.edit(feeling)
        if lids >= NOTHING:
            edit = compose.mix_edits([edit, self.edit(feeling, lids)], [1 - self._lids, self._lids])
        if brows >= NOTHING:
            motion = edit.motion.copy()
            motion[..., 1] += brows * self._brows
            edit = compose.NumpyEdit(motion, edit.colour)
        out = picture.copy()
        rows, columns = self._eyes
        inside = out[self._region.rows, self._region.columns]
        inside[rows, columns] = self._region.edited(self.photograph.picture, edit, rows, columns)
        return out

    def edit(self, feeling: Feeling, lids: float = 0.0) -> compose.NumpyEdit:
        """How the photograph changes to show a feeling with lids closed by `lids`."""
        upper = self._mixed(feeling.weights, feeling.intensity, lids)
        if feeling.lower is None:
            return upper
        lower = self._mixed(feeling.lower, feeling.intensity, lids)
        return compose.mix_edits([upper, lower], [self._upper, 1 - self._upper])

    def points(self, feeling: Feeling) -> np.ndarray:
        """Landmarks of the face with a feeling, (68, 2) canonical crop pixels."""
        upper = self._mixed_points(feeling.weights, feeling.intensity)
        if feeling.lower is None:
            return upper
        share = vertical_share(upper[:, 1:])
        return share * upper + (1 - share) * self._mixed_points(feeling.lower, feeling.intensity)

    def _make(self, feeling: Feeling) -> EmotionalFace:
        photograph, region, edit = self.photograph, self._region, self.edit(feeling)
        picture = photograph.picture.copy()
        picture[region.rows, region.columns] = region.apply(photograph.picture, edit)
        return self.prepare(picture, self.points(feeling))

    def prepare(self, picture: np.ndarray, points: np.ndarray) -> EmotionalFace:
        """What `refinement` needs of an emotional photograph."""
        size = self._window_size
        lower = points[landmarks.LOWER_FACE]
        return EmotionalFace(
            picture=picture,
            points=points,
            mouth=SpeakingMouth.of(points, self.photograph.points),
            window=signed(cut(picture, self._window_transform, size)),
            resting=compose.draw_window(lower, size, landmarks.LOWER_CURVES, landmarks.LOWER_WINDOW)[None],
        )

    def _mixed(self, weights: Weights, intensity: float, lids: float) -> compose.NumpyEdit:
        mixture = stops_of(weights, intensity, lids)
        return compose.mix_edits([self._edit_at(stop) for stop in mixture], list(mixture.values()))

    def _mixed_points(self, weights: Weights, intensity: float) -> np.ndarray:
        mixture = stops_of(weights, intensity)
        return sum((share * self._points_at(stop) for stop, share in mixture.items()), np.zeros((68, 2)))

    def _edit_at(self, stop: Stop) -> compose.NumpyEdit:
        return self._edits.get(stop, lambda: self._answer(self._seen, self._lines, stop.vector()[None]))

    def _points_at(self, stop: Stop) -> np.ndarray:
        def carry() -> np.ndarray:
            return compose.carry_face(self._points, self._region.feathered(self._edit_at(stop))) / self._scale

        return self._carried.get(stop, carry)


def signed(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 as networks see it: (3, H, W) float32 in [-1, 1]."""
    return picture.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1.0


def vertical_share(y: np.ndarray) -> np.ndarray:
    """Share of the upper feeling at heights of the canonical crop: 1 at the eyes, 0 at the mouth."""
    down = np.clip((y - UPPER_END) / (LOWER_BEGIN - UPPER_END), 0.0, 1.0)
    return (1.0 - down * down * (3.0 - 2.0 * down)).astype(np.float32)


def lids_share(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where lids may move: 1 on both eyes, 0 away from them, smooth in between; canonical crop pixels."""
    share = np.zeros(x.shape)
    for eye in (points[landmarks.LEFT_EYE], points[landmarks.RIGHT_EYE]):
        centre = (eye.min(0) + eye.max(0)) / 2
        half = np.maximum((eye.max(0) - eye.min(0)) / 2, (10.0, 6.0)) + LIDS_REACH
        beyond = np.hypot(
            np.maximum(np.abs(x - centre[0]) - half[0], 0), np.maximum(np.abs(y - centre[1]) - half[1], 0)
        )
        out = np.clip(1.0 - beyond / LIDS_FADE, 0.0, 1.0)
        share = np.maximum(share, out * out * (3.0 - 2.0 * out))
    return share.astype(np.float32)


def brow_rise(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far raised brows move up, in canonical crop pixels."""
    rise = np.zeros(x.shape)
    for brow in (points[landmarks.LEFT_BROW], points[landmarks.RIGHT_BROW]):
        centre = brow.mean(0)
        wide, up, down = BROW_SPREAD
        along = (y - centre[1]) / np.where(y < centre[1], up, down)
        rise = np.maximum(rise, np.exp(-(((x - centre[0]) / wide) ** 2) - along**2))
    return (BROW_RISE * rise).astype(np.float32)
