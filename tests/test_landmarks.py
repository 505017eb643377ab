"""Landmark geometry: crop, PCA basis, line drawings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotalk import landmarks as lm
from emotalk.errors import LandmarkError

angles = st.floats(-3.1, 3.1)
scales = st.floats(0.05, 20)
shifts = st.floats(-500, 5000)


def face(seed: int = 0) -> np.ndarray:
    """Points of a made-up face in the canonical crop: the stable ones where the template has them."""
    points = np.random.default_rng(seed).uniform(40, 216, (lm.POINTS, 2))
    points[lm.STABLE] = lm.TEMPLATE
    return points


def similarity(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


def test_the_parts_cover_all_points_once() -> None:
    parts = [lm.JAW, lm.LEFT_BROW, lm.RIGHT_BROW, lm.NOSE_BRIDGE, lm.NOSE_BASE, lm.LEFT_EYE, lm.RIGHT_EYE, lm.MOUTH]
    assert sorted(i for part in parts for i in range(68)[part]) == list(range(68))
    assert lm.LOWER_POINTS == 37
    lower = np.arange(68)[lm.LOWER_FACE]
    np.testing.assert_array_equal(lower[lm.LOWER_MOUTH_OUTER], np.arange(68)[lm.MOUTH_OUTER])
    np.testing.assert_array_equal(lower[lm.LOWER_MOUTH_INNER], np.arange(68)[lm.MOUTH_INNER])
    np.testing.assert_array_equal(lower[lm.LOWER_JAW], np.arange(68)[lm.JAW])


def test_the_template_has_level_eyes_one_face_unit_apart() -> None:
    left, right = lm.TEMPLATE[:2].mean(0), lm.TEMPLATE[2:4].mean(0)
    np.testing.assert_allclose(right - left, (lm.FACE_UNIT, 0), atol=1e-9)
    np.testing.assert_allclose((left + right) / 2, (lm.CROP_SIZE / 2, lm.EYE_LINE), atol=1e-9)


@given(angles, scales, shifts, shifts)
def test_any_turned_scaled_moved_face_comes_back_to_the_crop(angle: float, scale: float, x: float, y: float) -> None:
    points = face()
    picture = lm.transform_points(similarity(angle, scale, x, y), points)
    back = lm.crop_transform(picture)
    np.testing.assert_allclose(lm.transform_points(back, picture), points, atol=1e-6)
    half = lm.crop_transform(picture, lm.CROP_SIZE // 2)
    np.testing.assert_allclose(lm.transform_points(half, picture), points / 2, atol=1e-6)


@given(angles, scales, shifts, shifts)
def test_invert_undoes(angle: float, scale: float, x: float, y: float) -> None:
    matrix, points = similarity(angle, scale, x, y), face()
    there = lm.transform_points(matrix, points)
    np.testing.assert_allclose(lm.transform_points(lm.invert_transform(matrix), there), points, atol=1e-6)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((106, 2)), "shape"),
        (np.full((68, 2), np.nan), "NaN"),
        (np.full((68, 2), 30.0), "fall together"),
    ],
)
def test_malformed_landmarks_are_refused(points: np.ndarray, message: str) -> None:
    with pytest.raises(LandmarkError, match=message):
        lm.crop_transform(points)


@given(st.integers(-20, 20), st.integers(-20, 20))
@settings(max_examples=25)
def test_moving_landmarks_by_whole_pixels_rolls_the_drawing(dx: int, dy: int) -> None:
    points = lm.TEMPLATE.mean(0) + (face() - lm.TEMPLATE.mean(0)) * 0.6  # far enough from the border
    still, moved = lm.draw_curves(points, 256, 256), lm.draw_curves(np.add(points, (dx, dy)), 256, 256)
    np.testing.assert_array_equal(moved, np.roll(still, (dy, dx), (0, 1)))


def test_a_drawing_is_lines_and_stays_in_range() -> None:
    drawing = lm.draw_curves(face(), 200, 256)
    assert drawing.shape == (200, 256) and drawing.dtype == np.float32
    assert drawing.min() == 0 and 0.5 < drawing.max() <= 1
    assert 0.01 < (drawing > 0).mean() < 0.6


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
@settings(max_examples=25)
def test_a_face_far_outside_leaves_the_picture_empty(x: float, y: float) -> None:
    far = np.where(np.abs([x, y]) < 300, 300, [x, y])
    assert not lm.draw_curves(np.add(face(), far), 64, 64).any()


def test_the_mouth_opening_of_all_points_and_of_the_lower_face_agree() -> None:
    points = face()
    points[[61, 62, 63]] = [(10, 5), (20, 5), (30, 5)]
    points[[67, 66, 65]] = [(10, 12), (20, 12), (30, 12)]
    assert lm.mouth_opening(points) == pytest.approx(7)
    assert lm.mouth_opening(points[lm.LOWER_FACE]) == pytest.approx(7)
    track = np.stack([points, points * 2])
    np.testing.assert_allclose(lm.mouth_opening(track), [7, 14])


def corpus(count: int = 200) -> np.ndarray:
    """Displacements with a few strong and many weak directions."""
    random = np.random.default_rng(1)
    strength = 0.8 ** np.arange(74)
    return ((random.normal(size=(count, 74)) * strength) @ random.normal(size=(74, 74))).reshape(count, 37, 2)


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_coefficients_survive_decoding(size: int, seed: int) -> None:
    basis = lm.Basis.fit(corpus(), size)
    coefficients = np.random.default_rng(seed).normal(size=(5, size))
    np.testing.assert_allclose(basis.encode(basis.decode(coefficients)), coefficients, atol=1e-3)


def test_the_basis_is_orthonormal_and_its_error_falls_with_size() -> None:
    rows = corpus()
    errors = []
    for size in (1, 2, 5, 10, 20):
        basis = lm.Basis.fit(rows, size)
        np.testing.assert_allclose(basis.components @ basis.components.T, np.eye(size), atol=1e-5)
        assert (np.diff(basis.scale) <= 0).all()
        errors.append(np.square(basis.decode(basis.encode(rows)) - rows).mean())
    assert (np.diff(errors) < 0).all()
    assert np.std(basis.encode(rows), axis=0) == pytest.approx(np.ones(20), abs=0.01)


def test_too_few_frames_for_a_basis_are_refused() -> None:
    with pytest.raises(LandmarkError, match="too few"):
        lm.Basis.fit(corpus(20), 20)
