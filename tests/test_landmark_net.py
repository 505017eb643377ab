"""Both face networks, their training stage and its random pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emotalk.config import FaceFinderConfig, LandmarkNetConfig
from emotalk.errors import ConfigError, InputError
from emotalk.face import MIRROR, fine_transform, five_points
from emotalk.landmarks import transform_points
from emotalk.nets.facefinder import FaceFinder
from emotalk.nets.landmarks import LandmarkNet
from emotalk.stages.face_data import FaceData, choose_frames, faceless_part, make_sample, read_photographs, shrink
from emotalk.stages.landmarks import LandmarksStage, LandmarksStageConfig, finder_target, map_loss
from emotalk.stages.split import identity, is_dev

TINY_NET = LandmarkNetConfig(size=64, widths=(4, 6, 8, 8, 8))
TINY_FINDER = FaceFinderConfig(widths=(4, 6, 8, 8))
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray]:
    picture = cv2.imread(str(GOLDEN.parents[1] / "emotalk/assets/sample_face.jpg"), cv2.IMREAD_COLOR_RGB)
    return picture, np.loadtxt(GOLDEN / "sample_face_landmarks.csv", delimiter=",")


@pytest.fixture
def corpus(tmp_path: Path, face: tuple[np.ndarray, np.ndarray]) -> Path:
    """A folder laid out like the real one, with six copies of one face."""
    folder = tmp_path / "faces"
    (folder / "photos").mkdir(parents=True)
    names = [f"photos/{name}_0001.jpg" for name in ("Anna", "Bela", "Carl", "Dora", "Emil", "Fred", "Gina", "Hans")]
    for name in names:
        cv2.imwrite(str(folder / name), face[0][..., ::-1])
    with (folder / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "kind", "grey", "chin_inside", "train_shipped_weights"])
        rows.writerows([name, "photo", "0", "yes", "no" if "Hans" in name else "yes"] for name in names)
    np.savez(folder / "annotations.npz", files=np.array(names), landmarks68=np.stack([face[1]] * len(names)))
    return tmp_path


def test_points_lie_in_the_crop_and_a_batch_equals_its_parts() -> None:
    torch.manual_seed(0)
    net = LandmarkNet(TINY_NET).eval()
    crops = torch.randn(5, 3, 64, 64)
    with torch.no_grad():
        together = net(crops)
        alone = [net(crop[None]) for crop in crops]
    assert together.points.shape == (5, 68, 2)
    assert together.face.shape == (5,)
    assert together.points.min() >= 0 and together.points.max() <= 63
    torch.testing.assert_close(together.points, torch.cat([one.points for one in alone]), atol=1e-3, rtol=0)


def test_a_sharp_map_puts_the_point_at_its_cell() -> None:
    net = LandmarkNet(TINY_NET).eval()
    with torch.no_grad():
        net.maps.weight.zero_()
        output = net(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(output.points, torch.full((1, 68, 2), 31.5))  # equal shares: the middle of 0..63
    share = torch.zeros(16, 16)
    share[3, 10] = 1.0  # row 3, column 10
    assert float(share.sum(0) @ net.places) == 41.5  # cell 10 covers pixels 40 to 43
    assert float(share.sum(1) @ net.places) == 13.5


@pytest.mark.parametrize("build", [lambda: LandmarkNet(TINY_NET), lambda: FaceFinder(TINY_FINDER)])
def test_gradients_reach_every_weight(build: type) -> None:
    torch.manual_seed(0)
    net = build().train()
    output = net(torch.randn(2, 3, 64, 64))
    sum((part.float() ** 2).sum() for part in output).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_finder_points_move_with_the_picture() -> None:
    torch.manual_seed(0)
    net = FaceFinder(TINY_FINDER).eval()
    picture = torch.zeros(1, 3, 256, 256)
    picture[..., 112:144, 112:144] = torch.randn(3, 32, 32)
    with torch.no_grad():
        before = net(picture)
        after = net(picture.roll((16, 32), (2, 3)))
    torch.testing.assert_close(after.score[0, 16, 18], before.score[0, 14, 14], atol=1e-4, rtol=0)
    moved = before.points[0, 14, 14] + torch.tensor([32.0, 16.0])
    torch.testing.assert_close(after.points[0, 16, 18], moved, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LandmarkNetConfig(size=100), "landmarks.size is 100"),
        (lambda: LandmarkNetConfig(widths=(1, 2)), "give five"),
        (lambda: FaceFinderConfig(widths=(1, 2)), "give four"),
        (lambda: LandmarksStageConfig(batch=0), "landmarks.batch is 0"),
        (lambda: LandmarksStageConfig(finder_share=0.0), "finder_share is 0"),
    ],
)
def test_impossible_settings_are_refused(build: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_mirroring_twice_is_nothing_and_swaps_sides() -> None:
    assert (MIRROR[MIRROR] == np.arange(68)).all()
    assert MIRROR[36] == 45 and MIRROR[48] == 54 and MIRROR[0] == 16 and MIRROR[62] == 62 and MIRROR[17] == 26


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("photos/Ai_Sugiyama_0002.jpg", "Ai_Sugiyama"),
        ("photos/Avinash_11.jpg", "Avinash"),
        ("portraits/portrait_014.jpg", "portrait_014"),
    ],
)
def test_identity_is_the_name_without_picture_number(name: str, person: str) -> None:
    assert identity(name) == person


def test_all_pictures_of_a_person_are_on_one_side_of_the_split() -> None:
    people = [f"Person{i}" for i in range(600)]
    kept_out = [is_dev(f"photos/{person}_0001.jpg") for person in people]
    assert kept_out == [is_dev(f"{person}_17.jpg") for person in people]
    assert 30 < sum(kept_out) < 75  # one in twelve


def test_shrinking_keeps_points_on_their_pixels() -> None:
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[32:36, 72:76] = 255  # middle at (73.5, 33.5)
    small, points = shrink(picture, np.array([[73.5, 33.5]]), 0.25)
    weight = small[..., 0] / small[..., 0].sum()
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    np.testing.assert_allclose(points[0], [(x * weight).sum(), (y * weight).sum()], atol=0.02)


def test_what_may_not_be_trained_on_is_kept_out(corpus: Path) -> None:
    train, dev = read_photographs(corpus / "faces")
    names = {sample.name for sample in dev}
    assert "photos/Hans_0001.jpg" in names
    assert len(train) + len(dev) == 8 and not names & {sample.name for sample in train}


def test_a_folder_without_annotations_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"annotations\.npz"):
        read_photographs(tmp_path)


def test_points_of_random_crops_and_tiles_lie_on_the_face(face: tuple[np.ndarray, np.ndarray]) -> None:
    """A white blot on a black picture is found again where the points say."""
    landmarks = face[1]
    picture = np.zeros_like(face[0])
    for index in (36, 45, 48, 54):
        cv2.circle(picture, tuple(int(v) for v in landmarks[index].round()), 3, (255, 255, 255), -1)
    sample = make_sample("blots", picture, landmarks, grey=False, share=1.0)
    data = FaceData([sample], backdrops=2)
    rng = np.random.default_rng(0)
    for _ in range(10):
        matrix = fine_transform(sample.landmarks, 128)
        pasted = data.paste(rng, sample, matrix, 128, 128, np.zeros((128, 128, 3), np.uint8))
        points = transform_points(matrix, sample.landmarks)
        for index in (36, 45, 48, 54):
            x, y = points[index].round().astype(int)
            assert pasted[y - 1 : y + 2, x - 1 : x + 2].max() > 60


def test_random_pictures_repeat_with_the_seed_and_hold_no_face_where_they_say_so(
    face: tuple[np.ndarray, np.ndarray],
) -> None:
    sample = make_sample("face", face[0], face[1], grey=False, share=1.0)
    data = FaceData([sample], backdrops=4)
    first, again = (data.crop(np.random.default_rng(3), 64) for _ in range(2))
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()
    kinds = [data.crop(np.random.default_rng(i), 64) for i in range(80)]
    assert 5 < sum(1 - kind[3] for kind in kinds) < 30
    assert all(kind[2].max() == 0 for kind in kinds if kind[3] == 0)
    assert faceless_part(np.random.default_rng(0), sample, 96).shape == (96, 96, 3)
    picture, faces = data.tile(np.random.default_rng(2), 128)
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8 and faces.shape[1:] == (5, 2)


def test_points_outside_the_photograph_weigh_little(face: tuple[np.ndarray, np.ndarray]) -> None:
    chin = int(face[1][8, 1])
    sample = make_sample("tight", face[0][: chin - 5], face[1], grey=False, share=1.0)
    assert sample.weights[8] < 0.1 and sample.weights[30] == 1


def test_frames_with_many_mouths_are_chosen_and_fast_ones_left_out() -> None:
    rng = np.random.default_rng(0)
    landmarks = np.tile(rng.uniform(0, 100, (68, 2)), (60, 1, 1))
    landmarks[20:40, 60:68] += np.array([0, 1]) * np.linspace(-1, 1, 8)[:, None] * 5
    landmarks[40:, 48:68] += rng.normal(0, 9, (20, 20, 2))  # jumps about
    chosen = choose_frames(landmarks, np.ones(60, bool), 3)
    assert chosen and max(chosen) < 42


def test_the_heat_map_peaks_at_the_face(face: tuple[np.ndarray, np.ndarray]) -> None:
    five = five_points(face[1])
    five = five - five.mean(0) + (83.0, 45.0)
    heat, points = finder_target(five[None])
    assert np.unravel_index(heat.argmax(), heat.shape) == (5, 10)  # y 45 lies in row 5, x 83 in column 10
    assert heat.max() == 1 and (heat == 1).sum() == 1
    np.testing.assert_allclose(points[5, 10], five, atol=1e-4)


def test_map_loss_is_least_where_the_map_equals_the_bell() -> None:
    point = torch.tensor([[[29.5, 13.5]]])  # cell column 7, row 3
    maps = torch.zeros(1, 1, 16, 16)
    flat = float(map_loss(maps, point))
    assert flat == pytest.approx(np.log(256), rel=1e-5)
    maps[0, 0, 3, 7] = 3.0
    near = float(map_loss(maps, point))
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 7, 3] = 3.0  # x and y swapped
    assert near < flat < float(map_loss(maps, point))


def make_stage(corpus: Path) -> LandmarksStage:
    settings = LandmarksStageConfig(finder=TINY_FINDER, net=TINY_NET, batch=6, finder_batch=2, finder_share=1.0)
    return LandmarksStage(corpus, settings, seed=1)


def run(stage: LandmarksStage, start: int, steps: int) -> list[dict[str, float]]:
    log = []
    for number in range(start, start + steps):
        stage.set_progress(0.2)
        for part in (stage.finder, stage.net):
            part.train()
        log.append({name: float(value) for name, value in stage.step(stage.batch(number)).items()})
    return log


def test_the_stage_learns_and_resumes_bit_for_bit(corpus: Path) -> None:
    torch.manual_seed(0)
    straight = make_stage(corpus)
    log = run(straight, 0, 24)
    assert all(np.isfinite(value) for terms in log for value in terms.values())
    assert np.mean([terms["maps"] for terms in log[-4:]]) < np.mean([terms["maps"] for terms in log[:4]])

    first = make_stage(corpus)
    run(first, 0, 12)
    second = make_stage(corpus)
    for name, part in second.state().items():
        part.load_state_dict(first.state()[name].state_dict())
    run(second, 12, 12)
    for name, (network, _) in straight.networks().items():
        other = second.networks()[name][0].state_dict()
        for key, value in network.state_dict().items():
            assert torch.equal(value, other[key]), f"{name}.{key}"


def test_validation_reports_an_error_relative_to_the_eyes(corpus: Path) -> None:
    stage = make_stage(corpus)
    metrics = stage.validate()
    assert metrics["score"] == metrics["landmark_error"] > 0.04  # untrained


def test_the_finder_rests_after_its_share(corpus: Path) -> None:
    stage = make_stage(corpus)
    stage.config = LandmarksStageConfig(finder=TINY_FINDER, net=TINY_NET, batch=2, finder_batch=2, finder_share=0.5)
    stage.set_progress(0.6)
    before = {key: value.clone() for key, value in stage.finder.state_dict().items()}
    terms = stage.step(stage.batch(0))
    assert "finder_score" not in terms
    assert all(torch.equal(value, stage.finder.state_dict()[key]) for key, value in before.items())
