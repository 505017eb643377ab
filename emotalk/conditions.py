"""Feelings as mixtures of a few conditions on a fine grid: what is computed once and reused when feelings change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .emotions import Emotion, blend, check_intensity, condition_vector, parse_wish

INTENSITY_STEP = 0.25  # between two conditions that are computed; in between their edits are mixed
LIDS_STEP = 0.25  # the same for eyelids that close
CONDITION_SIZE = 12  # emotion 8, intensity 3, eyelids closed 1


class Stop(NamedTuple):
    """One condition of the grid: a pure emotion, as the networks were trained on."""

    emotion: Emotion
    intensity: float
    lids: float

    def vector(self) -> np.ndarray:
        """The condition of `neutral2emotion`.

        Shape:
            returns: (12,) float32: emotion (8), intensity (3), eyelids closed (1).
        """
        felt = condition_vector(self.emotion, self.intensity)
        return np.append(felt, np.float32(self.lids))


Weights = Mapping[Emotion, float]


@dataclass(frozen=True, slots=True)
class Feeling:
    """What a face feels at one moment.

    Attributes:
        weights: shares of the emotions, they sum to 1.
        intensity: 0 to 3.
        lower: shares for the mouth and the chin when they feel something else than eyes and brows.
    """

    weights: Weights
    intensity: float
    lower: Weights | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls,
        emotion: str | Emotion | Weights,
        intensity: float,
        lower: str | Emotion | Weights | None = None,
    ) -> Feeling:
        """From what somebody wishes, maybe something else for mouth and chin.

        Raises:
            ConfigError: if the emotion is unknown, a weight is wrong or the intensity is out of range.
        """
        return cls(shares(emotion), check_intensity(intensity), lower=None if lower is None else shares(lower))

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is felt."""
        parts = [self.weights] if self.lower is None else [self.weights, self.lower]
        return self.intensity == 0 or all(part.keys() <= {Emotion.NEUTRAL} for part in parts)


NEUTRAL = Feeling({Emotion.NEUTRAL: 1.0}, 0.0)


def shares(emotion: str | Emotion | Weights) -> Weights:
    """Shares that sum to 1, from a name, a written blend, or weights.

    Raises:
        ConfigError: if a name is unknown or a weight is wrong.
    """
    if isinstance(emotion, Emotion):
        return {emotion: 1.0}
    return parse_wish(emotion).weights if isinstance(emotion, str) else blend(emotion).weights


def mix_weights(first: Weights, second: Weights, share: float) -> Weights:
    """Between two mixtures: `share` 0 is the first, 1 the second."""
    if share <= 0 or first == second:
        return first
    if share >= 1:
        return second
    names = [emotion for emotion in Emotion if emotion in first or emotion in second]
    return {name: (1 - share) * first.get(name, 0.0) + share * second.get(name, 0.0) for name in names}


def stops_of(weights: Weights, intensity: float, lids: float = 0.0) -> dict[Stop, float]:
    """The conditions of the grid that a feeling is mixed of, and their shares; one of share 1 on the grid itself.

    Networks are asked for pure emotions only; a blend is a mixture of what they answer, so it always lies between its
    parents.

    Args:
        weights: shares of the emotions.
        intensity: 0 to 3.
        lids: 0 open, 1 closed.
    """
    mixture: dict[Stop, float] = {}
    for emotion, weight in weights.items():
        for level, by_level in _neighbours(intensity, INTENSITY_STEP):
            for lid, by_lid in _neighbours(min(max(lids, 0.0), 1.0), LIDS_STEP):
                felt = level > 0 and emotion is not Emotion.NEUTRAL
                stop = Stop(emotion, level, lid) if felt else Stop(Emotion.NEUTRAL, 0.0, lid)
                mixture[stop] = mixture.get(stop, 0.0) + weight * by_level * by_lid
    return {stop: share for stop, share in mixture.items() if share > 0}


def _neighbours(value: float, step: float) -> list[tuple[float, float]]:
    """The grid values beside a value and their shares; only one if it lies on the grid."""
    position = value / step
    below = math.floor(position + 1e-6)
    share = position - below
    if share < 1e-6:
        return [(below * step, 1.0)]
    return [(below * step, 1.0 - share), ((below + 1) * step, share)]
