"""The puppet corpus: rig, rasteriser, fit, the truth of a move, speech shapes, the arrays on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny_rig import Person, frontal, kit, landmarks_of, paint, save_corpus, save_kit

from emotalk.emotions import EMOTIONS, Emotion, condition_vector
from emotalk.errors import InputError
from emotalk.landmarks import (
    CROP_SIZE,
    FACE_UNIT,
    LOWER_FACE,
    MOUTH_INNER,
    STABLE,
    TEMPLATE,
    mouth_opening,
)
from emotalk.synth.corpus import (
    ARRAYS,
    PuppetConfig,
    PuppetMaker,
    build_corpus,
    canonical_crop,
    open_corpus,
    read_photos,
    rig_names,
)
from emotalk.synth.expressions import EMOTION_SHAPES, LEVEL_STRENGTH, MOUTH_SHAPES, strength
from emotalk.synth.fit import close_lips, fit_rig, solve_pose
from emotalk.synth.puppet import Pose3, Puppet
from emotalk.synth.raster import rasterise, vertex_normals
from emotalk.synth.rig import LOWER_TEETH_DROP, PARTS, UPPER_TEETH_DROP, Rig
from emotalk.synth.speech import speech_bank, speech_shapes

CONFIG = PuppetConfig(faces=10, per_face=4, seed=5)
PEOPLE = [
    Person("photos/anna_1.png", grey=True, who=(0.5, -0.5, 0.0), expression={"jawOpen": 0.4}),
    Person("photos/bert_2.png", who=(-0.5, 1.0, 0.5)),
    Person("photos/carl_3.png", lost=True),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig.load(save_kit(tmp_path_factory.mktemp("kit")))


@pytest.fixture(scope="module")
def puppet(rig: Rig) -> Puppet:
    """A person with a closed mouth in the canonical crop."""
    points = landmarks_of(rig, Person("", who=(0.5, -0.5, 0.2)))
    return Puppet(rig, paint(points), points)


@pytest.fixture(scope="module")
def maker(rig: Rig) -> PuppetMaker:
    return PuppetMaker(rig, np.stack([rig.weights({"jawOpen": 0.4, "mouthStretch": 0.1})]))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_corpus(tmp_path_factory.mktemp("data"), PEOPLE)


@pytest.fixture(scope="module")
def corpus(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Every array of the corpus, built in one go."""
    return arrays(build_corpus(data, tmp_path_factory.mktemp("whole"), CONFIG))


def arrays(corpus: Any) -> dict[str, np.ndarray]:
    return {name: np.array(a) for name, a in corpus.arrays.items()} | {"done": np.array(corpus.done)}


# rig


def test_the_rig_is_reduced_to_the_drawn_parts(rig: Rig) -> None:
    whole = kit()
    ranges = dict(zip(whole["part_names"].tolist(), whole["part_vertex_ranges"].tolist(), strict=True))
    first, last = ranges["face"]
    assert len(rig.neutral) == len(whole["neutral"]) - 20  # the eyeball is not drawn
    assert rig.face == last - first + 1
    assert np.array_equal(rig.neutral[: rig.face], whole["neutral"][first : last + 1])
    assert np.array_equal(rig.neutral[rig.landmarks], whole["neutral"][whole["landmarks68"]])
    assert rig.identity.dtype == rig.expression.dtype == rig.neutral.dtype == np.float32
    for part, name in enumerate(PARTS):
        inside = ((whole["triangles"] >= ranges[name][0]) & (whole["triangles"] <= ranges[name][1])).all(1)
        before, after = whole["triangles"][inside], rig.triangles[rig.part == part]
        assert len(after) == len(before)
        assert np.array_equal(rig.neutral[after][..., 0], whole["neutral"][before][..., 0])


def test_teeth_hang_lower_than_in_the_file(rig: Rig) -> None:
    teeth, before = rig.neutral[-40:, 1], kit()["neutral"][-40:, 1]
    np.testing.assert_allclose(teeth[:20], before[:20] - UPPER_TEETH_DROP, atol=1e-5)
    np.testing.assert_allclose(teeth[20:], before[20:] - LOWER_TEETH_DROP, atol=1e-5)


def test_a_rig_is_found_by_folder_or_file(rig: Rig, tmp_path: Path) -> None:
    file = save_kit(tmp_path) / "ict_facekit_light.npz"
    assert np.array_equal(Rig.load(file).neutral, rig.neutral)
    assert np.array_equal(Rig.load(tmp_path).neutral, rig.neutral)


def test_what_is_no_rig_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "ict_facekit_light.npz"
    with pytest.raises(InputError, match=r"no face rig at .*ict_facekit_light\.npz"):
        Rig.load(tmp_path)
    np.savez(file, neutral=np.zeros((3, 3)))
    cut = file.read_bytes()[:-40]
    without_jaw = kit() | {"expression_names": np.array([f"x{i}" for i in range(len(kit()["expression_names"]))])}
    for content in (None, cut, b"", b"no rig at all", without_jaw):
        if isinstance(content, dict):
            np.savez(file, **content)
        elif content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match="not the light ICT face rig") as caught:
            Rig.load(file)
        assert "\n" not in str(caught.value)


def test_a_name_without_side_sets_both(rig: Rig) -> None:
    set_ = rig.weights({"mouthSmile": 0.5, "jawOpen": 0.3, "browDown_L": 0.2})
    named = {name: float(w) for name, w in zip(rig.names, set_, strict=True) if w}
    assert named == pytest.approx({"mouthSmile_L": 0.5, "mouthSmile_R": 0.5, "jawOpen": 0.3, "browDown_L": 0.2})


def test_mirrored_weights_move_the_other_side(rig: Rig) -> None:
    weights = np.random.default_rng(0).random(len(rig.names)).astype(np.float32)
    assert np.array_equal(rig.mirror(rig.mirror(weights)), weights)
    assert np.array_equal(rig.mirror(np.stack([weights, weights]))[1], rig.mirror(weights))
    marks = rig.neutral[rig.landmarks]
    twins = np.linalg.norm(marks[:, None] * (-1, 1, 1) - marks, axis=2) < 1e-3
    there, back = rig.moved(weights)[rig.landmarks], rig.moved(rig.mirror(weights))[rig.landmarks]
    for k in range(60):  # the inner lips lie in one place, upper and lower
        (j,) = np.flatnonzero(twins[k])
        np.testing.assert_allclose(back[j], there[k] * (-1, 1, 1), atol=2e-3)  # half precision of the file


def test_the_subjects_left_is_the_pictures_right(rig: Rig) -> None:
    still, smile = (frontal().project(rig.skin(np.zeros(3), rig.weights(w))) for w in ({}, {"mouthSmile_L": 1.0}))
    moved = np.linalg.norm(smile - still, axis=1)[rig.landmarks]
    assert moved[54] > 5 > 1 > moved[48]


def test_moved_is_linear_and_skin_adds_the_person(rig: Rig) -> None:
    a, b = rig.weights({"jawOpen": 0.5}), rig.weights({"mouthSmile": 0.7, "browDown": 0.3})
    np.testing.assert_allclose(rig.moved(a + 2 * b), rig.moved(a) + 2 * rig.moved(b), atol=1e-5)
    who = np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(
        rig.skin(who, a) - rig.skin(np.zeros(3), a), rig.identity[0] - 2 * rig.identity[1], atol=1e-5
    )


def test_every_named_expression_is_in_the_rig(rig: Rig) -> None:
    for table in (*EMOTION_SHAPES.values(), *MOUTH_SHAPES.values()):
        assert set(np.round(rig.weights(table)[rig.weights(table) > 0], 3)) == set(
            np.round(np.float32(list(table.values())), 3)
        )


# rasteriser


def slow_raster(
    points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of every triangle at every pixel by solving for the plane; the nearest wins."""
    y, x = np.mgrid[:height, :width]
    index, nearest = np.full((height, width), -1), np.full((height, width), -np.inf)
    for k, corners in enumerate(triangles):
        system = np.c_[points[corners], np.ones(3)]
        if np.linalg.det(system) >= 0:
            continue
        shares = np.linalg.inv(system.T) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])  # (3, pixels)
        z = (depth[corners] @ shares).reshape(height, width)
        wins = (shares.min(0) >= 0).reshape(height, width) & (z > nearest)
        index[wins], nearest[wins] = k, z[wins]
    return index, nearest


def test_the_rasteriser_agrees_with_a_slow_one() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-8, 40, (60, 2)).astype(np.float32)
    depth = rng.uniform(0, 10, 60).astype(np.float32)
    triangles = rng.permutation(60).reshape(20, 3).astype(np.int32)
    index, weights = rasterise(points, depth, triangles, 24, 32)
    wanted, nearest = slow_raster(points.astype(np.float64), depth.astype(np.float64), triangles, 24, 32)

    assert 0.2 < (wanted >= 0).mean() < 0.95
    assert (index == wanted).mean() > 0.995  # a pixel exactly on an edge may go either way
    same = (index == wanted) & (index >= 0)
    np.testing.assert_allclose(weights[same].sum(1), 1, atol=1e-4)
    y, x = np.nonzero(same)
    corners = triangles[index[same]]
    np.testing.assert_allclose(np.einsum("pk,pkd->pd", weights[same], points[corners]), np.c_[x, y], atol=1e-2)
    np.testing.assert_allclose((weights[same] * depth[corners]).sum(1), nearest[same], atol=1e-2)
    assert not weights[index < 0].any()


def test_triangles_seen_from_behind_or_off_the_picture_are_not_drawn() -> None:
    points = np.array([[2, 2], [2, 20], [20, 2], [-50, -50], [-50, -40], [-40, -50]], np.float32)
    depth = np.zeros(6, np.float32)
    front, _ = rasterise(points, depth, np.array([[0, 1, 2]], np.int32), 24, 24)
    behind, _ = rasterise(points, depth, np.array([[0, 2, 1]], np.int32), 24, 24)
    away, _ = rasterise(points, depth, np.array([[3, 4, 5]], np.int32), 24, 24)
    assert (front >= 0).sum() == 190  # the pixel centres of the triangle, its border included
    assert (behind < 0).all() and (away < 0).all()


def test_normals_of_a_plane_and_of_a_sphere() -> None:
    plane = np.array([[0, 0, 5], [1, 0, 5], [0, 1, 5], [1, 1, 5]], np.float32)
    normals = vertex_normals(plane, np.array([[0, 1, 2], [1, 3, 2]], np.int32))
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 4, atol=1e-6)

    turn, rise = np.meshgrid(np.linspace(0, 2 * np.pi, 40, endpoint=False), np.linspace(-1.2, 1.2, 20))
    ball = np.stack([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)], 2).reshape(-1, 3)
    row, column = (i.ravel() for i in np.meshgrid(np.arange(19), np.arange(40), indexing="ij"))
    a, b = row * 40 + column, row * 40 + (column + 1) % 40
    faces = np.r_[np.c_[a, b, b + 40], np.c_[a, b + 40, a + 40]].astype(np.int32)
    around = vertex_normals((3 * ball).astype(np.float32), faces)
    inner = slice(40, -40)
    assert (around[inner] * ball[inner]).sum(1).min() > 0.995


# fit


def test_a_pose_is_found_exactly(rig: Rig) -> None:
    turn = Rotation.from_euler("yxz", [20, -12, 8], degrees=True).as_matrix()
    marks = rig.neutral[rig.landmarks].astype(np.float64)
    points = frontal(7.5, turn).project(marks.astype(np.float32)).astype(np.float64)
    pose = solve_pose(marks, points, np.ones(68))
    np.testing.assert_allclose(pose.rotation, turn, atol=1e-4)
    assert pose.scale == pytest.approx(7.5, rel=1e-4)
    np.testing.assert_allclose(pose.offset, [128, 96], atol=1e-2)
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(pose.depth(rig.neutral), rig.neutral @ turn[2], atol=1e-3)


def test_no_other_pose_is_nearer_to_imperfect_points(rig: Rig) -> None:
    rng = np.random.default_rng(0)
    turn = Rotation.from_euler("yx", [15, -10], degrees=True).as_matrix()
    marks = rig.neutral[rig.landmarks].astype(np.float64)
    points = frontal(9.0, turn).project(rig.neutral)[rig.landmarks] + rng.normal(0, 6, (68, 2))
    weight = rng.uniform(0.3, 1.5, 68)

    def error(rotation: np.ndarray, scale: float, offset: np.ndarray) -> float:
        placed = marks @ rotation[:2].T * scale * (1, -1) + offset
        return float(((placed - points) ** 2 * weight[:, None]).sum())

    pose = solve_pose(marks, points, weight)
    best = error(pose.rotation, pose.scale, pose.offset)
    middle = (marks * weight[:, None]).sum(0) / weight.sum()
    for axis in np.r_[np.eye(3), -np.eye(3)]:
        rotation = Rotation.from_rotvec(axis * 0.003).as_matrix() @ pose.rotation
        offset = pose.offset + pose.scale * ((pose.rotation - rotation)[:2] @ middle) * (1, -1)  # about the middle
        assert error(rotation, pose.scale, offset) > best
    for scale in (0.998, 1.002):
        offset = pose.offset + (1 - scale) * pose.scale * (pose.rotation[:2] @ middle) * (1, -1)
        assert error(pose.rotation, pose.scale * scale, offset) > best
    for shift in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        assert error(pose.rotation, pose.scale, pose.offset + shift) > best


def test_the_fit_finds_pose_person_and_expression(rig: Rig) -> None:
    who, shown = np.array([1.0, -1.0, 0.8]), rig.weights({"jawOpen": 0.6, "mouthSmile_L": 0.5, "browInnerUp": 0.7})
    turn = Rotation.from_euler("yx", [10, 5], degrees=True).as_matrix()
    points = frontal(11.0, turn).project(rig.skin(who, shown))[rig.landmarks].astype(np.float64)
    fit = fit_rig(rig, points)
    assert fit.error < 0.003
    assert np.degrees(Rotation.from_matrix(fit.pose.rotation @ turn.T).magnitude()) < 2
    assert fit.pose.scale == pytest.approx(11.0, rel=0.02)
    np.testing.assert_allclose(fit.who, who, atol=0.6)
    found = {name: float(w) for name, w in zip(rig.names, fit.expression, strict=True)}
    assert found["jawOpen"] == pytest.approx(0.6, abs=0.15)
    assert found["mouthSmile_L"] > 0.25 > 0.15 > found["mouthSmile_R"]
    assert found["browInnerUp_L"] > 0.15 and found["browInnerUp_R"] > 0.15
    assert fit.expression.min() >= 0 and np.abs(fit.who).max() <= 2.5


def test_what_is_believed_beforehand_decides_where_points_cannot(rig: Rig) -> None:
    points = landmarks_of(rig, Person("", expression={"mouthSmile": 0.4}))
    smile = rig.names.index("mouthSmile_L")
    sure, unsure = fit_rig(rig, points, {"mouthSmile_L": 0.4, "mouthSmile_R": 0.4}), fit_rig(rig, points)
    assert abs(sure.expression[smile] - 0.4) < 0.5 * abs(unsure.expression[smile] - 0.4)


def test_wrong_landmarks_do_not_fit(rig: Rig) -> None:
    points = np.random.default_rng(0).permutation(landmarks_of(rig, Person("")))
    assert fit_rig(rig, points).error > 0.05


def test_the_lips_of_a_closed_mouth_are_brought_together(rig: Rig) -> None:
    points = landmarks_of(rig, Person(""))
    points[[61, 62, 63], 1] -= 0.8
    points[[65, 66, 67], 1] += 0.8
    together, closed = close_lips(points)
    assert closed
    assert mouth_opening(together) == 0
    outer = np.r_[0:61, 64]
    assert np.array_equal(together[outer], points[outer])
    np.testing.assert_allclose(together[62], (points[62] + points[66]) / 2)
    open_ = landmarks_of(rig, Person("", expression={"jawOpen": 0.4}))
    kept, closed = close_lips(open_)
    assert not closed and np.array_equal(kept, open_)


def test_a_closed_mouth_is_not_opened_by_the_fit(rig: Rig) -> None:
    points = landmarks_of(rig, Person(""))
    points[[65, 66, 67], 1] += 1.2
    fit = fit_rig(rig, points, {"jawOpen": 1.0, "mouthFunnel": 0.5, "mouthUpperUp_L": 0.5, "mouthLowerDown_R": 0.5})
    opening = [
        i for i, n in enumerate(rig.names) if n.startswith(("jawOpen", "mouthFunnel", "mouthUpper", "mouthLower"))
    ]
    assert len(opening) == 6 and not fit.expression[opening].any()


# puppet


def shape(puppet: Puppet, **weights: float) -> Pose3:
    return puppet.pose(puppet.rig.weights(weights))


def between_lips(puppet: Puppet, pose: Pose3, grow: float) -> np.ndarray:
    """Pixels within the inner lips, grown by some pixels: (H, W) bool."""
    area = np.zeros(puppet.image.shape[:2], np.uint8)
    cv2.fillPoly(area, [np.round(puppet.points68(pose)[MOUTH_INNER] * 16).astype(np.int32)], 1, shift=4)
    return cv2.distanceTransform(1 - area, cv2.DIST_L2, 5) <= grow


def test_the_shown_pose_lies_on_the_landmarks(rig: Rig) -> None:
    """Also where the rig cannot follow; open lips a little wider than they were read."""
    points = landmarks_of(rig, Person("", expression={"jawOpen": 0.4}))
    points += np.random.default_rng(0).normal(0, 0.8, points.shape)
    puppet = Puppet(rig, paint(points), points)
    shown = puppet.points68(puppet.pose(None))
    rest = np.delete(np.arange(68), [61, 62, 63, 65, 66, 67])
    assert np.abs(shown - points)[rest].max() < 0.4
    assert 0 < mouth_opening(shown) - mouth_opening(points) < 4


def test_a_move_to_itself_is_nothing(puppet: Puppet) -> None:
    for pose in (puppet.pose(None), shape(puppet, mouthSmile=0.5, browDown=0.7)):
        move = puppet.move(pose, pose)
        assert not move.flow.any() and not move.mask.any() and (move.gain == 1).all()
        assert np.array_equal(move.apply(puppet.image), puppet.image)


def test_flow_is_the_known_motion_of_the_skin(puppet: Puppet) -> None:
    """Output p takes the input at p + flow: at a landmark of the goal lies the same landmark of the start."""
    a, b = puppet.pose(None), shape(puppet, mouthSmile=1.0, browInnerUp=1.0, noseSneer=1.0)
    move = puppet.move(a, b)
    start, goal = puppet.points68(a), puppet.points68(b)
    skin = np.r_[17:36, 48:60]  # not the rim, nor where the mesh ends
    x, y = np.round(goal[skin]).astype(int).T
    error = np.linalg.norm(move.flow[y, x] - (start - goal)[skin], axis=1)
    assert np.linalg.norm(start - goal, axis=1)[skin].max() > 5
    assert error.mean() < 0.5 and error.max() < 1.2
    vertices = np.setdiff1d(np.arange(puppet.rig.face), puppet.rig.landmarks)
    at = b.points[vertices]
    inner = (np.abs(at - (128, 140)) < (60, 60)).all(1) & (np.abs(at - (128, 168)) > (35, 20)).any(1)
    x, y = np.round(at[inner]).astype(int).T
    wanted = (a.points - b.points)[vertices][inner]
    assert inner.sum() > 50
    assert np.linalg.norm(move.flow[y, x] - wanted, axis=1).mean() < 0.4


def test_far_from_the_face_nothing_moves(puppet: Puppet) -> None:
    move = puppet.move(puppet.pose(None), shape(puppet, jawOpen=0.8, browInnerUp=1.0))
    border = np.ones(move.mask.shape, bool)
    border[8:, 8:-8] = False
    border[200:] = False  # the tiny mesh ends at the throat and takes it along
    assert np.abs(move.flow[border]).max() < 0.5
    assert np.abs(move.flow).max() > 8
    assert np.abs(move.gain[border] - 1).max() < 1e-3


@pytest.mark.parametrize("weights", [{"mouthSmile": 1.0}, {"mouthFrown": 1.0}, {"browDown": 1.5, "eyeBlink": 1.4}, {}])
def test_a_closed_mouth_stays_closed(rig: Rig, weights: dict[str, float]) -> None:
    points = landmarks_of(rig, Person(""))
    points += np.random.default_rng(3).normal(0, 0.3, points.shape)  # lips read slightly apart or crossed
    puppet = Puppet(rig, paint(points), points, {"jawOpen": 0.6})
    pose = shape(puppet, **weights)
    move = puppet.move(puppet.pose(None), pose)
    assert puppet.closed
    assert mouth_opening(puppet.points68(pose)) < 0.5
    assert (move.mask > 0.5).sum() < 8


def test_an_open_mouth_can_close(rig: Rig) -> None:
    points = landmarks_of(rig, Person("", expression={"jawOpen": 0.5}))
    puppet = Puppet(rig, paint(points), points)
    closed = puppet.pose(puppet.rest)
    assert not puppet.closed and mouth_opening(points) > 8
    assert mouth_opening(puppet.points68(closed)) < 1
    assert (puppet.move(puppet.pose(None), closed).mask > 0.5).sum() < 8


def test_an_opened_jaw_is_painted_between_the_lips_only(puppet: Puppet) -> None:
    b = shape(puppet, jawOpen=0.6)
    move = puppet.move(puppet.pose(None), b)
    assert mouth_opening(puppet.points68(b)) > 8
    painted = move.mask > 0.5
    assert painted.sum() > 300
    assert not (move.mask > 0.01)[~between_lips(puppet, b, 4)].any()
    core = between_lips(puppet, b, 0) & ~(
        cv2.dilate((~between_lips(puppet, b, 0)).astype(np.uint8), np.ones((9, 9))) > 0
    )
    assert core.sum() > 50 and painted[core].all()
    assert (move.mask >= 0).all() and (move.mask <= 1).all()
    assert (move.colour >= 0).all() and (move.colour <= 1).all()


def test_teeth_are_brighter_than_the_throat_and_the_tongue_is_red(puppet: Puppet) -> None:
    b = shape(puppet, jawOpen=0.6)
    move = puppet.move(puppet.pose(None), b)
    columns = move.colour[:, 122:135].mean(1)  # (H, 3)
    rows = np.flatnonzero(move.mask[:, 122:135].min(1) > 0.9)
    light = columns[rows].mean(1)
    assert light[:3].max() > 2.5 * light.min()
    low = columns[rows[-3]]
    assert low[0] > 1.3 * low[1]


def test_applying_a_move_takes_the_picture_along(puppet: Puppet) -> None:
    a, b = puppet.pose(None), shape(puppet, jawOpen=0.6)
    made = puppet.move(a, b).apply(puppet.image).astype(int)
    red = (made[..., 0] > made[..., 1] + 60) & (made[..., 1] < 120)
    lowest = np.flatnonzero(red[:, 124:133].any(1)).max()
    assert lowest == pytest.approx(puppet.points68(b)[57, 1], abs=2.5)
    assert abs(lowest - puppet.points68(a)[57, 1]) > 8


def test_lowered_brows_shade_the_skin_within_bounds(puppet: Puppet) -> None:
    move = puppet.move(puppet.pose(None), shape(puppet, browDown=1.5, cheekSquint=1.5, mouthSmile=1.5))
    assert 0.01 < np.abs(move.gain - 1).max() <= 0.24
    assert move.gain.std() > 0


def test_light_comes_from_where_the_face_is_bright(rig: Rig) -> None:
    points = landmarks_of(rig, Person(""))
    x = np.linspace(-1, 1, CROP_SIZE)
    for side in (-1, 1):
        image = np.repeat(np.clip(128 + 80 * side * x, 0, 255).astype(np.uint8)[None, :, None], CROP_SIZE, 0).repeat(
            3, 2
        )
        light = Puppet(rig, image, points).light
        assert light[0] * side > 0.05 and light[2] > 0
        assert np.linalg.norm(light) == pytest.approx(1)


def test_closed_eyes_do_not_carry_the_ball_along(puppet: Puppet) -> None:
    a = puppet.pose(None)
    move = puppet.move(a, shape(puppet, eyeWide=1.0))
    x, y = np.round(puppet.points68(a)[36:42].mean(0)).astype(int)
    lid = np.round(puppet.points68(a)[[37, 38]].mean(0)).astype(int)
    assert np.linalg.norm(move.flow[y, x]) < 0.3 * np.linalg.norm(move.flow[lid[1] - 2, lid[0]])


def test_at_rest_a_person_neither_smiles_nor_speaks(rig: Rig) -> None:
    points = landmarks_of(
        rig, Person("", expression={"jawOpen": 0.5, "mouthSmile": 0.5, "eyeBlink": 0.4, "browDown": 0.5})
    )
    puppet = Puppet(rig, paint(points), points, {"eyeBlink_L": 0.4, "eyeBlink_R": 0.4, "browDown_L": 0.5})
    rest = dict(zip(rig.names, puppet.rest.tolist(), strict=True))
    assert rest["jawOpen"] == rest["mouthSmile_L"] == rest["mouthStretch_R"] == 0
    assert 0 < rest["eyeBlink_L"] <= 0.45
    shown = float(puppet.fit.expression[rig.names.index("browDown_L")])
    assert rest["browDown_L"] == pytest.approx(0.6 * shown) and shown > 0


# expressions and speech


def test_strength_is_exact_at_the_levels_and_rises_between() -> None:
    assert [strength(level) for level in range(4)] == pytest.approx(LEVEL_STRENGTH)
    line = [strength(i) for i in np.linspace(0, 3, 301)]
    assert np.diff(line).min() > 0 and np.diff(line).max() < 0.005
    assert strength(1.5) == pytest.approx((LEVEL_STRENGTH[1] + LEVEL_STRENGTH[2]) / 2)


def test_feelings_grow_with_intensity_and_vanish_at_zero(maker: PuppetMaker, puppet: Puppet) -> None:
    for emotion in EMOTIONS:
        assert np.array_equal(maker.feeling(puppet, emotion, 0.0), puppet.rest)
        sizes = [np.linalg.norm(maker.feeling(puppet, emotion, i) - puppet.rest) for i in (1.0, 2.0, 3.0)]
        assert sizes == sorted(sizes)
        assert (sizes[0] > 0) == (emotion is not Emotion.NEUTRAL)
        full = maker.feeling(puppet, emotion, 3.0)
        assert full.min() >= 0 and full.max() <= 1.7


def test_only_contempt_has_a_side(rig: Rig) -> None:
    """The stages mirror every other emotion."""
    one_sided = {
        e
        for e in EMOTIONS
        if not np.array_equal(rig.mirror(rig.weights(EMOTION_SHAPES[e])), rig.weights(EMOTION_SHAPES[e]))
    }
    assert one_sided == {Emotion.CONTEMPT}


def test_a_blink_closes_the_lids_of_any_feeling(maker: PuppetMaker, puppet: Puppet) -> None:
    names = maker.rig.names
    lids = [i for i, n in enumerate(names) if n.startswith(("eyeSquint", "eyeWide"))]
    blink = names.index("eyeBlink_L")
    for emotion in EMOTIONS:
        half, shut = (maker.feeling(puppet, emotion, 3.0, b) for b in (0.5, 1.0))
        felt = maker.feeling(puppet, emotion, 3.0)
        assert not shut[lids].any() and shut[blink] >= 1.4
        np.testing.assert_allclose(half[lids], felt[lids] / 2, atol=1e-6)
        other = np.setdiff1d(np.arange(len(names)), [*lids, blink, names.index("eyeBlink_R")])
        assert np.array_equal(shut[other], felt[other])


def test_silence_closes_a_mouth_that_the_feeling_opened(maker: PuppetMaker, rig: Rig) -> None:
    felt = rig.weights(EMOTION_SHAPES[Emotion.SURPRISED]) + rig.weights({"mouthSmile": 0.3})
    silent = dict(zip(rig.names, maker.talking(felt, np.zeros(len(rig.names))).tolist(), strict=True))
    assert silent["jawOpen"] == silent["mouthFunnel"] == 0
    assert silent["browInnerUp_L"] == pytest.approx(1.25) and silent["mouthSmile_L"] == pytest.approx(0.3)
    jaw = rig.names.index("jawOpen")
    opened = [maker.talking(felt, rig.weights({"jawOpen": o}))[jaw] for o in (0.05, 0.1, 0.3, 0.6)]
    assert opened == sorted(opened)
    assert opened[2] == pytest.approx(felt[jaw] + 0.3)  # the feeling has all its own opening back
    assert maker.talking(felt * 9, felt * 9).max() == pytest.approx(1.7)


def test_mouths_are_silent_spoken_or_visemes(maker: PuppetMaker) -> None:
    rng = np.random.default_rng(0)
    mouths = np.stack([maker.mouth(rng) for _ in range(200)])
    assert 0.05 < (mouths == 0).all(1).mean() < 0.25
    assert mouths.min() >= 0
    spoken = np.count_nonzero(mouths, axis=1) == 3
    assert spoken.mean() > 0.4  # the one shape of this bank: jaw and both corners


def test_wishes_cover_every_emotion_and_whole_levels(maker: PuppetMaker) -> None:
    rng = np.random.default_rng(0)
    wishes = [maker.wish(rng) for _ in range(400)]
    assert {emotion for emotion, _ in wishes} == set(EMOTIONS)
    assert all(0 <= intensity <= 3 for _, intensity in wishes)
    assert 0.35 < np.mean([intensity in (1.0, 2.0, 3.0) for _, intensity in wishes]) < 0.65


def test_speech_shapes_move_the_lips_as_asked(rig: Rig) -> None:
    asked = np.stack(
        [rig.weights({"jawOpen": 0.6}), rig.weights({"jawOpen": 0.3, "mouthStretch": 0.8}), rig.weights({})]
    )
    marks = rig.landmarks[LOWER_FACE]
    unit = FACE_UNIT / frontal().scale
    moves = np.stack([rig.moved(row)[marks, :2] for row in asked]) / unit * (1, -1)
    found = speech_shapes(rig, moves)
    assert found.min() >= 0 and not found[2].any()
    again = np.stack([rig.moved(row)[marks, :2] for row in found]) / unit * (1, -1)
    for k in (0, 1):
        assert np.linalg.norm(again[k] - moves[k]) < 0.25 * np.linalg.norm(moves[k])
    left = [i for i, n in enumerate(rig.names) if n.endswith("_L")]
    assert np.array_equal(found[:, left], rig.mirror(found)[:, left])


def test_the_bank_is_drawn_from_the_clips_for_training(rig: Rig, data: Path, tmp_path: Path) -> None:
    file = data / "grid" / "landmarks.npz"
    bank = speech_bank(rig, file, {"aaa1a"}, 0)
    assert bank.shape == (6, len(rig.names)) and bank.min() >= 0
    assert bank[:, rig.names.index("jawOpen")].max() > 0.3
    assert np.array_equal(bank, speech_bank(rig, file, {"aaa1a"}, 0))
    assert not np.array_equal(bank, speech_bank(rig, file, {"aaa1a"}, 1))
    assert len(speech_bank(rig, file, {"aaa1a", "bbb2b"}, 0)) == 12
    with pytest.raises(InputError, match="no usable talking clip"):
        speech_bank(rig, file, {"ccc3c"}, 0)
    with pytest.raises(InputError, match="no talking clips"):
        speech_bank(rig, tmp_path / "landmarks.npz", {"aaa1a"}, 0)


# photographs


def test_scores_are_known_by_the_names_of_the_rig() -> None:
    scores = {"eyeBlinkLeft": 0.1, "mouthSmileRight": 0.2, "browInnerUp": 0.3, "jawOpen": 0.4, "mouthLeft": 0.9}
    wanted = {"eyeBlink_L": 0.1, "mouthSmile_R": 0.2, "browInnerUp_L": 0.3, "browInnerUp_R": 0.3, "jawOpen": 0.4}
    assert rig_names(scores) == wanted


def test_the_crop_is_level_and_knows_what_lies_outside(rig: Rig) -> None:
    at = landmarks_of(rig, Person("")) * 3 + (-60, -150)  # cut off above
    crop, points, inside = canonical_crop(paint(at, size=700)[:620, :660], at)
    assert crop.shape == (CROP_SIZE, CROP_SIZE, 3)
    assert np.abs(points[STABLE] - TEMPLATE).mean() < 3
    assert set(np.unique(inside)) == {0, 1}
    assert not inside[:20].any() and inside[60:200, 40:200].all()
    red = (crop[..., 0].astype(int) > crop[..., 1] + 60) & (crop[..., 1] < 120)
    y, x = np.nonzero(red)
    np.testing.assert_allclose([x.mean(), y.mean()], points[48:60].mean(0), atol=2.5)


def test_photographs_are_chosen_and_colour_comes_first(tmp_path: Path) -> None:
    people = [
        Person("photos/a.png", grey=True),
        Person("photos/b.png", row={"yaw_deg": "-31.0"}),
        Person("photos/c.png"),
        Person("photos/d.png", row={"train_shipped_weights": "no"}),
        Person("photos/e.png", scores={"eyeBlinkLeft": 0.7}),
        Person("photos/f.png", scores={"mouthSmileLeft": 0.25}),
    ]
    save_corpus(tmp_path, people)
    photos = read_photos(tmp_path, 10)
    assert [p.file for p in photos] == ["photos/c.png", "photos/f.png", "photos/a.png"]
    assert [p.file for p in read_photos(tmp_path, 2)] == ["photos/c.png", "photos/f.png"]
    assert photos[1].prior["mouthSmile_L"] == pytest.approx(0.25)
    assert photos[0].landmarks.shape == (68, 2) and photos[0].landmarks.dtype == np.float64
    index = tmp_path / "faces" / "index.csv"
    index.write_text("\n".join(line for line in index.read_text().splitlines() if "c.png" not in line))
    with pytest.raises(InputError, match=r"no row for photos/c\.png"):
        read_photos(tmp_path, 10)


# corpus


def test_the_corpus_holds_what_it_promises(corpus: dict[str, np.ndarray]) -> None:
    assert corpus["done"].tolist() == [1, 2, 1]  # colour first: bert, carl (no face fits), anna
    for name, (size, kind) in ARRAYS.items():
        assert corpus[name].shape == (12, *size) and corpus[name].dtype == np.dtype(kind)
        assert not corpus[name][4:8].any()
        assert np.isfinite(corpus[name].astype(np.float64)).all()
    rows = np.r_[0:4, 8:12]
    assert corpus["face"][rows].std((1, 2, 3)).min() > 10
    assert (corpus["face_gain"][rows].min() > 0.7) and (corpus["face_gain"][rows].max() < 1.3)
    assert (corpus["face_flow"][rows].astype(np.float32) ** 2).sum((1, 2, 3)).min() > 0
    assert ((corpus["mouth_mask"][rows] > 128).sum((1, 2)) > 100).any()
    assert set(np.unique(corpus["mouth_inside"][rows])) == {0, 1} or corpus["mouth_inside"][rows].all()


def test_each_row_says_which_feeling_it_shows(corpus: dict[str, np.ndarray]) -> None:
    known = {e: condition_vector(e, 1.0)[:8] for e in EMOTIONS}
    for row in corpus["condition"][[0, 1, 2, 3, 8, 9, 10, 11]]:
        assert row[:8].sum() == pytest.approx(1) and 0 <= row[11] <= 1
        assert row[8:11].sum() <= 1 + 1e-6
        strongest = EMOTIONS[int(row[:7].argmax())] if row[:7].any() else Emotion.NEUTRAL
        if row[7] == 0:
            np.testing.assert_allclose(row[:8], known[strongest])


def test_mouth_truth_leads_from_the_wanted_lips_back_to_the_resting(corpus: dict[str, np.ndarray]) -> None:
    for row in (0, 1, 2, 3, 8, 9, 10, 11):
        resting, wanted = corpus["mouth_resting"][row], corpus["mouth_wanted"][row]
        corners = [17, 23, 7, 8, 9]  # outer corners of the mouth and the chin
        x, y = np.round(wanted[corners]).astype(int).T
        flow = corpus["mouth_flow"][row][y, x].astype(np.float32)
        assert np.abs(flow - (resting - wanted)[corners]).mean() < 1.0
    travel = np.linalg.norm(corpus["mouth_resting"] - corpus["mouth_wanted"], axis=2).max(1)
    assert travel.max() > 4


def test_both_sizes_tell_the_same_story(corpus: dict[str, np.ndarray]) -> None:
    """The small truth makes the felt face, which the mouth rows start from."""
    for row in (0, 3, 9, 11):
        face = corpus["face"][row].astype(np.float32) / 255
        flow = corpus["face_flow"][row].astype(np.float32)
        y, x = np.mgrid[:128, :128].astype(np.float32)
        warped = cv2.remap(face, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = corpus["face_mask"][row][..., None] / 255
        gain = corpus["face_gain"][row][..., None].astype(np.float32)
        made = (1 - mask) * gain * warped + mask * corpus["face_colour"][row] / 255
        felt = cv2.GaussianBlur(corpus["mouth"][row], (0, 0), 0.8)[::2, ::2] / 255
        window = made[48:128, 24:104]
        assert np.abs(window - felt)[2:-2, 2:-2].mean() < 0.015


def test_a_grey_photograph_has_a_grey_mouth(corpus: dict[str, np.ndarray]) -> None:
    grey, coloured = corpus["mouth_colour"][8:12].astype(int), corpus["mouth_colour"][:4].astype(int)
    assert grey.any() and np.ptp(grey, axis=3).max() <= 1
    assert np.ptp(coloured, axis=3).max() > 20


def test_an_interrupted_build_gives_the_same_corpus(data: Path, tmp_path: Path, corpus: dict[str, np.ndarray]) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(data, tmp_path, CONFIG, on_photo=stop)
    half = open_corpus(data, tmp_path, CONFIG, write=True)
    assert half.done.tolist() == [1, 0, 0] and half.finished.tolist() == [0]
    half.arrays["face"][9] = 77  # a row of a photograph that was being written
    seen: list[int] = []
    again = arrays(build_corpus(data, tmp_path, CONFIG, on_photo=lambda: seen.append(1)))
    assert len(seen) == 3
    assert all(np.array_equal(again[name], corpus[name]) for name in corpus)


def test_parts_make_the_whole_and_finished_photographs_are_kept(
    data: Path, tmp_path: Path, corpus: dict[str, np.ndarray]
) -> None:
    first = build_corpus(data, tmp_path, CONFIG, part=1, parts=2)
    assert first.done.tolist() == [0, 2, 0]
    first.arrays["condition"][:4] = corpus["condition"][:4]
    first.done[0] = 1  # as another process would
    first.arrays["face"][0] = 55
    whole = build_corpus(data, tmp_path, CONFIG, part=0, parts=2)
    assert whole.done.tolist() == [1, 2, 1]
    assert (whole.arrays["face"][0] == 55).all()  # not drawn again
    assert np.array_equal(whole.arrays["face"][8:], corpus["face"][8:])


def test_a_corpus_of_another_drawing_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = replace(CONFIG, faces=2, per_face=1)
    build_corpus(data, tmp_path, only)
    monkeypatch.setattr("emotalk.synth.corpus.DRAWING", -1)
    with pytest.raises(InputError, match="with other settings"):
        build_corpus(data, tmp_path, only)


def test_a_folder_with_another_corpus_is_refused(data: Path, tmp_path: Path) -> None:
    only = replace(CONFIG, faces=2, per_face=1)  # bert, and carl whom nothing fits
    build_corpus(data, tmp_path, only)
    for other in (replace(only, seed=6), replace(only, per_face=2), replace(only, faces=1)):
        with pytest.raises(InputError, match="with other settings"):
            open_corpus(data, tmp_path, other)
    assert open_corpus(data, tmp_path, only).finished.tolist() == [0]
    with pytest.raises(InputError, match="no puppet corpus in"):
        open_corpus(data, tmp_path / "empty", only)
    np.save(tmp_path / "face.npy", np.zeros((3, 2), np.uint8))
    with pytest.raises(InputError, match=r"face\.npy holds \(3, 2\) values, expected \(2, 128, 128, 3\)"):
        open_corpus(data, tmp_path, only)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("faces", r"no face photographs in"),
        ("faces/annotations.npz", r"no face photographs in"),
        ("facekit", r"no face rig at"),
        ("grid", r"no talking clips in"),
        ("grid/landmarks.npz", r"no talking clips in"),
        ("faces/photos/bert_2.png", r"bert_2\.png does not exist"),
    ],
)
def test_missing_data_ends_in_one_line(data: Path, tmp_path: Path, missing: str, message: str) -> None:
    there = tmp_path / "data"
    shutil.copytree(data, there)
    remove: Callable[[Path], object] = shutil.rmtree if (there / missing).is_dir() else Path.unlink
    remove(there / missing)
    with pytest.raises(InputError, match=message) as caught:
        build_corpus(there, tmp_path / "cache", CONFIG)
    assert "\n" not in str(caught.value)
    if "photos" not in missing:
        assert not (tmp_path / "cache").exists()  # nothing is set aside for a corpus that cannot be built
