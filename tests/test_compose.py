"""Edits on photographs: nothing changes that should not, and what moves moves by the right amount at any scale."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from emotalk import compose, landmarks

MARGINS = (8.0, 8.0, 8.0, 8.0)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth colour picture: blurred noise, sub-pixel motion is visible in it."""
    noise = np.random.default_rng(seed).random((height, width, 3))
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    return smooth.round().astype(np.uint8)


def similarity(scale: float, degrees: float, centre: tuple[float, float], size: int) -> np.ndarray:
    """Photograph -> grid: `centre` of the photograph falls on the middle of the grid."""
    turn = np.deg2rad(degrees)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale
    return np.hstack([linear, ((size - 1) / 2 - linear @ np.array(centre))[:, None]])


def constant_edit(size: int, flow: tuple[float, float] = (0, 0), gain: float = 1, mask: float = 0) -> compose.NumpyEdit:
    motion = np.zeros((size, size, 4), np.float32)
    motion[:, :] = (*flow, gain - 1, mask)
    return compose.NumpyEdit(motion, np.full((size, size, 3), 255, np.uint8))


@pytest.mark.parametrize("scale", [0.1, 0.7, 1.0, 3.0])
def test_an_edit_that_says_nothing_leaves_the_photograph_as_it_is(scale: float) -> None:
    photograph = texture(300, 400)
    region = compose.Region(300, 400, similarity(scale, 17, (210, 140), 64), 64, MARGINS)
    out = region.apply(photograph, constant_edit(64))
    assert np.array_equal(out, photograph[region.rows, region.columns])
    barely = region.apply(photograph, constant_edit(64, (0.002, 0.0)))  # not skipped as nothing
    assert np.abs(barely.astype(int) - photograph[region.rows, region.columns]).max() <= 2


@pytest.mark.parametrize("scale", [0.15, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("degrees", [0, 30, -75])
def test_constant_flow_moves_pixels_by_the_right_amount(scale: float, degrees: float) -> None:
    """A flow of f grid pixels takes the photograph's pixel from inverse(f) away: turned back and scaled back."""
    size, flow = 64, (2.0, -1.0)
    side = int(90 / scale)
    photograph = cv2.GaussianBlur(texture(side, side), (0, 0), max(1.0, 2 / scale))
    transform = similarity(scale, degrees, (side / 2, side / 2), size)
    region = compose.Region(side, side, transform, size, MARGINS)
    whole = photograph.copy()
    whole[region.rows, region.columns] = region.apply(photograph, constant_edit(size, flow))
    shift = np.linalg.inv(transform[:, :2]) @ flow
    moved = cv2.warpAffine(
        photograph,
        np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
        (side, side),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    )
    near = slice(int(side / 2 - 8 / scale), int(side / 2 + 8 / scale))
    still = np.abs(whole[near, near].astype(int) - photograph[near, near]).mean()
    wrong = np.abs(whole[near, near].astype(int) - moved[near, near]).mean()
    assert still > 4 * wrong
    assert wrong < 1.5


def test_gain_and_mask() -> None:
    photograph = texture(120, 120)
    region = compose.Region(120, 120, similarity(1, 0, (60, 60), 64), 64, MARGINS)
    middle = (slice(20, 40), slice(20, 40))
    before = photograph[region.rows, region.columns][middle].astype(float)
    darker = region.apply(photograph, constant_edit(64, gain=0.5))[middle]
    assert np.abs(darker - before * 0.5).max() <= 0.51
    painted = region.apply(photograph, constant_edit(64, mask=0.25))[middle]
    assert np.abs(painted - (before * 0.75 + 255 * 0.25)).max() <= 1.01


def test_no_seam_at_the_border_of_the_region() -> None:
    """However strong the edit inside, across the border the picture is no rougher than the photograph."""
    photograph = texture(400, 400)
    region = compose.Region(400, 400, similarity(0.4, 12, (200, 200), 64), 64, MARGINS)
    out = photograph.copy()
    out[region.rows, region.columns] = region.apply(photograph, constant_edit(64, (3, 3), gain=0.7, mask=0.5))
    change = out.astype(float) - photograph
    assert np.abs(change).max() > 50
    rows, columns = np.indices((400, 400))
    grid = landmarks.transform_points(region.transform, np.stack([columns, rows], -1).astype(float))
    border = np.abs(np.minimum(grid, 63 - grid).min(-1)) < 0.8  # grid pixels: two photograph pixels on either side
    own = max(np.abs(np.diff(photograph.astype(float), axis=axis)).max() for axis in (0, 1))
    for axis in (0, 1):
        across = np.abs(np.diff(out.astype(float), axis=axis, append=0))[border].max()
        assert across <= own
        assert np.abs(np.diff(change, axis=axis, append=0))[border].max() <= own / 3
    inside = cv2.warpAffine(np.ones((64, 64), np.uint8), region.transform, (400, 400), flags=cv2.WARP_INVERSE_MAP)
    assert np.array_equal(out[inside == 0], photograph[inside == 0])


@pytest.mark.parametrize("centre", [(0.0, 0.0), (110.0, 5.0), (500.0, 500.0)])
def test_faces_cut_by_the_border_of_the_picture(centre: tuple[float, float]) -> None:
    photograph = texture(120, 120)
    region = compose.Region(120, 120, similarity(0.5, 20, centre, 64), 64, MARGINS)
    out = region.apply(photograph, constant_edit(64, (4, 4)))
    assert out.shape == photograph[region.rows, region.columns].shape
    assert region.empty == (centre == (500.0, 500.0))


def test_strips_join_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    photograph = texture(300, 300)
    region = compose.Region(300, 300, similarity(0.4, 25, (150, 150), 64), 64, MARGINS)
    edit = constant_edit(64, (2, -3), gain=0.8, mask=0.3)
    whole = region.apply(photograph, edit)
    monkeypatch.setattr(compose, "STRIP_PIXELS", 1000)
    assert np.abs(region.apply(photograph, edit).astype(int) - whole).max() <= 1  # coordinates round differently


def test_detail_of_a_large_photograph_survives() -> None:
    """What is upsampled is the motion: fine texture stays as sharp as it was."""
    photograph = np.random.default_rng(1).integers(60, 200, (640, 640, 3)).astype(np.uint8)
    region = compose.Region(640, 640, similarity(0.1, 0, (320, 320), 64), 64, MARGINS)
    edit = constant_edit(64, (0.5, 0.0))  # five whole photograph pixels
    out = region.apply(photograph, edit)
    middle = (slice(280, 360), slice(280, 360))
    assert np.array_equal(out[middle], photograph[region.rows, region.columns][280:360, 285:365])


def test_carry_points_inverts_the_flow() -> None:
    """Bend a grid smoothly; the carried point is where the output pixel takes its colour from the landmark."""
    size = 64
    y, x = np.indices((size, size)).astype(np.float32)
    motion = np.dstack([4 * np.sin(y / 9), 3 * np.cos(x / 11), x * 0, x * 0]).astype(np.float32)
    points = np.random.default_rng(2).uniform(12, 52, (30, 2))
    carried, error = compose.carry_points(points, motion)
    assert error.max() < 0.05
    there_x, there_y = carried.astype(np.float32).T[:, :, None]
    flow = cv2.remap(np.ascontiguousarray(motion[:, :, :2]), there_x, there_y, cv2.INTER_LINEAR)[:, 0]
    assert np.abs(carried + flow - points).max() < 0.05
    assert np.abs(carried - points).max() > 2


def test_carry_face_keeps_each_lip_point_on_its_own_lip() -> None:
    """The mouth opens where both lips meet; between the lips the flow is garbage."""
    face = np.zeros((68, 2))
    face[:, 0] = np.linspace(30, 90, 68)
    face[:, 1] = 40
    x = np.linspace(44, 84, 8)
    face[48:60] = np.r_[np.c_[np.linspace(44, 84, 7), np.full(7, 72)], np.c_[np.linspace(80, 48, 5), np.full(5, 92)]]
    face[60:68] = np.concatenate([np.c_[x[[0, 2, 4, 5, 7]], np.full(5, 80)], np.c_[x[[5, 4, 2]], np.full(3, 80)]])
    motion = np.zeros((128, 128, 4), np.float32)
    motion[76:, :, 1] = -8  # everything from the lower lip on comes from 8 px higher: it moved down
    motion[76:88, :, :2] = np.random.default_rng(3).uniform(-9, 9, (12, 128, 2))
    motion[76:80, :, :2] = 0  # the upper lip is at rest
    carried = compose.carry_face(face, motion)
    assert np.allclose(carried[61:64, 1], 80, atol=0.6)
    assert np.allclose(carried[65:68, 1], 88, atol=0.6)


def test_numpy_edits_close_masks_that_are_nearly_shut() -> None:
    shape = (2, 1, 8, 8)
    edits = compose.numpy_edits(np.ones((2, 2, 8, 8)), np.ones(shape), np.full(shape, 0.01), np.zeros((2, 3, 8, 8)))
    assert len(edits) == 2
    assert edits[0].motion[..., 3].max() == 0
    assert edits[0].motion[..., :2].min() == 1
    assert np.allclose(edits[0].colour, 128)


def random_edit(size: int, seed: int) -> compose.NumpyEdit:
    rng = np.random.default_rng(seed)
    motion = rng.normal(size=(size, size, 4)).astype(np.float32)
    motion[..., 3] = rng.random((size, size))
    return compose.NumpyEdit(motion, rng.integers(0, 256, (size, size, 3)).astype(np.uint8))


def test_mixed_edits_lie_between() -> None:
    a, b = random_edit(16, 0), random_edit(16, 1)
    assert compose.mix_edits([a], [1.0]) is a
    assert compose.mix_edits([a, b], [0.0, 1.0]) is b
    half = compose.mix_edits([a, b], [0.5, 0.5])
    np.testing.assert_allclose(half.motion, (a.motion + b.motion) / 2, atol=1e-6)
    by_mask = a.motion[..., 3:] * a.colour + b.motion[..., 3:] * b.colour
    assert np.abs(half.colour - by_mask / (a.motion[..., 3:] + b.motion[..., 3:])).max() <= 0.51
    share = np.tile(np.linspace(0, 1, 16, dtype=np.float32), (16, 1))
    across = compose.mix_edits([a, b], [1 - share, share])
    np.testing.assert_array_equal(across.motion[:, 0], a.motion[:, 0])
    np.testing.assert_array_equal(across.motion[:, -1], b.motion[:, -1])
    np.testing.assert_array_equal(across.colour[:, 0], a.colour[:, 0])


def test_what_is_not_painted_colours_nothing() -> None:
    painted, clear = constant_edit(8, mask=1), constant_edit(8)
    clear.colour[:] = 0  # what a network says where its mask is 0 means nothing
    mixed = compose.mix_edits([painted, clear], [0.25, 0.75])
    assert (mixed.colour == 255).all()
    assert np.allclose(mixed.motion[..., 3], 0.25)
    assert (compose.mix_edits([clear, clear], [0.5, 0.5]).colour == 0).all()


@pytest.mark.parametrize("scale", [0.15, 1.0])
def test_a_part_of_the_region_is_that_part_of_the_whole(scale: float) -> None:
    photograph = texture(300, 400)
    region = compose.Region(300, 400, similarity(scale, 17, (210, 140), 64), 64, MARGINS)
    edit = constant_edit(64, (2, 1), gain=0.8, mask=0.3)
    whole = region.apply(photograph, edit)
    used = np.zeros((64, 64), bool)
    used[24:40, 20:50] = True
    rows, columns = region.part(used)
    assert 0 < (rows.stop - rows.start) * (columns.stop - columns.start) < region.pixels / 2
    np.testing.assert_array_equal(region.edited(photograph, edit, rows, columns), whole[rows, columns])
