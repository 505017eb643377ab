"""Finding faces with the shipped weights; the adapter for face-alignment with a stand-in for that package."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emotalk import face as face_module
from emotalk.errors import ConfigError, FaceError, WeightsError
from emotalk.face import (
    FIVE_TEMPLATE,
    Face,
    FaceFinder,
    bounding_box,
    coarse_transform,
    cut,
    eye_distance,
    fine_transform,
    five_points,
    mirror_points,
    overlap,
)
from emotalk.landmarks import CROP_SIZE, EYE_LINE, transform_points

GOLDEN = Path(__file__).parent / "golden" / "sample_face_landmarks.csv"
TOLERANCE = 0.05  # of the eye distance, mean over the points; the networks reach half of it on this picture


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder("shipped", device="cpu")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    path = Path(face_module.__file__).parent / "assets" / "sample_face.jpg"
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    return np.loadtxt(GOLDEN, delimiter=",")


def error(found: np.ndarray, known: np.ndarray) -> float:
    """Mean distance in parts of the eye distance."""
    return float(np.linalg.norm(found - known, axis=1).mean() / eye_distance(known))


def test_the_sample_portrait_has_one_face_with_the_known_landmarks(
    finder: FaceFinder, picture: np.ndarray, known: np.ndarray
) -> None:
    faces = finder.find(picture)
    assert len(faces) == 1
    face = faces[0]
    assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float64
    assert error(face.landmarks, known) < TOLERANCE
    x0, y0, x1, y1 = face.box
    assert (face.landmarks >= (x0, y0)).all() and (face.landmarks <= (x1, y1)).all()
    assert y0 < known[19, 1] - 0.3 * eye_distance(known)  # the forehead is part of the box
    assert 0.5 < face.score <= 1


@pytest.mark.parametrize("angle", [-30, -15, 15, 30])
def test_tilted_heads_are_found(finder: FaceFinder, picture: np.ndarray, known: np.ndarray, angle: float) -> None:
    matrix = cv2.getRotationMatrix2D((256, 180), angle, 1)
    tilted = cv2.warpAffine(picture, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    assert error(finder.one(tilted).landmarks, transform_points(matrix, known)) < TOLERANCE


@pytest.mark.parametrize("side", [80, 160, 1500])
def test_faces_of_any_size_are_found(finder: FaceFinder, picture: np.ndarray, known: np.ndarray, side: int) -> None:
    x0, y0, x1, y1 = 120, 5, 340, 225
    part = picture[y0:y1, x0:x1]
    scale = side / (x1 - x0)
    scaled = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    points = (known - (x0, y0) + 0.5) * scale - 0.5
    assert error(finder.one(scaled).landmarks, points) < TOLERANCE


@pytest.mark.parametrize("change", ["grey", "dark", "blue light", "swapped channels"])
def test_light_and_colour_do_not_matter(
    finder: FaceFinder, picture: np.ndarray, known: np.ndarray, change: str
) -> None:
    changed = {
        "grey": np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, -1),
        "dark": (picture * 0.35).astype(np.uint8),
        "blue light": (picture * np.array([0.6, 0.7, 1.0])).astype(np.uint8),
        "swapped channels": np.ascontiguousarray(picture[..., ::-1]),
    }[change]
    assert error(finder.one(changed).landmarks, known) < TOLERANCE


def test_a_mirrored_picture_gives_mirrored_landmarks(finder: FaceFinder, picture: np.ndarray) -> None:
    straight = finder.one(picture).landmarks
    mirrored = finder.one(np.ascontiguousarray(picture[:, ::-1])).landmarks
    assert error(mirror_points(mirrored, 512), straight) < 0.02


def test_several_faces_come_largest_first(finder: FaceFinder, picture: np.ndarray, known: np.ndarray) -> None:
    small = cv2.resize(picture[:300, 100:400], (180, 180), interpolation=cv2.INTER_AREA)
    both = np.full((512, 712, 3), 128, np.uint8)
    both[:, 200:] = picture
    both[300:480, 10:190] = small
    faces = finder.find(both)
    assert len(faces) == 2 and faces[0].size > faces[1].size
    assert error(faces[0].landmarks, known + np.array([200, 0])) < TOLERANCE
    assert error(finder.one(both, 2).landmarks, (known - (100, 0) + 0.5) * 0.6 - 0.5 + (10, 300)) < 2 * TOLERANCE
    with pytest.raises(FaceError, match=r"^two\.jpg shows 2 faces; --face 3 does not exist$"):
        finder.one(both, 3, "two.jpg")


def test_a_picture_without_a_face_says_so(finder: FaceFinder) -> None:
    grey = np.full((512, 512, 3), 128, np.uint8)
    wanted = r"^no face found in portrait\.jpg \(512x512\); try a frontal photograph$"
    with pytest.raises(FaceError, match=wanted):
        finder.one(grey, name="portrait.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert finder.find(noise) == []
    assert finder.find(np.zeros((1, 1, 3), np.uint8)) == []


def test_parts_of_the_sample_portrait_beside_the_face_hold_none(finder: FaceFinder, picture: np.ndarray) -> None:
    assert finder.find(picture[230:]) == []
    assert finder.find(np.ascontiguousarray(picture[:, 330:])) == []


def test_a_tiny_face_is_refused(finder: FaceFinder, picture: np.ndarray, known: np.ndarray) -> None:
    face = Face(known * 0.1, bounding_box(known * 0.1), 0.9)
    monkey = FaceFinder.__new__(FaceFinder)
    monkey.find = lambda image: [face]  # type: ignore[method-assign]
    with pytest.raises(FaceError, match=r"the face in the picture is too small \(4 pixels between the eyes"):
        monkey.one(picture)
    with pytest.raises(FaceError, match="shows 1 face; --face 0 does not exist"):
        monkey.one(picture, 0)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)],
)
def test_anything_but_rgb_is_refused(finder: FaceFinder, wrong: np.ndarray) -> None:
    with pytest.raises(FaceError, match="expected uint8 RGB"):
        finder.find(wrong)


def test_tracking_follows_and_finds_again(finder: FaceFinder, picture: np.ndarray, known: np.ndarray) -> None:
    def moved(dx: int) -> np.ndarray:
        return cv2.warpAffine(picture, np.array([[1.0, 0, dx], [0, 1, 0]]), (512, 512), borderMode=cv2.BORDER_REPLICATE)

    empty = np.full_like(picture, 90)
    steps = [0, 4, 8, 12, None, None, 60]
    frames = [empty if step is None else moved(step) for step in steps]
    searched = []
    find = finder.find
    finder.find = lambda image: searched.append(1) or find(image)  # type: ignore[method-assign, func-returns-value]
    try:
        tracked = list(finder.track(iter(frames)))
    finally:
        del finder.find  # type: ignore[method-assign]
    assert [face is None for face in tracked] == [step is None for step in steps]
    for step, face in zip(steps, tracked, strict=True):
        if face is not None and step is not None:
            assert error(face.landmarks, known + np.array([step, 0])) < TOLERANCE
    assert len(searched) == 4  # the first frame, both empty ones, and the first after them


def test_cutting_keeps_places_exact_at_any_scale() -> None:
    """In a picture whose red is x and whose green is y, a crop shows the places it came from."""
    y, x = np.mgrid[:1024, :1024].astype(np.float32)
    ramp = np.stack([x / 4, y / 4, x * 0], -1).round().clip(0, 255).astype(np.uint8)
    for scale, angle in ((0.1, 0.3), (0.4, -0.5), (0.69, 0.1), (1.3, 0.2)):
        linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.hstack([linear, ((32, 32) - linear @ np.array([512.0, 500.0]))[:, None]])
        crop = cut(ramp, matrix, 64)
        inverse = np.linalg.inv(linear)
        for place in ((20, 25), (32, 32), (40, 30)):
            there = inverse @ (np.array(place) - matrix[:, 2])
            if (there > 20).all() and (there < 1000).all():
                np.testing.assert_allclose(crop[place[1], place[0], :2] * 4.0, there, atol=3.5)


def test_cutting_does_not_alias() -> None:
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = cut(stripes, np.array([[0.1, 0, 0], [0, 0.1, 0]]), 64)
    assert abs(int(crop[10:50, 10:50].max()) - int(crop[10:50, 10:50].min())) < 20


def test_transforms_bring_the_template_to_itself(known: np.ndarray) -> None:
    whole = np.array([[1.0, 0, 0], [0, 1, 0]])
    window = face_module.window_transform(whole, 128)
    np.testing.assert_allclose(coarse_transform(FIVE_TEMPLATE, 128), window, atol=1e-9)
    rough = transform_points(coarse_transform(five_points(known), 128), known)
    exact = transform_points(fine_transform(known, 128), known)
    assert np.abs(rough - exact).mean() < 4
    eyes = transform_points(window, np.array([[CROP_SIZE / 2, EYE_LINE]]))
    assert 25 < eyes[0, 1] < 45 and eyes[0, 0] == pytest.approx(63.5)


def test_overlap_of_boxes() -> None:
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == 0.25
    assert overlap((0, 0, 4, 4), (1, 1, 2, 2)) == 1.0
    assert overlap((0, 0, 1, 1), (5, 5, 6, 6)) == 0.0


def test_unknown_sources_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown landmarks 'dlib'"):
        FaceFinder("dlib")


ROUGH = np.stack([np.arange(68.0), np.arange(68.0) ** 2 / 20], -1)


class FakeAlignment:
    """Stands in for `face_alignment.FaceAlignment` of version 1.5.0; gives every face the same points."""

    made: list[dict[str, object]] = []  # noqa: RUF012

    def __init__(self, landmarks_type: int, **options: object) -> None:
        self.made.append({"landmarks_type": landmarks_type, **options})

    def get_landmarks_from_image(self, image: np.ndarray, detected_faces: list[np.ndarray]) -> list[np.ndarray] | None:
        assert image.dtype == np.uint8 and len(detected_faces) == 1 and detected_faces[0].shape == (5,)
        return [ROUGH.astype(np.float32)]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """face-alignment as if installed, with an empty torch hub; returns where its weights would lie."""
    module = types.ModuleType("face_alignment")
    module.FaceAlignment = FakeAlignment  # type: ignore[attr-defined]
    module.LandmarksType = types.SimpleNamespace(TWO_D=1)  # type: ignore[attr-defined]
    module.__spec__ = importlib.util.spec_from_loader("face_alignment", None)
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    monkeypatch.setattr(FakeAlignment, "made", [])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / face_module.FaceAlignment.WEIGHTS


def test_auto_never_downloads(installed: Path, picture: np.ndarray) -> None:
    FaceFinder("auto", device="cpu")
    assert FakeAlignment.made == []
    installed.write_bytes(b"weights")
    face = FaceFinder("auto", device="cpu").one(picture)
    np.testing.assert_allclose(face.landmarks, ROUGH, rtol=1e-6)
    assert FakeAlignment.made[0]["compile"] is False and FakeAlignment.made[0]["device"] == "cpu"


def test_shipped_ignores_face_alignment(installed: Path, picture: np.ndarray) -> None:
    installed.write_bytes(b"weights")
    FaceFinder("shipped", device="cpu")
    assert FakeAlignment.made == []


def test_asked_for_offline_without_weights_it_says_what_to_do(installed: Path) -> None:
    with pytest.raises(WeightsError, match=r"2DFAN4.*downloads are off"):
        FaceFinder("face-alignment", device="cpu", offline=True)
    assert FakeAlignment.made == []
    FaceFinder("face-alignment", device="cpu")  # online it may fetch
    assert len(FakeAlignment.made) == 1


def test_asked_for_and_not_installed_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'emotalk\[landmarks\]'"):
        FaceFinder("face-alignment", device="cpu")


def test_a_failing_download_is_one_line(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("HTTP Error 404:\nNot Found")

    monkeypatch.setattr(sys.modules["face_alignment"], "FaceAlignment", fail)
    with pytest.raises(WeightsError, match="HTTP Error 404: Not Found; use --landmarks shipped"):
        FaceFinder("face-alignment", device="cpu")
