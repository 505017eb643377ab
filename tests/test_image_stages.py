"""The two image stages on a corpus of two drawn people: batches, augmentation, learning, state."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_rig import Person, save_corpus
from torch import Tensor, nn

from emotalk.config import Neutral2EmotionConfig, RefinementConfig
from emotalk.emotions import Emotion, condition_vector
from emotalk.errors import InputError
from emotalk.landmarks import LOWER_CURVES, draw_curves
from emotalk.nets.edit import Edit, apply_edit
from emotalk.stages import find_stage
from emotalk.stages.neutral2emotion import Neutral2EmotionStage, Neutral2EmotionStageConfig
from emotalk.stages.puppets import (
    COLOUR_CHANCE,
    Batch,
    EditLoss,
    EditStage,
    EditWeights,
    Sample,
    augment,
    collate,
    shaken,
)
from emotalk.stages.refinement import RefinementStage, RefinementStageConfig
from emotalk.stages.split import identity, is_dev
from emotalk.synth.corpus import PuppetConfig

PEOPLE = [
    Person("photos/anna_1.png", who=(0.5, -0.5, 0.0)),
    Person("photos/bert_2.png", who=(-0.5, 1.0, 0.5), expression={"jawOpen": 0.3}),
]
PUPPETS = PuppetConfig(faces=2, per_face=4, seed=1)
CPU = torch.device("cpu")
CONFIGS: dict[str, Any] = {
    "neutral2emotion": Neutral2EmotionStageConfig(
        net=Neutral2EmotionConfig(code_size=8, widths=(4, 6, 8), residual_blocks=1), puppets=PUPPETS, batch=3
    ),
    "refinement": RefinementStageConfig(
        net=RefinementConfig(widths=(4, 6, 8), residual_blocks=1), puppets=PUPPETS, batch=3
    ),
}
stages = pytest.mark.parametrize("name", list(CONFIGS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_corpus(tmp_path_factory.mktemp("data"), PEOPLE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages share the corpus they find or build here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(data: Path, cache: Path) -> Any:
    def build(name: str, seed: int = 0, **changes: Any) -> EditStage:
        kind, _ = find_stage(name)
        made: EditStage = kind(data, replace(CONFIGS[name], **changes), device=CPU, seed=seed, cache=cache)
        return made

    return build


class Fixed:
    """A stand-in for a random generator: listed numbers for `random`, the same deviation for every `normal`."""

    def __init__(self, numbers: list[float], deviation: float = 0.0) -> None:
        self.numbers, self.deviation = iter(numbers), deviation

    def random(self) -> float:
        return next(self.numbers)

    def normal(self, mean: float, scale: float, size: Any = None) -> Any:
        return mean + scale * self.deviation * (1.0 if size is None else np.ones(size))

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


PLAIN = [1.0, 1.0, 1.0, 1.0]  # no grey, no warm light, no blur, no noise


def sample(seed: int = 0, size: int = 24) -> Sample:
    """A made-up pair with a marker in the upper left corner of `inside`, which only mirroring moves."""
    rng = np.random.default_rng(seed)
    smooth = np.linspace(0.2, 0.8, size, dtype=np.float32)
    picture = 0.5 * smooth[:, None, None] + 0.4 * rng.random((1, 1, 3), np.float32) * smooth[None, :, None]
    inside = np.ones((size, size), np.float32)
    inside[0, 0] = 0
    mask = np.zeros((size, size), np.float32)
    mask[14:20, 4:10] = 1
    return Sample(
        picture=picture.astype(np.float32),
        lines=(rng.random((size, size), np.float32),),
        flow=np.tile(np.array([2.5, -1.0], np.float32), (size, size, 1)),
        gain=(1 + 0.2 * rng.random((size, size), np.float32)),
        mask=mask,
        colour=rng.random((size, size, 3), np.float32) * 0.8 + 0.1,
        inside=inside,
        condition=np.append(condition_vector(Emotion.HAPPY, 2.0), np.float32(0)),
    )


def goal(pair: Sample) -> Tensor:
    """What the truth makes of the picture, (3, H, W)."""
    batch = collate([pair], CPU)
    return apply_edit(batch.picture, batch.truth)[0]


def mirrored(pair: Sample) -> bool:
    return bool(pair.inside[0, -1] == 0)


# augmentation


def test_the_truth_of_a_mirrored_picture_makes_the_mirrored_goal() -> None:
    pair = sample()
    flipped = augment(pair, Fixed([*PLAIN, 0.0]), mirror=True)  # type: ignore[arg-type]
    assert mirrored(flipped) and not np.array_equal(flipped.picture, pair.picture)
    torch.testing.assert_close(goal(flipped), goal(pair).flip(-1), atol=1e-4, rtol=0)
    assert np.array_equal(flipped.lines[0], pair.lines[0][:, ::-1])
    assert flipped.condition is pair.condition
    back = augment(flipped, Fixed([*PLAIN, 0.0]), mirror=True)  # type: ignore[arg-type]
    for name in ("flow", "gain", "mask", "inside"):
        np.testing.assert_allclose(getattr(back, name), getattr(pair, name), atol=1e-6)
    np.testing.assert_allclose(back.picture, pair.picture, atol=1e-5)


def test_mirroring_is_a_coin_that_can_be_taken_away() -> None:
    rng = np.random.default_rng(0)
    sides = [mirrored(augment(sample(), rng, mirror=True)) for _ in range(60)]
    assert 15 < sum(sides) < 45
    assert not any(mirrored(augment(sample(), rng, mirror=False)) for _ in range(30))


def test_light_changes_the_goal_as_it_changes_the_picture() -> None:
    """Power and cast of the goal are those of the picture: gain stays a gain."""
    pair = sample()._replace(flow=np.zeros((24, 24, 2), np.float32), picture=sample().picture * 0.6)
    changed = augment(pair, Fixed([1.0, 0.0, 1.0, 1.0], 0.4), mirror=False)  # type: ignore[arg-type]
    power = np.exp(0.28 * 0.4)
    cast = np.exp(0.12 * 0.4 + 0.09 * 0.4) * np.array([1.12, 0.98, 0.86])
    before, after = ((goal(p).permute(1, 2, 0).numpy() + 1) / 2 for p in (pair, changed))
    skin = pair.mask == 0
    assert np.abs(after - before)[skin].max() > 0.02
    np.testing.assert_allclose(after[skin], np.minimum(before[skin] ** power * cast, 1), atol=2e-3)
    np.testing.assert_allclose(after[~skin], np.minimum(before[~skin] ** power * cast, 1), atol=2e-3)
    for name in ("flow", "mask", "inside"):
        assert np.array_equal(getattr(changed, name), getattr(pair, name))


def test_a_greyed_picture_has_a_grey_mouth_and_keeps_its_motion() -> None:
    pair = sample()
    grey = augment(pair, Fixed([0.0, 1.0, 1.0, 1.0]), mirror=False)  # type: ignore[arg-type]
    assert np.ptp(pair.picture, axis=2).max() > 0.05
    assert np.ptp(grey.picture, axis=2).max() < 1e-6 and np.ptp(grey.colour, axis=2).max() < 1e-6
    assert np.array_equal(grey.flow, pair.flow)


def test_augmented_pictures_stay_pictures() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        made = augment(sample(), rng, mirror=True)
        assert made.picture.min() >= 0 and made.picture.max() <= 1
        assert made.colour.min() >= 0 and made.colour.max() <= 1
        assert made.gain.min() > 0
        assert all(np.isfinite(part).all() for part in (made.picture, made.colour, made.gain, made.flow))


def test_shaking_landmarks() -> None:
    points = np.zeros((68, 2))
    assert shaken(points, None, 1, 1) is points
    rng = np.random.default_rng(0)
    together = shaken(points, rng, 2.0, 0.0)
    assert (together == together[0]).all() and together.any()
    assert 0.3 < shaken(points, rng, 0.0, 0.5).std() < 0.7


def test_collate_scales_and_orders_the_axes() -> None:
    one, two = sample(0), sample(1)
    batch = collate([one, two], CPU)
    assert batch.picture.shape == (2, 3, 24, 24) and batch.lines.shape == (2, 1, 24, 24)
    assert [tuple(t.shape[1:]) for t in batch.truth] == [(2, 24, 24), (1, 24, 24), (1, 24, 24), (3, 24, 24)]
    assert float(batch.picture[1, 2, 5, 7]) == pytest.approx(float(two.picture[5, 7, 2]) * 2 - 1)
    assert float(batch.truth.colour[0, 1, 15, 6]) == pytest.approx(float(one.colour[15, 6, 1]) * 2 - 1)
    assert float(batch.truth.flow[0, 0, 3, 3]) == 2.5 and float(batch.truth.flow[0, 1, 3, 3]) == -1
    assert batch.condition is not None and batch.condition.shape == (2, 12)
    assert collate([one._replace(condition=None)], CPU).condition is None


# loss


def test_the_loss_of_the_truth_is_none() -> None:
    batch = collate([sample(), sample(1)], CPU)
    terms = EditLoss()(batch.truth, batch)
    assert set(terms) == {"flow", "gain", "mask", "colour", "reconstruction", "detail"}
    for name in ("flow", "gain", "colour", "reconstruction", "detail"):
        assert float(terms[name]) == pytest.approx(0, abs=2e-3)
    wrong = EditLoss()(batch.truth._replace(mask=1 - batch.truth.mask), batch)
    assert float(terms["mask"]) < 0.01 < 0.5 < float(wrong["mask"])


@pytest.mark.parametrize("part", ["flow", "gain", "mask", "colour"])
def test_each_error_raises_its_own_term(part: str) -> None:
    batch = collate([sample()], CPU)
    truth = batch.truth._replace(mask=batch.truth.mask * 0.8 + 0.1)
    batch = batch._replace(truth=truth)
    right = EditLoss()(truth, batch)
    wrong = EditLoss()(truth._replace(**{part: getattr(truth, part) * 0.5}), batch)
    raised = {name for name in right if float(wrong[name]) > float(right[name]) + 1e-3}
    assert part in raised and raised <= {part, "reconstruction", "detail"}


def test_what_lies_outside_the_photograph_does_not_count() -> None:
    pair = sample()
    inside = np.ones((24, 24), np.float32)
    inside[:, :8] = 0
    batch = collate([pair._replace(inside=inside, mask=np.zeros((24, 24), np.float32))], CPU)
    edit = Edit(*(part.clone() for part in batch.truth))
    edit.flow[..., :8] += 5
    edit.gain[..., :8] += 0.5
    edit.mask[..., :8] = 0.9
    terms = EditLoss()(edit, batch)
    assert all(float(terms[name]) < 1e-3 for name in ("flow", "gain", "reconstruction", "detail"))
    assert float(terms["mask"]) < 0.01


# stages


@stages
def test_people_are_in_training_or_in_the_check(make: Any, name: str) -> None:
    stage = make(name)
    assert is_dev(PEOPLE[1].file) and not is_dev(PEOPLE[0].file)
    assert stage.corpus.finished.tolist() == [0, 1]
    assert stage.train_rows.tolist() == [0, 1, 2, 3] and stage.dev_rows.tolist() == [4, 5, 6, 7]


def test_pictures_of_one_person_stay_on_one_side() -> None:
    assert identity("photos/Ai_Sugiyama_0002.jpg") == "Ai_Sugiyama"
    assert identity("Avinash_11.jpg") == "Avinash" and identity("portrait_014.jpg") == "portrait_014"
    assert all(is_dev(f"a/bert_{n}.png") for n in (1, 7, 42, 1234))
    assert 0.05 < np.mean([is_dev(f"person{n}x.png") for n in range(1000)]) < 0.12


@stages
def test_batches_are_a_function_of_seed_and_number(make: Any, name: str) -> None:
    stage = make(name, seed=3)
    first = list(islice(stage.batches(0), 4))
    for number in (1, 3):
        again: Batch = next(stage.batches(number))
        assert torch.equal(first[number].picture, again.picture) and torch.equal(first[number].lines, again.lines)
        assert all(torch.equal(a, b) for a, b in zip(first[number].truth, again.truth, strict=True))
    assert not torch.equal(first[0].picture, first[1].picture)
    assert not torch.equal(first[0].picture, next(make(name, seed=4).batches(0)).picture)
    assert torch.equal(first[0].picture, next(make(name, seed=3).batches(0)).picture)


@stages
def test_rows_are_read_with_their_lines(make: Any, name: str) -> None:
    stage = make(name)
    row = stage.read(5, None)
    arrays = stage.corpus.arrays
    if name == "refinement":
        points = arrays["mouth_resting"][5], arrays["mouth_wanted"][5]
        wanted = [draw_curves(p, 160, 160, LOWER_CURVES) for p in points]
        assert np.array_equal(row.picture, arrays["mouth"][5].astype(np.float32) / 255)
        assert row.condition is None
    else:
        wanted = [draw_curves(arrays["face_points"][5], 128, 128)]
        assert np.array_equal(row.picture, arrays["face"][5].astype(np.float32) / 255)
        assert row.condition is not None and np.array_equal(row.condition, arrays["condition"][5])
    assert len(row.lines) == len(wanted)
    assert all(np.array_equal(a, b) for a, b in zip(row.lines, wanted, strict=True))
    shaken_row = stage.read(5, np.random.default_rng(0))
    assert not np.array_equal(shaken_row.lines[0], row.lines[0])
    assert np.array_equal(shaken_row.flow, row.flow)


def test_the_detectors_error_is_in_both_mouths_alike(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network sees move is the wish, not the error of the landmarks."""
    from emotalk.stages import refinement

    drawn: list[np.ndarray] = []

    def record(points: np.ndarray, *rest: Any) -> np.ndarray:
        drawn.append(points)
        return draw_curves(points, *rest)

    monkeypatch.setattr(refinement, "draw_curves", record)
    stage = make("refinement")
    arrays = stage.corpus.arrays
    for seed in range(20):
        stage.read(1, np.random.default_rng(seed))
    resting, wanted = np.stack(drawn[::2]), np.stack(drawn[1::2])
    error = resting - arrays["mouth_resting"][1]
    assert 0.3 < error.std() < 0.9
    apart = wanted - arrays["mouth_wanted"][1] - error
    assert 0.1 < apart.std() < 0.2


@stages
def test_a_few_steps_lower_the_loss_of_a_batch(make: Any, name: str) -> None:
    stage = make(name, learning_rate=1e-2)
    batch = next(stage.batches(0))
    stage.net.train()
    before = copy.deepcopy(stage.net.state_dict())
    totals = [stage.step(batch) for _ in range(12)]
    assert set(totals[0]) == {"flow", "gain", "mask", "colour", "reconstruction", "detail", "total", "gradient_norm"}
    assert all(value.ndim == 0 and not value.requires_grad for value in totals[0].values())
    weights = stage.weights
    expected = sum(getattr(weights, n) * v for n, v in totals[0].items() if hasattr(weights, n))
    assert float(totals[0]["total"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(totals[-1]["total"]) < 0.9 * float(totals[0]["total"])
    still = [k for k, p in stage.net.named_parameters() if torch.equal(before[k], p)]
    assert not still
    assert any(
        not torch.equal(a, b) for a, b in zip(stage.average.module.parameters(), stage.net.parameters(), strict=True)
    )


@stages
def test_an_adversary_plays_and_is_saved(make: Any, name: str) -> None:
    stage = make(name, weights=EditWeights(adversarial=0.5))
    assert stage.adversary is not None and stage.state()["adversary"] is stage.adversary
    assert make(name).adversary is None and "adversary" not in make(name).state()
    batch = next(stage.batches(0))
    seen = stage.judged(batch.picture, batch)
    rows, columns = stage.judged_part
    assert torch.equal(seen[:, :3], batch.picture[:, :, rows, columns])
    assert torch.equal(seen[:, 3:], batch.lines[:, :, rows, columns] * 2 - 1)
    before = [p.detach().clone() for p in stage.adversary.network.parameters()]
    stage.net.train()
    terms = stage.step(batch)
    assert {"adversarial", "discriminator"} <= set(terms)
    assert any(not torch.equal(a, b) for a, b in zip(before, stage.adversary.network.parameters(), strict=True))
    expected = sum(getattr(stage.weights, n) * v for n, v in terms.items() if hasattr(stage.weights, n))
    assert float(terms["total"]) == pytest.approx(float(expected), rel=1e-4)


def test_colour_and_open_mouths_are_drawn_more_often(make: Any) -> None:
    stage = make("neutral2emotion")
    stage.corpus.photos[0] = replace(stage.corpus.photos[0], grey=True)
    stage.train_rows = np.arange(8)  # four rows of a grey photograph, then four of a colour one
    chances = stage.chances
    assert chances.sum() == pytest.approx(1)
    assert chances[4:] == pytest.approx(COLOUR_CHANCE * chances[:4])
    stage = make("refinement")
    masks = np.zeros((4, 160, 160), np.uint8)
    masks[1, 60:90, 60:100] = 255
    stage.corpus.arrays["mouth_mask"] = masks
    chances = stage.chances
    assert chances.sum() == pytest.approx(1)
    assert chances[1] > 3 * chances[0] and chances[0] == pytest.approx(chances[2])


@stages
def test_state_round_trip_continues_bit_for_bit(make: Any, name: str) -> None:
    one = make(name)
    one.net.train()
    batches = list(islice(one.batches(0), 3))
    for batch in batches[:2]:
        one.step(batch)
    saved = copy.deepcopy({key: part.state_dict() for key, part in one.state().items()})
    two = make(name, seed=9)
    for key, part in two.state().items():
        part.load_state_dict(saved[key])
    two.net.train()
    last = [stage.step(batches[2]) for stage in (one, two)]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])
    for a, b in zip(one.state().values(), two.state().values(), strict=True):
        if isinstance(a, nn.Module):
            assert all(torch.equal(a.state_dict()[k], v) for k, v in b.state_dict().items())


@stages
def test_a_stage_starts_the_same_for_a_seed(make: Any, name: str) -> None:
    one, two, other = make(name, seed=1), make(name, seed=1), make(name, seed=2)
    key = "body.stem.convolution.weight"
    assert torch.equal(one.net.state_dict()[key], two.net.state_dict()[key])
    assert not torch.equal(one.net.state_dict()[key], other.net.state_dict()[key])


@stages
def test_validation_scores_the_people_kept_out(make: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make(name)
    read: list[int] = []
    monkeypatch.setattr(stage, "read", lambda row, rng: read.append(row) or type(stage).read(stage, row, rng))
    stage.average.eval()
    found = stage.validate()
    assert sorted(read) == stage.dev_rows.tolist()
    assert found["score"] == pytest.approx(sum(getattr(stage.weights, n, 0.0) * v for n, v in found.items()))
    assert found["score"] > 0 and found["flow_still"] > 0
    assert found == stage.validate()

    def right(net: nn.Module, batch: Batch) -> Edit:
        return batch.truth

    monkeypatch.setattr(stage, "run", right)
    best = stage.validate()
    assert best["flow_error"] == pytest.approx(0, abs=1e-6) == best["flow"]
    assert best["flow_still"] == pytest.approx(found["flow_still"])
    assert best["score"] < found["score"]


@stages
def test_what_is_exported_is_the_average(make: Any, name: str) -> None:
    stage = make(name)
    ((exported, (net, config)),) = stage.networks().items()
    assert exported == name and config == CONFIGS[name].net
    assert net is stage.average.module and net is not stage.net


@stages
def test_the_learning_rate_follows_the_progress(make: Any, name: str) -> None:
    stage = make(name)
    stage.set_progress(0.5)
    half = stage.optimizer.param_groups[0]["lr"]
    stage.set_progress(1.0)
    assert 0 <= stage.optimizer.param_groups[0]["lr"] < half < stage.learning_rate


@pytest.mark.parametrize(("name", "shape"), [("neutral2emotion", (128, 9 * 128, 3)), ("refinement", (3 * 160, 640, 3))])
def test_the_picture_shows_people_kept_out(make: Any, name: str, shape: tuple[int, ...]) -> None:
    stage = make(name)
    stage.average.eval()
    sheet = stage.picture()
    assert sheet.shape == shape and sheet.dtype == np.uint8
    shown = stage.read(int(stage.dev_rows[0]), None).picture
    side = shown.shape[0]
    assert np.abs(sheet[:side, :side].astype(np.float32) / 255 - shown).max() < 0.01


def test_contempt_is_never_mirrored(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make("neutral2emotion")
    marked = sample(size=24)
    for emotion, expected in ((Emotion.CONTEMPT, False), (Emotion.HAPPY, True), (Emotion.NEUTRAL, True)):
        for intensity in (0.2, 1.0, 2.6):
            condition = np.append(condition_vector(emotion, intensity), np.float32(0))
            pair = marked._replace(condition=condition.astype(np.float32))
            monkeypatch.setattr(stage, "read", lambda row, rng, pair=pair: pair)
            sides = {mirrored(stage._drawn(0, np.random.default_rng(seed))) for seed in range(25)}
            assert sides == ({False, True} if expected else {False}), (emotion, intensity)


def test_mouths_are_mirrored(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make("refinement")
    monkeypatch.setattr(stage, "read", lambda row, rng: sample()._replace(condition=None))
    assert {mirrored(stage._drawn(0, np.random.default_rng(seed))) for seed in range(25)} == {False, True}


def test_a_corpus_with_nobody_to_check_on_is_refused(data: Path, tmp_path: Path) -> None:
    """Without a check every checkpoint would score 0, the best there is."""
    config = replace(CONFIGS["refinement"], puppets=replace(PUPPETS, faces=1, per_face=1))
    with pytest.raises(InputError, match=r"1 usable photographs in .*puppets: none left to check on"):
        RefinementStage(data, config, device=CPU, seed=0, cache=tmp_path)


def test_missing_data_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no face rig at"):
        Neutral2EmotionStage(tmp_path, CONFIGS["neutral2emotion"], device=CPU, seed=0, cache=tmp_path / "cache")
