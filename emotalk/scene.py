"""What every frame of a video shows: the feeling, the lips that speech wants, the lids, the head; and its making."""

from __future__ import annotations

import numpy as np

from . import compose
from .conditions import Feeling
from .expression import EmotionalFace, Expressions, Photograph
from .head_motion import HeadMotion
from .landmarks import CROP_SIZE, invert_transform, transform_points
from .life import Life
from .speech_motion import SpeechColour, wanted_points
from .tracks import Track


class CloseUp:
    """The part of a photograph that can move: the canonical crop, and the head with its surroundings.

    Everything is worked out on that part; the rest of the frames is the photograph itself.

    Attributes:
        rows, columns: of the part.
        part: the photograph cut to it.
        head: how the head moves.
    """

    def __init__(self, photograph: Photograph) -> None:
        height, width = photograph.picture.shape[:2]
        self.photograph = photograph
        self.head = HeadMotion(height, width, photograph.crop, photograph.points)
        corners = np.array([[0, 0], [CROP_SIZE, 0], [0, CROP_SIZE], [CROP_SIZE, CROP_SIZE]], np.float64)
        spanned = transform_points(invert_transform(photograph.crop), corners)
        low = np.clip(np.floor(spanned.min(0)).astype(int) - 2, 0, (width - 1, height - 1))
        high = np.clip(np.ceil(spanned.max(0)).astype(int) + 3, low + 1, (width, height))
        low = np.minimum(low, (self.head.columns.start, self.head.rows.start))
        high = np.maximum(high, (self.head.columns.stop, self.head.rows.stop))
        self.columns, self.rows = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
        self.part = photograph.part(self.rows, self.columns)

    @property
    def pixels(self) -> int:
        """Number of pixels of the part."""
        return self.part.picture.shape[0] * self.part.picture.shape[1]

    def whole(self, part: np.ndarray) -> np.ndarray:
        """The whole picture with another content of the part; a new array."""
        picture = self.photograph.picture.copy()
        picture[self.rows, self.columns] = part
        return picture

    def turn(self, part: np.ndarray, pose: np.ndarray) -> None:
        """Move the head, in place, as far as the photograph allows; `pose` as in `life.POSE`."""
        rows, columns = self.head.rows, self.head.columns
        top, left = rows.start - self.rows.start, columns.start - self.columns.start
        moving = part[top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        self.head.move(moving, pose * self.head.room)


class Scene:
    """One face, one recording, one track of feelings: what its frames are made of.

    Args:
        close_up: of the photograph.
        expressions: of its part.
        track: what is felt when.
        moves: (T, 37, 2) face units, what speech does to the lower face in every frame.
        life: of T frames.
        fps: frames per second.
    """

    def __init__(
        self, close_up: CloseUp, expressions: Expressions, track: Track, moves: np.ndarray, life: Life, fps: float
    ) -> None:
        self.close_up = close_up
        self.fps = fps
        self._expressions = expressions
        self._track = track
        self._moves = moves
        self._life = life

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self._moves)

    def feeling(self, frame: int) -> Feeling:
        """What is felt in a frame."""
        return self._track.feeling_at((frame + 0.5) / self.fps)

    def face(self, frame: int) -> EmotionalFace:
        """The emotional face that a frame starts from."""
        return self._expressions.face(self.feeling(frame))

    def wanted(self, frame: int, face: EmotionalFace) -> np.ndarray:
        """Where the lower face shall be, (37, 2) canonical crop pixels."""
        feeling = self.feeling(frame)
        colour = SpeechColour.of(feeling.lower or feeling.weights, feeling.intensity)
        return wanted_points(face.mouth, self._moves[frame : frame + 1], colour)[0]

    def draw(self, frame: int, face: EmotionalFace, edit: compose.NumpyEdit) -> np.ndarray:
        """The part of a frame that moves, with lips by the edit of `refinement`.

        Shape:
            returns: (rows, columns, 3) uint8, see `CloseUp.whole`.
        """
        life, region = self._life, self._expressions.speech_region
        picture = self._expressions.enliven(face.picture, self.feeling(frame), life.lids[frame], life.brows[frame])
        spoken = region.apply(picture, edit)
        out = picture.copy() if picture is face.picture else picture
        out[region.rows, region.columns] = spoken
        self.close_up.turn(out, life.pose[frame])
        return out
