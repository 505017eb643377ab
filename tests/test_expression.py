"""Faces with any feeling: exact on the grid, mixed between, blinking at the eyes only. The network is a formula."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from test_pipeline import canonical_face, photograph, placed_face

from emotalk import compose, landmarks
from emotalk.conditions import Feeling
from emotalk.config import PipelineConfig
from emotalk.emotions import Emotion
from emotalk.expression import EmotionalFace, Expressions, Photograph, vertical_share

SIZE, WINDOW = 64, 40


class Network:
    """Moves all of the face by the condition: right by happiness, down by sadness, darker with closed lids."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def __call__(self, face: np.ndarray, lines: np.ndarray, condition: np.ndarray) -> compose.NumpyEdit:
        assert face.shape == (1, 3, SIZE, SIZE) and lines.shape == (1, 1, SIZE, SIZE) and condition.shape == (1, 12)
        asked = condition[0]
        self.asked.append(asked)
        level = asked[8:11] @ (1, 2, 3)
        motion = np.zeros((SIZE, SIZE, 4), np.float32)
        motion[..., 0] = -(level**2) * asked[Emotion.HAPPY.index] / 4
        motion[..., 1] = -level * asked[Emotion.SAD.index]
        motion[..., 2] = -0.5 * asked[11]
        return compose.NumpyEdit(motion, np.zeros((SIZE, SIZE, 3), np.uint8))


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def faces(network: Network) -> Expressions:
    crop = landmarks.crop_transform(placed_face())
    points = landmarks.transform_points(crop, placed_face())
    return Expressions(Photograph(photograph(), crop, points), network, SIZE, WINDOW, PipelineConfig())


def nose(face: EmotionalFace) -> np.ndarray:
    """How far the tip of the nose moved, in pixels of the network's grid."""
    return (face.points[30] - canonical_face()[30]) * SIZE / landmarks.CROP_SIZE


def rest(faces: Expressions) -> np.ndarray:
    return nose(faces.face(Feeling.of("neutral", 0)))


def test_neutral_is_what_the_network_says_of_neutral(faces: Expressions, network: Network) -> None:
    face = faces.face(Feeling.of("happy", 0))
    assert np.array_equal(face.picture, photograph())
    np.testing.assert_allclose(face.points, faces.photograph.points, atol=1e-3)
    assert [list(asked) for asked in network.asked] == [[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]]


def test_every_condition_is_asked_once(faces: Expressions, network: Network) -> None:
    for level in np.linspace(0, 3, 61):
        faces.face(Feeling.of("happy", float(level)))
    assert len(network.asked) == 13
    faces.face(Feeling.of("happy=0.5,sad=0.5", 3))
    assert len(network.asked) == 14


def test_a_ramp_passes_through_what_is_asked_for_directly(faces: Expressions, network: Network) -> None:
    for level in (1.0, 2.0, 3.0, 0.25):
        moved = nose(faces.face(Feeling.of("happy", level))) - rest(faces)
        assert moved == pytest.approx([level**2 / 4, 0], abs=0.02)
    between = nose(faces.face(Feeling.of("happy", 2.125))) - rest(faces)
    assert between == pytest.approx([(2**2 + 2.25**2) / 8, 0], abs=0.02)


def test_blends_lie_between_their_parents(faces: Expressions) -> None:
    happy, sad, blend = (faces.face(Feeling.of(name, 2)) for name in ("happy", "sad", "happy=0.25,sad=0.75"))
    assert nose(blend) == pytest.approx(0.25 * nose(happy) + 0.75 * nose(sad), abs=1e-6)


def test_a_compound_face_has_eyes_of_one_and_mouth_of_another(faces: Expressions) -> None:
    happy, sad = Feeling.of("happy", 2), Feeling.of("sad", 2)
    both = faces.face(replace(happy, lower=sad.weights))
    parents = faces.face(happy), faces.face(sad)
    np.testing.assert_allclose(both.points[36:48], parents[0].points[36:48], atol=1e-6)
    np.testing.assert_allclose(both.points[48:68], parents[1].points[48:68], atol=1e-6)
    crop = faces.photograph.crop
    y = landmarks.transform_points(crop, np.stack(np.meshgrid(np.arange(300), np.arange(220)), -1))[..., 1]
    assert np.array_equal(both.picture[y < 108], parents[0].picture[y < 108])
    assert np.array_equal(both.picture[y > 154], parents[1].picture[y > 154])
    assert not np.array_equal(both.picture, parents[0].picture)
    share = vertical_share(np.linspace(0, 256, 100))
    assert share[0] == 1 and share[-1] == 0 and (np.diff(share) <= 0).all()


def test_lids_close_at_the_eyes_only(faces: Expressions) -> None:
    feeling = Feeling.of("happy", 1)
    face = faces.face(feeling)
    shut = faces.enliven(face.picture, feeling, 1.0, 0.0)
    half = faces.enliven(face.picture, feeling, 0.5, 0.0)
    changed = (shut != face.picture).any(-1)
    crop = faces.photograph.crop
    place = landmarks.transform_points(crop, np.stack(np.meshgrid(np.arange(300), np.arange(220)), -1))
    eyes = faces.photograph.points[36:48]
    far = np.abs(place[..., None, :] - eyes).max(-1).min(-1) > 40
    assert changed.any() and not changed[far].any()
    left = placed_face()[36:42].mean(0).round().astype(int)
    values = [picture[left[1], left[0]].astype(float) for picture in (face.picture, half, shut)]
    assert values[2] == pytest.approx(values[0] * 0.5, abs=3)
    assert values[1] == pytest.approx(values[0] * 0.75, abs=3)
    assert faces.enliven(face.picture, feeling, 0.0, 0.0) is face.picture


def test_brows_rise_and_nothing_else(faces: Expressions) -> None:
    feeling = Feeling.of("neutral", 0)
    face = faces.face(feeling)
    raised = faces.enliven(face.picture, feeling, 0.0, 1.0)
    changed = (raised != face.picture).any(-1)
    place = landmarks.transform_points(faces.photograph.crop, np.argwhere(changed)[:, ::-1].astype(float))
    assert len(place) and place[:, 1].max() < 105 and place[:, 1].min() > 40


def test_the_same_face_is_made_once(faces: Expressions) -> None:
    assert faces.face(Feeling.of("sad", 2)) is faces.face(Feeling.of("unhappy", 2.0))
    assert faces.face(Feeling.of("sad", 2)) is not faces.face(Feeling.of("sad", 2.1))
    one = replace(Feeling.of("sad", 2), lower={Emotion.HAPPY: 1.0})
    assert faces.face(one) is not faces.face(Feeling.of("sad", 2))


def test_faces_do_not_jump(faces: Expressions) -> None:
    pictures = [faces.face(Feeling.of("happy", level)).picture.astype(int) for level in np.linspace(1, 2, 26)]
    jumps = [np.abs(b - a).mean() for a, b in pairwise(pictures)]
    assert max(jumps) < 3 * np.median(jumps)
