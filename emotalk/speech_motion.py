"""From speech displacements to the lip and jaw points an emotional face shall have, frame by frame: pure geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .emotions import MAX_INTENSITY, Emotion
from .errors import LandmarkError
from .landmarks import FACE_UNIT, LOWER_FACE, LOWER_POINTS, check_landmarks

# How far each of the 37 points moves down when the inner lips part by 1. Regression of the points on the opening over
# 100 clips of GRID speaker s1 and 1,992 near-frontal photographs, mean of both, made symmetric; the upper ends of the
# jaw line, which a detector slides along the cheek, are brought to 0. The inner lips are set to part by exactly 1.
OPENING_SHAPE = np.array([
    *(0.00, 0.03, 0.06, 0.11, 0.17, 0.24, 0.36, 0.49, 0.53, 0.49, 0.36, 0.24, 0.17, 0.11, 0.06, 0.03, 0.00),
    *(0.10, -0.13, -0.17, -0.18, -0.17, -0.13, 0.10, 0.66, 0.75, 0.78, 0.75, 0.66),
    *(0.10, -0.25, -0.25, -0.25, 0.10, 0.75, 0.75, 0.75),
])  # fmt: skip

# Within the 37 points: inner upper and lower lip, left to right, and the outer points that go with each pair.
UPPER_INNER = np.array([30, 31, 32])
LOWER_INNER = np.array([36, 35, 34])
INNER_CORNERS = np.array([29, 33])
UPPER_OUTER = np.array([18, 19, 20, 21, 22])
LOWER_OUTER = np.array([28, 27, 26, 25, 24])
PAIR_OF_OUTER = np.array([0, 0, 1, 2, 2])

CLOSED_GAP = 0.02  # face units; a landmark detector still sees as much between lips that touch (median of 913 faces)
AVERAGE_MOUTH_WIDTH = 0.82  # face units; mean of 913 photographs with a relaxed, closed mouth (deviation 0.07)
MOUTH_SCALE_LIMITS = (0.9, 1.1)
FULL_OPENING = 0.1  # face units; from this speech opening on, the emotion has its own opening back
MAX_OPENING = 0.6  # face units; more is no speech (strongest of 2,257 photographs: 0.65, of real speech: 0.25)
FREE_DISPLACEMENT, MAX_DISPLACEMENT = 0.3, 0.45  # face units; real speech stays below 0.27


# How a feeling at intensity 3 colours speech: factor of all motion, and how far each corner of the mouth moves outwards
# when the inner lips part by 1. That feelings shift the targets of the lips: Magno Caldognetto et al., Speech
# Communication 44 (2004). The numbers are our choice, small enough that words stay readable.
SPEECH_COLOURS: Mapping[Emotion, tuple[float, float]] = {
    Emotion.ANGRY: (1.22, 0.04),
    Emotion.DISGUSTED: (0.94, 0.04),
    Emotion.CONTEMPT: (0.88, 0.0),
    Emotion.FEAR: (1.06, 0.06),
    Emotion.HAPPY: (1.08, 0.16),
    Emotion.SAD: (0.72, -0.03),
    Emotion.SURPRISED: (1.12, -0.04),
    Emotion.NEUTRAL: (1.0, 0.0),
}
# How much of the corners' way each of the 37 points goes, outwards: the corners themselves, and their neighbours.
LEFTWARDS = {17: 1.0, 29: 1.0, 18: 0.5, 28: 0.5, 30: 0.4, 36: 0.4}
RIGHTWARDS = {23: 1.0, 33: 1.0, 22: 0.5, 24: 0.5, 32: 0.4, 34: 0.4}
OUTWARDS = np.array([RIGHTWARDS.get(point, 0.0) - LEFTWARDS.get(point, 0.0) for point in range(LOWER_POINTS)])


@dataclass(frozen=True, slots=True)
class SpeechColour:
    """How a feeling changes the motion of speech.

    Attributes:
        size: factor of all motion.
        spread: how far each corner of the mouth moves outwards when the inner lips part by 1.
    """

    size: float = 1.0
    spread: float = 0.0

    @classmethod
    def of(cls, weights: Mapping[Emotion, float], intensity: float) -> SpeechColour:
        """Of a blend of emotions whose weights sum to 1."""
        felt = intensity / MAX_INTENSITY
        size = sum(weight * SPEECH_COLOURS[emotion][0] for emotion, weight in weights.items())
        spread = sum(weight * SPEECH_COLOURS[emotion][1] for emotion, weight in weights.items())
        return cls(1.0 + felt * (size - 1.0), felt * spread)


PLAIN = SpeechColour()


@dataclass(frozen=True, slots=True)
class SpeakingMouth:
    """The lower face that speech starts from, in canonical crop pixels.

    Shape:
        closed: (37, 2) lips together; feeling: (37, 2) as the emotional face has it.
        down: (2,) unit vector across the mouth, towards the chin.
    """

    closed: np.ndarray
    feeling: np.ndarray
    down: np.ndarray
    scale: float

    @classmethod
    def of(cls, landmarks: np.ndarray, resting: np.ndarray | None = None) -> SpeakingMouth:
        """From the 68 landmarks of the emotional face and of the photograph, both in the canonical crop.

        The photograph's landmarks, by default the same, say how wide the mouth is, and what a closed mouth of this
        face looks like to the detector if the photograph shows one.
        """
        points = check_landmarks(landmarks)
        shown = points if resting is None else check_landmarks(resting)
        lower, lower_shown = points[LOWER_FACE], shown[LOWER_FACE]
        down = mouth_down(lower)
        scale = float(np.linalg.norm(shown[54] - shown[48])) / FACE_UNIT / AVERAGE_MOUTH_WIDTH
        scale = float(np.clip(scale, *MOUTH_SCALE_LIMITS))
        seal = np.maximum(lip_gaps(lower_shown, mouth_down(lower_shown)), 0.0)
        seal = seal if seal.mean() <= CLOSED_GAP * FACE_UNIT else np.zeros_like(seal)
        closed = close_lips(lower, down, seal)
        return cls(closed=closed, feeling=uncross(lower, down), down=down, scale=scale)


def mouth_down(lower: np.ndarray) -> np.ndarray:
    """Unit vector across the mouth, from the upper to the lower lip.

    Shape:
        lower: (37, 2). returns: (2,).
    """
    along = lower[INNER_CORNERS[1]] - lower[INNER_CORNERS[0]]
    length = float(np.linalg.norm(along))
    if length < 1e-6:
        raise LandmarkError("the corners of the mouth fall together")
    return np.array([-along[1], along[0]]) / length


def lip_gaps(lower: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Distance of the inner lips at their three pairs of points, negative where they cross.

    Shape:
        lower: (..., 37, 2); down: (2,). returns: (..., 3).
    """
    return (lower[..., LOWER_INNER, :] - lower[..., UPPER_INNER, :]) @ down


def close_lips(lower: np.ndarray, down: np.ndarray, seal: np.ndarray) -> np.ndarray:
    """Bring the lips together: both lips move, the chin follows, nothing else of the expression changes.

    Shape:
        lower: (37, 2) canonical crop pixels; seal: (3,) the gaps of lips that touch, as the detector sees them.
        returns: (37, 2).
    """
    gaps = lip_gaps(lower, down)
    excess = gaps - np.clip(gaps, 0.0, seal)  # negative where the lips cross: they are parted
    amount = np.full(LOWER_POINTS, excess.mean())
    amount[UPPER_INNER] = amount[LOWER_INNER] = excess
    amount[UPPER_OUTER] = amount[LOWER_OUTER] = excess[PAIR_OF_OUTER]
    return lower - (amount * OPENING_SHAPE)[:, None] * down


def uncross(lower: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Part lips that cross until they touch; the outer edges of the lips move along.

    Shape:
        lower: (..., 37, 2). returns: (..., 37, 2), every gap at least 0.
    """
    half = np.maximum(-lip_gaps(lower, down), 0.0)[..., None] * (down / 2)  # (..., 3, 2)
    parted = lower.copy()
    parted[..., LOWER_INNER, :] += half
    parted[..., UPPER_INNER, :] -= half
    parted[..., LOWER_OUTER, :] += half[..., PAIR_OF_OUTER, :]
    parted[..., UPPER_OUTER, :] -= half[..., PAIR_OF_OUTER, :]
    return parted


def soften(displacements: np.ndarray) -> np.ndarray:
    """Hold displacements in the range of real speech; up to `FREE_DISPLACEMENT` they stay as they are.

    Shape:
        displacements: (..., 37, 2) face units. returns: the same shape, every length below `MAX_DISPLACEMENT`.

    Raises:
        LandmarkError: if a value is not finite.
    """
    if not np.isfinite(displacements).all():
        raise LandmarkError("audio2landmark gives NaN or infinity; its weights are damaged")
    length = np.linalg.norm(displacements, axis=-1, keepdims=True)
    room = MAX_DISPLACEMENT - FREE_DISPLACEMENT
    held = FREE_DISPLACEMENT + room * np.tanh((length - FREE_DISPLACEMENT) / room)
    return displacements * np.where(length > FREE_DISPLACEMENT, held / np.maximum(length, 1e-9), 1.0)


def resample(track: np.ndarray, source_fps: float, fps: float, frames: int) -> np.ndarray:
    """A motion track at another frame rate: frame i lies at (i + 0.5) / fps seconds, before and after.

    Shape:
        track: (T, ...). returns: (frames, ...); beyond the ends the first and last value hold.

    Source:
        Catmull and Rom (1974): cubic, passes through every given frame.
    """
    last = len(track) - 1
    position = np.clip((np.arange(frames) + 0.5) * (source_fps / fps) - 0.5, 0.0, last)
    start = np.minimum(position.astype(int), max(last - 1, 0))
    t = (position - start).reshape(-1, *[1] * (track.ndim - 1))
    before, a, b, after = (track[np.clip(start + i, 0, last)] for i in (-1, 0, 1, 2))
    slope_a, slope_b = (b - before) / 2, (after - a) / 2
    return (
        a * (1 + t * t * (2 * t - 3))
        + b * (t * t * (3 - 2 * t))
        + slope_a * (t * (1 - t) ** 2)
        - slope_b * (t * t * (1 - t))
    )


def lips_closed(displacements: np.ndarray) -> np.ndarray:
    """Whether speech holds the lips together.

    Shape:
        displacements: (T, 37, 2) face units. returns: (T,) bool.
    """
    moves = np.asarray(displacements)[..., 1]
    return (moves[:, LOWER_INNER] - moves[:, UPPER_INNER]).mean(1) < CLOSED_GAP


def wanted_points(mouth: SpeakingMouth, displacements: np.ndarray, colour: SpeechColour = PLAIN) -> np.ndarray:
    """Where the lower face shall be in every frame, for a face that speaks and feels.

    Speech moves the face with closed lips, so p, b, m and silence close the mouth of any emotion. As speech opens
    the mouth, the emotion gets its own opening back smoothly. The emotion also colours how the mouth moves.

    Shape:
        displacements: (T, 37, 2) face units, from the closed resting mouth. returns: (T, 37, 2) crop pixels.
    """
    moves = soften(np.asarray(displacements, np.float64) * colour.size) * mouth.scale
    speech = np.maximum(((moves[:, LOWER_INNER] - moves[:, UPPER_INNER]) @ mouth.down).mean(1), 0.0)  # (T,)
    right = np.array([mouth.down[1], -mouth.down[0]])
    moves += (colour.spread * speech)[:, None, None] * OUTWARDS[:, None] * right
    feeling = (lip_gaps(mouth.feeling, mouth.down) - lip_gaps(mouth.closed, mouth.down)).mean() / FACE_UNIT
    rise = np.clip(speech / FULL_OPENING, 0.0, 1.0)
    share = rise * rise * (3.0 - 2.0 * rise)
    if feeling > 0:
        share = np.minimum(share, np.maximum(MAX_OPENING - speech, 0.0) / feeling)
    points = mouth.closed + moves * FACE_UNIT + share[:, None, None] * (mouth.feeling - mouth.closed)
    return uncross(points, mouth.down)
