"""Life at human statistics: blinks, brows and a head that follows speech, from the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from emotalk import life
from emotalk.life import Life

RATE = 16_000


def talk(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables, four a second, in phrases of about two seconds with pauses of half a second."""
    rng = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE)) / RATE
    syllable = (
        np.clip(np.sin(2 * np.pi * 4 * at), 0, 1)
        * np.repeat(rng.uniform(0.3, 1, int(seconds * 4) + 1), RATE // 4)[: len(at)]
    )
    phrase = (at % 2.5) < 2.0
    return (0.3 * rng.normal(size=len(at)) * syllable * phrase).astype(np.float32)


def lively(seconds: float, seed: int = 0, fps: float = 25, gain: float = 1.0) -> Life:
    frames = round(seconds * fps)
    loudness = life.loudness_of(talk(seconds) * np.float32(gain), RATE)
    return Life.of(loudness, np.zeros(frames, bool), frames, fps, seed)


def blinks_of(lids: np.ndarray) -> np.ndarray:
    """Frames at which a blink begins."""
    return np.flatnonzero((lids[1:] > 0.05) & (lids[:-1] <= 0.05))


@pytest.mark.parametrize("seed", range(6))
def test_people_blink_10_to_25_times_a_minute(seed: int) -> None:
    assert 10 <= len(blinks_of(lively(120, seed).lids)) / 2 <= 25


def test_a_blink_closes_quickly_and_opens_more_slowly() -> None:
    lids = lively(60, fps=200).lids
    begins = blinks_of(lids)
    assert lids[0] == 0 and lids[-1] == 0
    for begin in begins[:-1]:
        one = lids[begin : begin + 80]
        peak = int(one.argmax())
        assert one.max() == pytest.approx(1, abs=0.02)
        assert 0.06 <= peak / 200 <= 0.14  # seconds from 5 % to closed
        length = int((one > 0.05).sum()) / 200
        assert 0.2 <= length <= 0.36
        assert (one > 0.05)[peak:].sum() > 1.2 * peak
        assert (np.diff(one[: peak + 1]) >= 0).all()


def test_no_lids_close_while_lips_close() -> None:
    fps, seconds = 100, 120
    closed = (np.arange(fps * seconds) % 30) < 12  # lips closed 0.12 s of every 0.3 s: hard to avoid
    loud = np.ones(fps * seconds)
    lids = Life.of(loud, closed, fps * seconds, fps, 0).lids
    assert len(blinks_of(lids)) >= 20
    careless = np.mean(closed)
    shut = np.mean(closed[lids > 0.9])
    assert shut < 0.1 * careless


def test_closed_lips_in_silence_do_not_count() -> None:
    frames = 3000
    lids = Life.of(np.zeros(frames), np.ones(frames, bool), frames, 25, 0).lids
    assert len(blinks_of(lids)) >= 15


def test_equal_seeds_give_equal_life_and_others_another() -> None:
    one, same, other = lively(10, 3), lively(10, 3), lively(10, 4)
    for name in ("lids", "brows", "pose"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


def test_the_frame_rate_and_the_gain_do_not_change_the_motion() -> None:
    slow, fast = lively(10, fps=25), lively(10, fps=125)
    assert np.abs(slow.pose - fast.pose[2::5]).max() < 0.02
    assert np.abs(slow.lids - fast.lids[2::5]).max() < 1e-6
    assert np.abs(slow.pose - lively(10, gain=0.1).pose).max() < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_the_head_begins_at_rest_moves_smoothly_and_a_little(seed: int) -> None:
    fps = 100
    pose = lively(60, seed, fps=fps).pose
    assert np.abs(pose[0]).max() < 0.02
    assert (np.abs(pose) <= life.POSE_LIMITS).all()
    assert (pose.std(0)[:3] > 0.15).all()  # degrees
    spectrum = np.abs(np.fft.rfft((pose - pose.mean(0)) * np.hanning(len(pose))[:, None], axis=0)) ** 2
    hertz = np.fft.rfftfreq(len(pose), 1 / fps)
    assert (spectrum[hertz > 5].sum(0) < 0.001 * spectrum.sum(0)).all()  # no jitter


def test_silence_is_quiet() -> None:
    speaking = lively(40).pose
    silent = Life.of(np.zeros(4000), np.ones(1000, bool), 1000, 25, 0)
    assert (silent.pose.std(0) < 0.35 * speaking.std(0)).all()
    assert silent.brows.max() == 0


def test_brows_and_nods_follow_emphasis() -> None:
    loud = np.full(1000, 0.3)
    for at in (200, 500, 800):
        loud[at - 8 : at + 8] = 1.0
    assert np.abs(life.emphases(life.smooth(loud, 0.02)) - [200, 500, 800]).max() <= 3
    at = np.arange(0, 10, 0.01)
    brows = np.mean([life.brow_track(np.array([500]), at, np.random.default_rng(seed)) for seed in range(20)], axis=0)
    assert 0.2 < brows.max() <= 1
    assert abs(brows.argmax() - 500) <= 2
    assert brows[:400].max() < 0.01 and brows[650:].max() < 0.01


def test_a_damped_system_reaches_its_target_without_overshoot() -> None:
    target = np.r_[np.zeros(10), np.ones(400)]
    out = life.damped(target, 1.0)
    assert (np.diff(out) >= -1e-12).all()
    assert out[-1] == pytest.approx(1, abs=1e-3)
    assert (life.damped(np.zeros((50, 3)), 2.0) == 0).all()


def test_short_sounds_and_stillness() -> None:
    for seconds in (0.1, 0.5, 1.0):
        one = lively(seconds)
        assert len(one.lids) == len(one.brows) == len(one.pose) == round(seconds * 25)
    still = Life.still(5)
    assert still.lids.shape == still.brows.shape == (5,)
    assert still.pose.shape == (5, 6) and not still.pose.any()
