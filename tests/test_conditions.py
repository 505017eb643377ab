"""Feelings are mixtures of pure conditions: exact on the grid, continuous between, always between their parents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotalk.conditions import INTENSITY_STEP, Feeling, Stop, mix_weights, shares, stops_of
from emotalk.emotions import EMOTIONS, Emotion, condition_vector

weights = st.dictionaries(st.sampled_from(EMOTIONS), st.floats(0.01, 10), min_size=1).map(shares)
strengths = st.floats(0, 3)


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("level", np.arange(0, 3.01, INTENSITY_STEP))
def test_on_the_grid_one_condition_is_the_whole_mixture(emotion: Emotion, level: float) -> None:
    mixture = stops_of({emotion: 1.0}, float(level))
    assert list(mixture.values()) == [1.0]
    vector = next(iter(mixture)).vector()
    np.testing.assert_array_equal(vector[:11], condition_vector(emotion, float(level)))
    assert vector[11] == 0 and vector.dtype == np.float32


@given(weights, strengths, st.floats(0, 1))
def test_shares_sum_to_one_and_give_the_intensity_back(mix: dict[Emotion, float], level: float, lids: float) -> None:
    mixture = stops_of(mix, level, lids)
    assert sum(mixture.values()) == pytest.approx(1)
    felt = 1 - mix.get(Emotion.NEUTRAL, 0)
    assert sum(share * stop.intensity for stop, share in mixture.items()) == pytest.approx(level * felt, abs=1e-5)
    assert sum(share * stop.lids for stop, share in mixture.items()) == pytest.approx(lids, abs=1e-5)
    assert all(stop.intensity > 0 or stop.emotion is Emotion.NEUTRAL for stop in mixture)


@given(weights, strengths, st.floats(0, 0.02))
def test_mixtures_are_continuous(mix: dict[Emotion, float], level: float, step: float) -> None:
    before, after = stops_of(mix, level), stops_of(mix, min(level + step, 3.0))
    change = sum(abs(after.get(stop, 0) - before.get(stop, 0)) for stop in {*before, *after})
    assert change <= 2 * step / INTENSITY_STEP + 1e-4


def test_lids_close_over_any_feeling() -> None:
    assert stops_of({Emotion.SAD: 1.0}, 3, 1) == {Stop(Emotion.SAD, 3.0, 1.0): 1.0}
    assert stops_of({Emotion.SAD: 1.0}, 3, 7) == {Stop(Emotion.SAD, 3.0, 1.0): 1.0}
    assert stops_of({Emotion.SAD: 1.0}, 0, 0.5) == {Stop(Emotion.NEUTRAL, 0.0, 0.5): 1.0}


def test_weights_between_two() -> None:
    sad, happy = {Emotion.SAD: 1.0}, {Emotion.HAPPY: 1.0}
    assert mix_weights(sad, happy, 0) is sad
    assert mix_weights(sad, happy, 1) is happy
    assert mix_weights(sad, happy, 0.25) == pytest.approx({Emotion.SAD: 0.75, Emotion.HAPPY: 0.25})
    assert mix_weights(sad, sad, 0.3) == sad


def test_what_is_neutral() -> None:
    assert Feeling.of("sad", 0).is_neutral
    assert Feeling.of("neutral", 3).is_neutral
    assert not Feeling.of("sad", 0.1).is_neutral
    assert not Feeling(shares("neutral"), 2, lower=shares("sad")).is_neutral
