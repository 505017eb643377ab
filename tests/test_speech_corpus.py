"""Clips for the speech stage: what is motion and what is head, tempo, seams, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotalk import speech_corpus as corpus
from emotalk.errors import InputError
from emotalk.landmarks import LOWER_FACE, LOWER_POINTS, STABLE, TEMPLATE
from emotalk.speech_corpus import FRAME_SAMPLES, Clip, Pool


def face(frames: int) -> np.ndarray:
    """A still face in canonical crop pixels, (frames, 68, 2); eyes and nose where the template has them."""
    points = np.random.default_rng(0).uniform(60, 200, (68, 2))
    jaw = np.linspace(-1, 1, 17)
    points[0:17] = np.stack([128 + 60 * jaw, 210 - 60 * jaw**2], 1)
    angle = np.linspace(np.pi, -np.pi, 13)[:12]
    points[48:60] = np.stack([128 + 25 * np.cos(angle), 180 - 8 * np.sin(angle)], 1)
    points[60:68] = np.stack([128 + np.array([-18, -9, 0, 9, 18, 9, 0, -9]), np.full(8, 180.0)], 1)
    points[STABLE] = TEMPLATE
    return points[None].repeat(frames, 0)


def talking_face(opening: np.ndarray) -> np.ndarray:
    points = face(len(opening))
    points[:, [65, 66, 67], 1] += opening[:, None]
    return points


def clip(name: str = "a", frames: int = 75, seed: int = 0) -> Clip:
    generator = np.random.default_rng(seed)
    samples = (generator.normal(size=frames * FRAME_SAMPLES) * 3000).astype(np.int16)
    motion = generator.normal(size=(frames, LOWER_POINTS, 2)).astype(np.float32) * 0.1
    words = ((0.5, 0.9, "bin"), (0.9, 1.4, "blue"), (1.4, 2.2, "now"))
    return Clip(name, samples, motion, np.ones(frames, np.float32), words)


def test_head_motion_leaves_no_displacement() -> None:
    opening = np.zeros(40)
    opening[10:30] = 12 * np.sin(np.linspace(0, np.pi, 20))
    points = talking_face(opening)
    turn = np.linspace(0, 0.3, 40)
    rotation = np.stack([np.stack([np.cos(turn), -np.sin(turn)], 1), np.stack([np.sin(turn), np.cos(turn)], 1)], 1)
    moved = 0.7 * np.einsum("tij,tpj->tpi", rotation, points) + np.linspace(0, 30, 40)[:, None, None]
    silent = opening == 0
    still = corpus.resting_motion(corpus.canonical(points), silent)
    again = corpus.resting_motion(corpus.canonical(moved), silent)
    np.testing.assert_allclose(again, still, atol=0.02)  # smoothing bends the ends of the turn: one pixel
    assert still[20, 35, 1] == pytest.approx(opening[20] / 64, rel=0.01)


def test_alignment_jitter_stays_out() -> None:
    points = talking_face(np.zeros(60))
    points[:, STABLE] += np.random.default_rng(0).normal(0, 0.5, (60, len(STABLE), 2))
    chin = corpus.canonical(points)[:, 8, 1]
    from emotalk.landmarks import crop_transform, transform_points

    per_frame = np.array([transform_points(crop_transform(p), p)[8, 1] for p in points])
    assert np.diff(chin, 2).std() < 0.3 * np.diff(per_frame, 2).std()


def test_canonical_agrees_with_the_crop_of_a_still_head() -> None:
    from emotalk.landmarks import crop_transform, transform_points

    points = talking_face(np.linspace(0, 10, 20)) * 0.8 + 11
    expected = np.stack([transform_points(crop_transform(p), p) for p in points])
    np.testing.assert_allclose(corpus.canonical(points), expected, atol=1e-6)


def test_rest_is_the_closed_mouth_of_the_silence() -> None:
    opening = np.r_[np.full(10, 5.0), np.zeros(10), np.full(20, 12.0), np.zeros(10)]  # waits open-mouthed at first
    silent = np.r_[np.ones(20, bool), np.zeros(20, bool), np.ones(10, bool)]
    motion = corpus.resting_motion(talking_face(opening), silent)
    gap = motion[:, [36, 35, 34], 1].mean(1)
    np.testing.assert_allclose(gap[silent & (opening == 0)], 0, atol=1e-6)
    assert gap[25] == pytest.approx(12 / 64, rel=1e-3)


def test_motion_is_symmetric() -> None:
    points = talking_face(np.linspace(0, 10, 20))
    points[:, 54, 0] += np.linspace(0, 6, 20)  # only one corner moves
    motion = corpus.resting_motion(points, np.arange(20) < 5)
    np.testing.assert_allclose(motion[:, 23, 0], -motion[:, 17, 0], atol=1e-6)
    assert sorted(corpus.MIRROR.tolist()) == list(range(LOWER_POINTS))
    np.testing.assert_array_equal(corpus.MIRROR[corpus.MIRROR], np.arange(LOWER_POINTS))
    x = face(1)[0, LOWER_FACE]
    np.testing.assert_allclose(x[corpus.MIRROR][:29, 0], 256 - x[:29, 0], atol=1e-6)


def test_silence_is_brought_to_rest_and_speech_is_not_touched() -> None:
    motion = np.ones((60, LOWER_POINTS, 2), np.float32)
    talking = (np.arange(60) >= 20) & (np.arange(60) < 30)
    settled = corpus.settle(motion, talking)
    assert (settled[20:30] == 1).all()
    assert (settled[:8] == 0).all()
    assert (settled[45:] == 0).all()
    assert (corpus.settle(motion, np.zeros(60, bool)) == 0).all()


def test_shift_is_exact_on_frames_and_close_between_them() -> None:
    motion = np.sin(np.arange(50) / 3)[:, None, None] * np.ones((1, 2, 2))
    np.testing.assert_allclose(corpus.shift_frames(motion, np.arange(50.0)), motion, atol=1e-6)
    shifted = corpus.shift_frames(motion, np.arange(5, 40) + 0.4)
    np.testing.assert_allclose(shifted[:, 0, 0], np.sin((np.arange(5, 40) + 0.4) / 3), atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_every_item_has_sound_and_motion_of_one_length(seed: int) -> None:
    generator = np.random.default_rng(seed)
    samples, motion, weight = corpus.join([clip("a", seed=1), clip("b", seed=2)], generator)
    assert len(samples) == len(motion) * FRAME_SAMPLES
    assert motion.shape == (len(weight), LOWER_POINTS, 2)
    assert np.isfinite(motion).all()
    assert weight.min() >= 0


def test_motion_keeps_step_with_the_tempo() -> None:
    frames = 100
    clicks = np.zeros(frames * FRAME_SAMPLES, np.float32)
    motion = np.zeros((frames, LOWER_POINTS, 2), np.float32)
    for at in (20, 50, 80):
        clicks[at * FRAME_SAMPLES : (at + 2) * FRAME_SAMPLES] = np.random.default_rng(at).normal(size=2 * FRAME_SAMPLES)
        motion[at : at + 2] = 1
    lengths = set()
    for seed in range(8):
        sound, moved, weight = corpus.other_voice(clicks, motion, np.ones(frames), np.random.default_rng(seed))
        lengths.add(len(moved))
        assert len(weight) == len(moved) == max(1, round(len(sound) / FRAME_SAMPLES))
        whole = sound[: len(sound) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
        loud = np.flatnonzero(whole.std(1) > 0.5 * whole.std(1).max())
        open_frames = np.flatnonzero(moved[:, 0, 0] > 0.5)
        assert all(np.abs(open_frames - at).min() <= 2 for at in loud)
    assert len(lengths) > 3


def test_same_draw_same_item() -> None:
    pools = [Pool([clip("a")], 0.5), Pool([], 0.5)]
    one, two = (corpus.make_item(pools, [clip().samples / 32768.0], np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one.rows, two.rows)
    assert np.array_equal(one.motion, two.motion)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_clips_come_back_from_their_file(tmp_path: Path, count: int) -> None:
    clips = [clip(f"c{i}", 60 + i, seed=i) for i in range(count)]
    corpus.save_clips(tmp_path / "clips.npz", clips)
    loaded = corpus.load_clips(tmp_path / "clips.npz")
    assert [c.name for c in loaded] == [c.name for c in clips]
    for one, two in zip(clips, loaded, strict=True):
        assert np.array_equal(one.samples, two.samples)
        np.testing.assert_allclose(one.motion, two.motion, atol=1e-3)  # stored in half precision
        assert one.words == two.words
    assert [path.name for path in tmp_path.iterdir()] == ["clips.npz"]


def test_a_folder_without_landmarks_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"landmarks\.npz"):
        corpus.read_grid(tmp_path)
