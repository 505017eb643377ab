"""Emotion names, their order, and the condition vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotalk.emotions import (
    CONDITION_SIZE,
    EMOTIONS,
    SYNONYMS,
    Emotion,
    Wish,
    check_intensity,
    condition_vector,
    parse_emotion,
    parse_wish,
)
from emotalk.errors import ConfigError

feelings = st.sampled_from([e for e in EMOTIONS if e is not Emotion.NEUTRAL])
strengths = st.floats(0, 3)


def test_the_order_is_that_of_the_mead_repository() -> None:
    names = ["angry", "disgusted", "contempt", "fear", "happy", "sad", "surprised", "neutral"]
    assert [e.value for e in EMOTIONS] == names
    assert [e.index for e in EMOTIONS] == list(range(8))
    assert CONDITION_SIZE == 11


@pytest.mark.parametrize("text", [*[e.value for e in EMOTIONS], *SYNONYMS])
def test_names_and_synonyms_are_understood_in_any_case(text: str) -> None:
    assert parse_emotion(f" {text.upper()} ") is parse_emotion(text)


@pytest.mark.parametrize(
    ("text", "emotion"), [("disgust", "disgusted"), ("surprise", "surprised"), ("anger", "angry"), ("Joy", "happy")]
)
def test_common_synonyms(text: str, emotion: str) -> None:
    assert parse_emotion(text).value == emotion


def test_an_unknown_name_lists_the_eight_and_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_emotion("hapy")
    message = str(caught.value)
    assert "did you mean happy?" in message
    assert all(e.value in message for e in EMOTIONS)
    with pytest.raises(ConfigError, match=r"unknown emotion 'qqqq' \(known"):
        parse_emotion("qqqq")


@pytest.mark.parametrize("intensity", [-0.1, 3.1, 7, float("nan"), float("inf")])
def test_intensity_out_of_range_is_refused(intensity: float) -> None:
    with pytest.raises(ConfigError, match="must be between 0"):
        check_intensity(intensity)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("emotion", EMOTIONS)
def test_corpus_levels_are_two_one_hots(emotion: Emotion, level: int) -> None:
    vector = condition_vector(emotion, level)
    expected = np.zeros(11, np.float32)
    expected[emotion.index] = 1
    if emotion is not Emotion.NEUTRAL:
        expected[8 + level - 1] = 1
    np.testing.assert_array_equal(vector, expected)


@given(feelings)
def test_intensity_zero_is_neutral(emotion: Emotion) -> None:
    np.testing.assert_array_equal(condition_vector(emotion, 0), condition_vector(Emotion.NEUTRAL, 2))


@given(feelings, strengths)
def test_the_parts_stay_in_their_simplex(emotion: Emotion, intensity: float) -> None:
    vector = condition_vector(emotion, intensity)
    assert vector.shape == (11,) and vector.dtype == np.float32
    assert (vector >= 0).all()
    assert vector[:8].sum() == pytest.approx(1, abs=1e-6)
    assert vector[8:].sum() == pytest.approx(min(intensity, 1), abs=1e-6)
    assert np.count_nonzero(vector[8:]) <= 2  # only neighbours mix


@given(feelings, strengths, st.floats(0, 0.01))
def test_intensity_is_continuous(emotion: Emotion, intensity: float, step: float) -> None:
    there = condition_vector(emotion, min(intensity + step, 3.0))
    assert np.abs(there - condition_vector(emotion, intensity)).max() <= step + 1e-6


@given(st.dictionaries(st.sampled_from(EMOTIONS), st.floats(0.01, 10), min_size=1), strengths)
def test_a_blend_depends_on_shares_only(blend: dict[Emotion, float], intensity: float) -> None:
    doubled = {emotion: 2 * weight for emotion, weight in blend.items()}
    np.testing.assert_allclose(condition_vector(blend, intensity), condition_vector(doubled, intensity), atol=1e-6)


@pytest.mark.parametrize("blend", [{}, {Emotion.SAD: 0.0}, {Emotion.SAD: -1.0}, {Emotion.SAD: float("nan")}])
def test_a_blend_without_weight_is_refused(blend: dict[Emotion, float]) -> None:
    with pytest.raises(ConfigError, match="weight"):
        condition_vector(blend, 1)


@pytest.mark.parametrize("text", ["happy=0.6,surprised=0.4", " Happy = 0.6 ; surprise=.4", "joy=3+surprised=2"])
def test_a_blend_is_read_and_normalised(text: str) -> None:
    wish = parse_wish(text)
    assert wish.weights == pytest.approx({Emotion.HAPPY: 0.6, Emotion.SURPRISED: 0.4})
    assert wish.was_normalised is ("3" in text)
    assert wish.emotion is None
    assert (wish.name, wish.text) == ("happy60-surprised40", "happy=0.6,surprised=0.4")
    assert parse_wish(wish.text) == Wish(wish.weights)


def test_one_emotion_is_a_wish() -> None:
    assert parse_wish("joy") == Wish({Emotion.HAPPY: 1.0})
    assert parse_wish("joy=2") == Wish({Emotion.HAPPY: 1.0}, 2.0)
    assert parse_wish("sad=1,happy=0").emotion is Emotion.SAD
    assert parse_wish("sad").text == parse_wish("sad").name == "sad"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("happy=0.6,hapy=0.4", "did you mean happy"),
        ("happy=0.6,sad", "'sad' has no weight"),
        ("happy=much,sad=1", "weight of happy is 'much'"),
        ("happy=-1,sad=1", "weight of happy is -1"),
        ("happy=nan", "weight of happy is nan"),
        ("happy=0,sad=0", "all zero"),
        ("happy=1,joy=1", "names happy twice"),
        ("happy=1,", "unknown emotion ''"),
        ("", "unknown emotion ''"),
    ],
)
def test_bad_blends_are_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_wish(text)
    assert "\n" not in str(caught.value)
