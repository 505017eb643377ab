"""Metrics against independent implementations, hand cases, and videos changed by a known amount."""

from __future__ import annotations

import inspect
import math

import cv2
import numpy as np
import pytest

from emotalk import metrics
from emotalk.errors import InputError
from emotalk.landmarks import FACE_UNIT, STABLE, TEMPLATE
from emotalk.metrics import METRICS, NOT_COMPUTED


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def drawn_face() -> np.ndarray:
    """68 points that look enough like a face: the stable ones in place, brows above, mouth below."""
    points = np.zeros((68, 2))
    angle = np.linspace(0, np.pi, 17)
    points[:17] = np.stack([128 - 80 * np.cos(angle), 96 + 120 * np.sin(angle)], 1)
    points[17:22] = np.stack([np.linspace(70, 115, 5), np.full(5, 75.0)], 1)
    points[22:27] = np.stack([np.linspace(141, 186, 5), np.full(5, 75.0)], 1)
    points[27:31] = np.stack([np.full(4, 128.0), np.linspace(92, 135, 4)], 1)
    points[31:36] = np.stack([np.linspace(115, 141, 5), np.full(5, 143.0)], 1)
    for start, x in ((36, 96.0), (42, 160.0)):
        turn = np.pi + np.arange(6) * np.pi / 3
        points[start : start + 6] = np.stack([x + 13 * np.cos(turn), 96 + 5 * np.sin(turn)], 1)
    turn = np.pi + np.arange(12) * np.pi / 6
    points[48:60] = np.stack([128 + 26 * np.cos(turn), 180 + 10 * np.sin(turn)], 1)
    turn = np.pi + np.arange(8) * np.pi / 4
    points[60:68] = np.stack([128 + 20 * np.cos(turn), 180 + 3 * np.sin(turn)], 1)
    points[STABLE] = TEMPLATE
    return points


@pytest.fixture
def face() -> np.ndarray:
    return drawn_face()


@pytest.fixture
def talking(face: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """60 frames whose lower lip moves at random but smoothly."""
    opening = cv2.GaussianBlur(random.random((60, 1)) * 30, (1, 5), 0)
    track = np.repeat(face[None], 60, 0)
    track[:, [55, 56, 57, 58, 59, 65, 66, 67], 1] += opening
    return track


def test_every_metric_says_what_it_is() -> None:
    for key, metric in METRICS.items():
        assert (
            key == metric.key and metric.title and metric.span and metric.better and metric.protocol and metric.source
        )
    assert all(title and why for title, why in NOT_COMPUTED.values())
    public = [f for name, f in inspect.getmembers(metrics, inspect.isfunction) if f.__module__ == metrics.__name__]
    assert all(f.__doc__ for f in public if not f.__name__.startswith("_"))


@pytest.mark.parametrize("shape", [(64, 48, 3), (40, 41)])
def test_psnr_and_ssim_are_those_of_scikit_image(shape: tuple[int, ...], random: np.random.Generator) -> None:
    theirs = pytest.importorskip("skimage.metrics")
    a = random.integers(0, 256, shape, dtype=np.uint8)
    b = np.clip(a + random.normal(0, 20, shape), 0, 255).astype(np.uint8)
    colour = {"channel_axis": 2} if len(shape) == 3 else {}
    assert metrics.psnr(a, b) == pytest.approx(theirs.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)
    assert metrics.ssim(a, b) == pytest.approx(theirs.structural_similarity(a, b, data_range=255, **colour), abs=1e-9)


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    assert metrics.psnr(black, black + 1) == pytest.approx(20 * math.log10(255))
    assert metrics.psnr(black, black) == math.inf
    assert metrics.ssim(black, black) == 1.0


def test_blur_lowers_psnr_ssim_and_sharpness(sample_face: object) -> None:
    picture = cv2.imread(str(sample_face))[::2, ::2, ::-1].copy()
    soft, softer = (cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (1, 3))
    assert metrics.psnr(picture, soft) > metrics.psnr(picture, softer)
    assert 1 > metrics.ssim(picture, soft) > metrics.ssim(picture, softer)
    assert metrics.sharpness(picture) > metrics.sharpness(soft) > metrics.sharpness(softer)


def test_pictures_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        metrics.psnr(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(InputError, match="too small"):
        metrics.ssim(np.zeros((6, 9, 3), np.uint8), np.zeros((6, 9, 3), np.uint8))


def test_landmark_distance_by_hand() -> None:
    one = np.array([[[0.0, 0.0], [2.0, 0.0]]])
    other = np.array([[[10.0, 5.0], [18.0, 5.0]]])  # centred: -4 and 4 against -1 and 1
    assert metrics.landmark_distance(one, other) == pytest.approx(3.0)
    assert metrics.landmark_distance(one, one + 7) == pytest.approx(0.0)
    turned = one[..., ::-1]
    assert metrics.landmark_distance(one, turned) == pytest.approx(math.sqrt(2))  # rotation counts


def test_landmark_distance_is_that_of_a_slow_reference(talking: np.ndarray, random: np.random.Generator) -> None:
    other = talking + random.normal(0, 2, talking.shape)
    total = 0.0
    for a, b in zip(talking, other, strict=True):
        mean_a, mean_b = a.mean(0), b.mean(0)
        total += sum(math.dist(p - mean_a, q - mean_b) for p, q in zip(a, b, strict=True)) / 68
    assert metrics.landmark_distance(talking, other) == pytest.approx(total / len(talking))


def test_frames_without_a_face_are_left_out(talking: np.ndarray) -> None:
    gaps = talking.copy()
    gaps[5:9] = np.nan
    assert metrics.landmark_distance(talking, gaps) == 0.0
    assert metrics.seen(gaps).sum() == 56
    assert np.isfinite(metrics.opening_track(gaps)).all()
    assert math.isnan(metrics.landmark_distance(talking, np.full_like(talking, np.nan)))
    with pytest.raises(InputError, match="no frame shows a face"):
        metrics.fixed_crop(np.full_like(talking, np.nan))


def test_velocity_ignores_a_constant_difference_and_sees_a_delay(talking: np.ndarray) -> None:
    wider = talking.copy()
    wider[:, 48] -= (5, 0)
    assert metrics.landmark_distance(talking, wider) > 0
    assert metrics.velocity_distance(talking, wider) == pytest.approx(0, abs=1e-12)
    delays = [metrics.velocity_distance(talking[: 60 - k], talking[k:]) for k in (0, 1, 3)]
    assert delays[0] == 0 and min(delays[1:]) > 0.05


def test_scaled_distance_does_not_know_the_resolution(talking: np.ndarray, random: np.random.Generator) -> None:
    other = talking + random.normal(0, 2, talking.shape)
    one = metrics.landmark_distance(metrics.scaled(talking), metrics.scaled(other))
    large = metrics.landmark_distance(metrics.scaled(3 * talking), metrics.scaled(other))
    assert one == pytest.approx(large) and one > 0


def test_the_longer_track_is_resampled_to_the_shorter() -> None:
    a, b = metrics.shorter(np.arange(9.0), np.arange(5.0))
    assert a.tolist() == [0, 2, 4, 6, 8] and b.tolist() == [0, 1, 2, 3, 4]


def test_jitter_is_nought_for_steady_motion_and_known_for_a_shaking_one(face: np.ndarray) -> None:
    steps = np.arange(10)[:, None, None]
    assert metrics.jitter(face + steps * np.array([3.0, 1.0])) == pytest.approx(0, abs=1e-9)
    shaking = face + (steps % 2) * np.array([2.0, 0.0])  # second difference of 4 pixels everywhere
    distance = float(metrics.eye_distances(face[None])[0])
    assert metrics.jitter(shaking) == pytest.approx(4 / distance)
    assert math.isnan(metrics.jitter(shaking[:2]))


def test_opening_does_not_know_where_the_head_is(talking: np.ndarray) -> None:
    turn = 2.5 * np.array([[0.96, -0.28], [0.28, 0.96]])
    moved = talking @ turn.T + (300, 40)
    assert metrics.opening_track(moved) == pytest.approx(metrics.opening_track(talking), abs=1e-6)
    assert metrics.as_fixed_crop(moved) == pytest.approx(metrics.as_fixed_crop(talking), abs=1e-6)


@pytest.mark.parametrize("late", [-5, -1, 0, 2, 5])
def test_the_lag_is_found(late: int, random: np.random.Generator) -> None:
    sound = random.random(200).cumsum() % 5
    track = np.roll(sound, late)
    found = metrics.lag_correlations(track, sound)
    assert metrics.best_lag(found) == late
    assert found[metrics.MOST_LAG] <= np.nanmax(found)


def test_too_short_a_clip_has_no_lag() -> None:
    assert metrics.best_lag(metrics.lag_correlations(np.arange(10.0), np.arange(10.0))) is None
    assert math.isnan(metrics.correlation(np.ones(50), np.arange(50.0)))


def test_drift_is_found(random: np.random.Generator) -> None:
    sound = random.random(300)
    steady = np.roll(sound, 2)
    assert metrics.drift(steady, sound) == 0
    drifting = np.concatenate([sound[:150], np.roll(sound, 4)[150:]])
    assert metrics.drift(drifting, sound) == 4


def test_lips_closed_in_silence() -> None:
    opening = np.array([0.0, 0.02, 0.2, 0.3])
    assert metrics.closed_share(opening, np.array([True, True, True, False])) == pytest.approx(2 / 3)
    assert math.isnan(metrics.closed_share(opening, np.zeros(4, bool)))


def test_background_is_what_lies_away_from_the_head(face: np.ndarray) -> None:
    where = metrics.head_mask(500, 900, face[None])
    assert where[10, 890] and not where[100, 128] and not where[10, 128]  # hair belongs to the head
    picture = np.full((500, 900, 3), 100, np.uint8)
    assert metrics.changed_share(picture + 4, picture, where) == 0  # compression
    other = picture.copy()
    other[where] += 20
    assert metrics.changed_share(other, picture, where) == 1
    assert metrics.changed_share(np.where(where[..., None], picture, 0).astype(np.uint8), picture, where) == 0
    assert math.isnan(metrics.changed_share(picture, picture, np.zeros_like(where)))


def test_strength_grows_with_the_expression_and_not_with_the_head(face: np.ndarray) -> None:
    def smile(amount: float) -> np.ndarray:
        points = face.copy()
        points[48] += (-amount, -amount)
        points[54] += (amount, -amount)
        return points

    values = [metrics.expression_strength(smile(k)[None] * 2 + 50, face) for k in (0, 4, 8)]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[1] == pytest.approx(2 * 4 / FACE_UNIT, rel=0.02)  # four coordinates of 4 pixels each
    assert values[2] == pytest.approx(2 * values[1])


def test_order_counts_pairs_of_different_wishes() -> None:
    assert metrics.order_share([1.0, 2.0, 3.0], [1, 2, 3]) == (3, 3)
    assert metrics.order_share([3.0, 2.0, 1.0], [1, 2, 3]) == (0, 3)
    assert metrics.order_share([1.0, 5.0, 3.0], [1, 1, 3]) == (1, 2)
