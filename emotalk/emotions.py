"""The eight emotions in their fixed order, intensity, and the condition vector built from both."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from .errors import ConfigError


class Emotion(str, Enum):
    """MEAD's eight emotions; the order of the members is the order of the condition vector.

    Source:
        Emotion ids of the MEAD repository (uniBruce/Mead): 0 angry ... 7 neutral.
    """

    ANGRY = "angry"
    DISGUSTED = "disgusted"
    CONTEMPT = "contempt"
    FEAR = "fear"
    HAPPY = "happy"
    SAD = "sad"
    SURPRISED = "surprised"
    NEUTRAL = "neutral"

    @property
    def index(self) -> int:  # type: ignore[override]  # str.index has no use here
        """Position in the condition vector."""
        return EMOTIONS.index(self)


EMOTIONS: tuple[Emotion, ...] = tuple(Emotion)
INTENSITY_LEVELS = 3
MAX_INTENSITY = float(INTENSITY_LEVELS)
CONDITION_SIZE = len(EMOTIONS) + INTENSITY_LEVELS
SUM_TOLERANCE = 1e-3  # weights written with three decimals sum to 1

SYNONYMS: Mapping[str, Emotion] = {
    "anger": Emotion.ANGRY, "mad": Emotion.ANGRY, "ang": Emotion.ANGRY, "furious": Emotion.ANGRY,
    "disgust": Emotion.DISGUSTED, "dis": Emotion.DISGUSTED,
    "contemptuous": Emotion.CONTEMPT, "con": Emotion.CONTEMPT,
    "fearful": Emotion.FEAR, "afraid": Emotion.FEAR, "scared": Emotion.FEAR, "fea": Emotion.FEAR,
    "happiness": Emotion.HAPPY, "joy": Emotion.HAPPY, "joyful": Emotion.HAPPY, "hap": Emotion.HAPPY,
    "sadness": Emotion.SAD, "unhappy": Emotion.SAD,
    "surprise": Emotion.SURPRISED, "sur": Emotion.SURPRISED, "astonished": Emotion.SURPRISED,
    "calm": Emotion.NEUTRAL, "neu": Emotion.NEUTRAL, "none": Emotion.NEUTRAL,
}  # fmt: skip


def parse_emotion(text: str) -> Emotion:
    """One emotion from its name or a common synonym, in any case.

    Raises:
        ConfigError: if the name is unknown; the message lists the eight and suggests the nearest.
    """
    name = text.strip().lower()
    if name in SYNONYMS:
        return SYNONYMS[name]
    try:
        return Emotion(name)
    except ValueError:
        known = [emotion.value for emotion in EMOTIONS]
        near = difflib.get_close_matches(name, [*known, *SYNONYMS], n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"unknown emotion {text!r}{hint} (known: {', '.join(known)})") from None


@dataclass(frozen=True, slots=True)
class Wish:
    """One emotion or a blend, as somebody wrote it.

    Attributes:
        weights: above 0, they sum to 1.
        given: what the weights summed to before they were normalised.
    """

    weights: Mapping[Emotion, float]
    given: float = 1.0

    @property
    def was_normalised(self) -> bool:
        """Whether the weights did not sum to 1; worth telling."""
        return abs(self.given - 1.0) > SUM_TOLERANCE

    @property
    def emotion(self) -> Emotion | None:
        """The emotion, if it is only one."""
        return next(iter(self.weights)) if len(self.weights) == 1 else None

    @property
    def text(self) -> str:
        """As it can be written again: `sad`, or `happy=0.6,surprised=0.4`."""
        if self.emotion is not None:
            return self.emotion.value
        return ",".join(f"{emotion.value}={weight:.4g}" for emotion, weight in self.weights.items())

    @property
    def name(self) -> str:
        """For file names: `sad`, or `happy60-surprised40`."""
        if self.emotion is not None:
            return self.emotion.value
        return "-".join(f"{emotion.value}{weight * 100:.0f}" for emotion, weight in self.weights.items())


def parse_wish(text: str) -> Wish:
    """One emotion, or a blend such as `happy=0.6,surprised=0.4`; also `;` and `+` separate.

    Raises:
        ConfigError: if a name is unknown or named twice, or a weight is missing, negative or no number, or all are 0.
    """
    parts = [part.strip() for part in re.split("[,;+]", text)]
    if len(parts) == 1 and "=" not in text:
        return Wish({parse_emotion(text): 1.0})
    weights: dict[Emotion, float] = {}
    for part in parts:
        name, equals, number = part.partition("=")
        emotion = parse_emotion(name)
        try:
            weight = float(number)
        except ValueError:
            problem = f"the weight of {name.strip()} is {number.strip()!r}" if equals else f"{part!r} has no weight"
            raise ConfigError(f"blend {text!r}: {problem}; write happy=0.6,surprised=0.4") from None
        if emotion in weights:
            raise ConfigError(f"blend {text!r} names {emotion.value} twice")
        weights[emotion] = weight
    return blend(weights)


def blend(weights: Mapping[Emotion, float]) -> Wish:
    """Weights of several emotions as shares that sum to 1; those of weight 0 are left out.

    Raises:
        ConfigError: if a weight is negative or not finite, or all are 0.
    """
    for emotion, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise ConfigError(f"weight of {emotion.value} is {weight:g}; it must be 0 or more")
    given = float(sum(weights.values()))
    if given <= 0:
        raise ConfigError("the emotion weights are all zero; give at least one above 0")
    return Wish({emotion: weight / given for emotion, weight in weights.items() if weight > 0}, given)


def check_intensity(intensity: float) -> float:
    """Return `intensity` if it lies in [0, 3].

    Raises:
        ConfigError: if it does not.
    """
    if not math.isfinite(intensity) or not 0.0 <= intensity <= MAX_INTENSITY:
        raise ConfigError(
            f"intensity is {intensity:g}; it must be between 0 (neutral) and {MAX_INTENSITY:g} (strongest)"
        )
    return float(intensity)


def condition_vector(emotion: Emotion | Mapping[Emotion, float], intensity: float) -> np.ndarray:
    """The network input for one wish: emotion part, then intensity part.

    The emotion part is a point of the simplex. Between two levels the two intensity one-hots are mixed
    linearly. Below level 1 both parts fade: the emotion towards neutral, the intensity towards all zeros,
    so intensity 0 and `Emotion.NEUTRAL` are one and the same vector.

    Shape:
        returns: (11,) float32, emotion part (8) sums to 1, intensity part (3) sums to at most 1.

    Raises:
        ConfigError: if the intensity is out of range or the weights are negative or all zero.
    """
    intensity = check_intensity(intensity)
    weights = np.zeros(len(EMOTIONS), np.float32)
    for member, weight in ({emotion: 1.0} if isinstance(emotion, Emotion) else blend(emotion).weights).items():
        weights[member.index] = weight
    levels = np.zeros(INTENSITY_LEVELS, np.float32)
    position = intensity - 1.0
    for level in range(INTENSITY_LEVELS):
        levels[level] = max(0.0, 1.0 - abs(position - level))
    feeling = 1.0 - float(weights[Emotion.NEUTRAL.index])  # share of the wish that is not neutral
    fade = min(intensity, 1.0)
    weights *= fade
    weights[Emotion.NEUTRAL.index] += 1.0 - fade
    return np.concatenate([weights, levels * feeling])
