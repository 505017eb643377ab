"""Lip and jaw points of a face that speaks and feels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotalk import speech_motion as motion
from emotalk.emotions import Emotion
from emotalk.errors import LandmarkError
from emotalk.landmarks import FACE_UNIT, LOWER_FACE, POINTS


def face(opening: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """68 plausible points in the canonical crop, lips `opening` face units apart."""
    points = np.zeros((POINTS, 2))
    angle = np.linspace(np.pi, 0, 17)
    points[0:17] = np.c_[128 + 72 * np.cos(angle), 95 + 118 * np.sin(angle)]
    points[17:48] = np.c_[np.linspace(70, 186, 31), np.full(31, 100.0)]
    top, bottom = np.linspace(np.pi, 0, 7), np.linspace(0, np.pi, 7)[1:-1]
    points[48:55] = np.c_[128 + 26 * np.cos(top), 166 - 8 * np.sin(top)]
    points[55:60] = np.c_[128 + 26 * np.cos(bottom), 166 + 12 * np.sin(bottom)]
    inner_x = [104.0, 116.0, 128.0, 140.0, 152.0]
    points[60:68] = np.r_[np.c_[inner_x, np.full(5, 166.0)], np.c_[[140.0, 128.0, 116.0], np.full(3, 166.0)]]
    points[LOWER_FACE] += (motion.OPENING_SHAPE * opening * FACE_UNIT)[:, None] * (0.0, 1.0)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return (points - 128) @ turn.T + 128


def speaking(*openings: float) -> np.ndarray:
    """Displacements of a mouth that opens by these face units, one per frame."""
    return np.array(openings)[:, None, None] * motion.OPENING_SHAPE[:, None] * np.array([0.0, 1.0])


def gaps(points: np.ndarray, mouth: motion.SpeakingMouth) -> np.ndarray:
    return motion.lip_gaps(points, mouth.down) / FACE_UNIT


@pytest.mark.parametrize("opening", [0.0, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("roll", [0.0, 0.2])
def test_silence_closes_the_mouth_of_any_emotion(opening: float, roll: float) -> None:
    mouth = motion.SpeakingMouth.of(face(opening, roll))
    points = motion.wanted_points(mouth, speaking(0.0))
    assert gaps(points, mouth).max() <= motion.CLOSED_GAP + 1e-9
    assert gaps(points, mouth).min() >= -1e-9
    if opening == 0.3 and roll == 0:
        assert np.allclose(points[0], face(0.0)[LOWER_FACE], atol=1e-6)  # chin and outer lips came along


def test_a_closed_mouth_at_rest_stays_where_it_is() -> None:
    lower = face(0.01)[LOWER_FACE]
    assert np.allclose(motion.wanted_points(motion.SpeakingMouth.of(face(0.01)), speaking(0.0))[0], lower)


def test_closed_lips_lie_as_the_detector_saw_them_in_the_photograph() -> None:
    """A photograph with closed lips says what closed looks like; one with open lips does not."""
    for shown, closed in ((0.012, 0.012), (0.2, 0.0)):
        mouth = motion.SpeakingMouth.of(face(0.4), face(shown))
        assert gaps(motion.wanted_points(mouth, speaking(0.0)), mouth).mean() == pytest.approx(closed, abs=1e-6)


def test_emotion_has_its_opening_back_when_speech_opens_the_mouth() -> None:
    openings = np.linspace(0, 0.25, 200)
    surprised, plain = motion.SpeakingMouth.of(face(0.3)), motion.SpeakingMouth.of(face(0.0))
    felt = gaps(motion.wanted_points(surprised, speaking(*openings)), surprised).mean(1)
    neutral = gaps(motion.wanted_points(plain, speaking(*openings)), plain).mean(1)
    extra = felt - neutral
    assert extra[0] == pytest.approx(0)
    assert extra[-1] == pytest.approx(0.3, abs=0.01)
    assert (np.diff(felt) >= 0).all()
    assert np.diff(felt).max() < 0.01  # smooth: no step anywhere


def test_opening_is_limited() -> None:
    mouth = motion.SpeakingMouth.of(face(0.55))
    opened = gaps(motion.wanted_points(mouth, speaking(0.3)), mouth).mean()
    assert opened <= motion.MAX_OPENING + motion.CLOSED_GAP + 0.02


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), strength=st.floats(0, 5), opening=st.floats(-0.1, 0.6))
def test_lips_never_cross(seed: int, strength: float, opening: float) -> None:
    mouth = motion.SpeakingMouth.of(face(opening))
    wild = np.random.default_rng(seed).normal(0, strength, (5, 37, 2))
    points = motion.wanted_points(mouth, wild)
    assert gaps(points, mouth).min() >= -1e-9
    assert np.isfinite(points).all()
    assert np.linalg.norm(points - mouth.closed, axis=-1).max() < 2 * FACE_UNIT


def test_plausible_displacements_are_not_touched_and_wild_ones_are_held() -> None:
    mild = np.random.default_rng(0).uniform(-0.2, 0.2, (4, 37, 2))
    assert np.array_equal(motion.soften(mild), mild)
    held = np.linalg.norm(motion.soften(mild * 50), axis=-1)
    assert held.max() <= motion.MAX_DISPLACEMENT + 1e-9
    with pytest.raises(LandmarkError, match="NaN"):
        motion.soften(np.full((1, 37, 2), np.nan))


def test_a_wide_mouth_moves_a_little_more() -> None:
    wide = face()
    wide[48:68, 0] = 128 + (wide[48:68, 0] - 128) * 1.6
    assert motion.SpeakingMouth.of(wide).scale == motion.MOUTH_SCALE_LIMITS[1]
    assert motion.SpeakingMouth.of(wide, face()).scale == pytest.approx(52 / FACE_UNIT / motion.AVERAGE_MOUTH_WIDTH)


def test_a_mouth_without_width_is_refused() -> None:
    with pytest.raises(LandmarkError, match="corners"):
        motion.SpeakingMouth.of(np.zeros((68, 2)))


def swing(points: np.ndarray) -> float:
    """Mean way of the 37 points from frame to frame, pixels."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=-1).mean())


def width(points: np.ndarray) -> np.ndarray:
    """Distance of the mouth's corners in each frame, pixels."""
    return np.linalg.norm(points[:, 23] - points[:, 17], axis=-1)


@pytest.mark.parametrize("roll", [0.0, 0.3])
def test_feelings_colour_the_motion_of_speech(roll: float) -> None:
    mouth = motion.SpeakingMouth.of(face(0.0, roll))
    words = speaking(*(0.12 - 0.12 * np.cos(np.linspace(0, 20, 100))))
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    words = words @ turn.T
    said = {
        emotion: motion.wanted_points(mouth, words, motion.SpeechColour.of({emotion: 1.0}, 3)) for emotion in Emotion
    }
    plain = motion.wanted_points(mouth, words)
    assert np.array_equal(said[Emotion.NEUTRAL], plain)
    assert swing(said[Emotion.SAD]) < 0.8 * swing(plain)
    assert swing(said[Emotion.ANGRY]) > 1.15 * swing(plain)
    spread = {emotion: (width(points) - width(plain)).max() / FACE_UNIT for emotion, points in said.items()}
    assert spread[Emotion.HAPPY] > 0.05
    assert max(spread, key=lambda emotion: spread[emotion]) is Emotion.HAPPY
    assert abs(spread[Emotion.ANGRY]) < spread[Emotion.HAPPY]
    for points in said.values():
        assert gaps(points[:1], mouth).max() <= motion.CLOSED_GAP + 1e-9  # whatever it feels, silence is closed lips


def test_colours_grow_with_intensity_and_blend() -> None:
    happy, sad = {Emotion.HAPPY: 1.0}, {Emotion.SAD: 1.0}
    assert motion.SpeechColour.of(happy, 0) == motion.PLAIN
    sizes = [motion.SpeechColour.of(sad, level).size for level in (0, 1, 2, 3)]
    assert (np.diff(sizes) < 0).all()
    both = motion.SpeechColour.of({Emotion.HAPPY: 0.5, Emotion.SAD: 0.5}, 3)
    parents = motion.SpeechColour.of(happy, 3), motion.SpeechColour.of(sad, 3)
    assert both.size == pytest.approx((parents[0].size + parents[1].size) / 2)
    assert both.spread == pytest.approx((parents[0].spread + parents[1].spread) / 2)


@pytest.mark.parametrize("fps", [12.0, 23.976, 25.0, 30.0, 60.0])
def test_resampling_keeps_the_time(fps: float) -> None:
    """A swing sampled at 25 fps and read at another rate is the same swing at the same moments."""
    seconds = 4.0
    at = (np.arange(100) + 0.5) / 25
    there = (np.arange(round(seconds * fps)) + 0.5) / fps
    track = np.sin(2 * np.pi * 1.5 * at)[:, None, None]
    out = motion.resample(track, 25, fps, len(there))[:, 0, 0]
    inner = (there > 0.1) & (there < seconds - 0.1)
    assert np.abs(out - np.sin(2 * np.pi * 1.5 * there))[inner].max() < 0.02
    if fps == 25:
        assert np.array_equal(out, track[:, 0, 0])


@pytest.mark.parametrize("length", [1, 2])
def test_resampling_very_short_tracks(length: int) -> None:
    assert motion.resample(np.ones((length, 37, 2)), 25, 30, 3).shape == (3, 37, 2)
