"""Heads move by the right amount, as a whole and smoothly, and nothing else does."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from test_pipeline import canonical_face

from emotalk import head_motion, landmarks
from emotalk.head_motion import HeadMotion, head_ellipse
from emotalk.life import POSE, POSE_LIMITS

HEIGHT, WIDTH = 600, 640
SCALE, PLACE = 0.8, np.array([320.0, 300.0])  # picture pixels per canonical one, and where the face's middle lies


def texture() -> np.ndarray:
    noise = np.random.default_rng(0).random((HEIGHT, WIDTH, 3))
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)


def crop(scale: float = SCALE, degrees: float = 0.0) -> np.ndarray:
    turn = np.deg2rad(degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / scale
    return np.hstack([linear, (np.array([128.0, 128.0]) - linear @ PLACE)[:, None]])


def head(scale: float = SCALE, degrees: float = 0.0) -> HeadMotion:
    return HeadMotion(HEIGHT, WIDTH, crop(scale, degrees), canonical_face())


def pose(**parts: float) -> np.ndarray:
    return np.array([parts.get(name, 0.0) for name in POSE])


def moved(motion: HeadMotion, wanted: np.ndarray, picture: np.ndarray) -> np.ndarray:
    frame = picture.copy()
    motion.move(frame[motion.rows, motion.columns], wanted)
    return frame


def distance(before: np.ndarray, after: np.ndarray, at: np.ndarray, side: int = 24) -> np.ndarray:
    """How far the patch around a point moved, by matching it: (2,) pixels."""
    x, y = at.round().astype(int)
    patch = before[y - side : y + side, x - side : x + side]
    reach = after[y - side - 12 : y + side + 12, x - side - 12 : x + side + 12]
    match = -cv2.matchTemplate(reach, patch, cv2.TM_SQDIFF)
    row, column = np.unravel_index(match.argmax(), match.shape)
    return np.array([column - 12, row - 12])


def on_picture(point: tuple[float, float]) -> np.ndarray:
    return landmarks.transform_points(landmarks.invert_transform(crop()), np.array(point))


@pytest.mark.parametrize(("degrees", "scale"), [(0, 0.8), (25, 0.5)])
def test_at_rest_nothing_changes(degrees: float, scale: float) -> None:
    picture = texture()
    assert np.array_equal(moved(head(scale, degrees), np.zeros(6), picture), picture)
    assert np.array_equal(moved(head(scale, degrees), np.full(6, 1e-6), picture), picture)


def test_shifts_move_the_face_by_distances_of_the_eyes() -> None:
    picture = texture()
    for wanted, expected in ((pose(right=0.1), (0.1, 0)), (pose(down=-0.1), (0, -0.1))):
        found = distance(picture, moved(head(), wanted, picture), on_picture((128, 128)))
        assert np.abs(found - np.array(expected) * 64 * SCALE).max() <= 1


def test_a_tilt_is_a_rotation_about_the_neck() -> None:
    picture = texture()
    after = moved(head(), pose(roll=3), picture)
    pivot = np.array([128, canonical_face()[8, 1] + head_motion.NECK])
    for point in ((128, 60), (128, 150), (90, 100)):
        arm = np.array(point) - pivot
        expected = np.deg2rad(3) * np.array([-arm[1], arm[0]]) * SCALE
        assert np.abs(distance(picture, after, on_picture(point)) - expected).max() <= 1


def test_a_turn_moves_the_middle_of_the_face_and_not_its_outline() -> None:
    picture = texture()
    after = moved(head(), pose(yaw=5), picture)
    centre, radii = head_ellipse(canonical_face())
    assert distance(picture, after, on_picture((128, 130)))[0] >= 2
    assert np.abs(distance(picture, after, on_picture((centre[0] + radii[0], centre[1])), 8)).max() <= 1
    assert np.array_equal(
        picture[:, : int(PLACE[0] - radii[0] * SCALE) - 8], after[:, : int(PLACE[0] - radii[0] * SCALE) - 8]
    )


@pytest.mark.parametrize("scale", [0.3, 0.8])
def test_the_background_is_the_photograph(scale: float) -> None:
    picture = texture()
    motion = head(scale)
    after = moved(motion, POSE_LIMITS * motion.room, picture)
    assert (after != picture).any()
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[motion.rows, motion.columns] = False
    assert np.array_equal(after[outside], picture[outside])
    for border in (after[0] == picture[0], after[-1] == picture[-1], after[:, 0] == picture[:, 0]):
        assert border.all()


@pytest.mark.parametrize("scale", [0.2, 0.8, 1.6, 3.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_nothing_folds_however_close_the_border(scale: float, sign: int) -> None:
    """Move a picture of coordinates: along every row x must rise, along every column y."""
    motion = head(scale)
    assert ((motion.room > 0) & (motion.room <= 1)).all()
    x, y = np.meshgrid(np.arange(WIDTH) * 250.0 / WIDTH, np.arange(HEIGHT) * 250.0 / HEIGHT)
    ramp = np.stack([x, y, x], -1).astype(np.float32)
    frame = ramp.copy()
    motion.move(frame[motion.rows, motion.columns], sign * POSE_LIMITS * motion.room)
    assert np.diff(frame[..., 0], axis=1).min() > -0.01
    assert np.diff(frame[..., 1], axis=0).min() > -0.01


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = texture()
    whole = moved(head(), POSE_LIMITS * 0.5, picture)
    monkeypatch.setattr(head_motion, "STRIP_PIXELS", 5_000)
    assert np.abs(moved(head(), POSE_LIMITS * 0.5, picture).astype(int) - whole).max() <= 1


def test_a_little_more_pose_is_a_little_more_motion() -> None:
    picture = texture()
    frames = [moved(head(), pose(yaw=0.1 * n, roll=0.05 * n), picture).astype(int) for n in range(8)]
    jumps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert max(jumps) < 1.6 * min(jumps)
