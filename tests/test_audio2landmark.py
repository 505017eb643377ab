"""The speech network and its stage: shapes, chunks, the paper's variant, loss terms, and that it learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalk.audio import LEVEL_DB, TYPICAL_DEVIATION
from emotalk.config import Audio2LandmarkConfig
from emotalk.errors import ConfigError, InputError
from emotalk.landmarks import LOWER_POINTS, Basis, mouth_opening
from emotalk.nets.audio2landmark import Audio2Landmark
from emotalk.speech_corpus import FRAME_SAMPLES, Clip, save_clips
from emotalk.stages import audio2landmark as stage_module
from emotalk.stages.audio2landmark import (
    Audio2LandmarkStage,
    Audio2LandmarkStageConfig,
    best_lag,
    cepstral_bases,
    closes,
    collate,
    course,
    opening_of,
    vary_features,
    warp_matrix,
    width_of,
)

TINY = Audio2LandmarkConfig(components=4, channels=(8, 8), embedding=12, units=10, dropout=0.0)
STAGE = Audio2LandmarkStageConfig(net=TINY, items=8, batch=4, frames=40, average=0.9, learning_rate=1e-2)
PAPER = Audio2LandmarkConfig(recurrent="window", layers=3, units=60, dropout=0.0)


def network(config: Audio2LandmarkConfig, seed: int = 0) -> Audio2Landmark:
    torch.manual_seed(seed)
    made = Audio2Landmark(config)
    rows = np.random.default_rng(0).normal(size=(80, LOWER_POINTS, 2)) * 0.05
    made.set_basis(Basis.fit(rows, config.components))
    return made.eval()


def windows(frames: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, frames, 30, 28)).astype(np.float32))


@pytest.mark.parametrize("config", [TINY, PAPER], ids=["frames", "window"])
def test_coefficients_and_motion_have_one_row_per_frame(config: Audio2LandmarkConfig) -> None:
    net = network(config)
    assert net(windows(7, batch=2)).shape == (2, 7, config.components)
    motion = net.displacements(windows(7, batch=2))
    assert motion.shape == (2, 7, LOWER_POINTS, 2)
    assert motion.dtype == torch.float32


@pytest.mark.parametrize("config", [TINY, PAPER], ids=["frames", "window"])
def test_gradient_reaches_every_parameter(config: Audio2LandmarkConfig) -> None:
    net = network(config).train()
    net(windows(6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_paper_variant_has_three_layers_of_sixty_and_reads_each_window_alone() -> None:
    net = network(PAPER)
    assert (net.lstm.num_layers, net.lstm.hidden_size, net.lstm.bidirectional) == (3, 60, False)
    x = windows(5)
    shuffled = x[:, [3, 0, 4, 1, 2]]
    torch.testing.assert_close(net(x)[:, [3, 0, 4, 1, 2]], net(shuffled))


def test_default_variant_reads_its_neighbours() -> None:
    net = network(TINY)
    x = windows(5)
    changed = x.clone()
    changed[:, 4] += 1
    assert (net(x) - net(changed))[0, 2].abs().max() > 1e-6


def test_default_size_is_moderate() -> None:
    count = sum(p.numel() for p in Audio2Landmark(Audio2LandmarkConfig()).parameters())
    assert 300_000 <= count <= 1_500_000


def test_batch_of_three_equals_three_batches_of_one() -> None:
    net = network(TINY)
    x = windows(6, batch=3)
    torch.testing.assert_close(net(x), torch.cat([net(row[None]) for row in x]), rtol=1e-4, atol=1e-6)


def test_long_speech_in_chunks_equals_one_run() -> None:
    net = network(TINY)
    x = windows(300)
    whole = net.displacements(x, chunk=10_000)
    for chunk in (64, 150):
        # 1e-5 face units is a thousandth of a pixel; 40 frames are enough for an LSTM of this size to forget
        torch.testing.assert_close(net.displacements(x, chunk=chunk, overlap=40), whole, rtol=0, atol=1e-5)
    assert (net.displacements(x, chunk=100, overlap=0) - whole).abs().max() > 1e-5  # the overlap is what makes it so


def test_no_frames_give_no_motion() -> None:
    assert network(TINY).displacements(windows(0)).shape == (1, 0, LOWER_POINTS, 2)


def test_decode_is_the_decoding_of_the_basis() -> None:
    rows = np.random.default_rng(0).normal(size=(80, LOWER_POINTS, 2)) * 0.05
    basis = Basis.fit(rows, 4)
    coefficients = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    torch.testing.assert_close(
        network(TINY).decode(torch.from_numpy(coefficients)), torch.from_numpy(basis.decode(coefficients)).float()
    )


@pytest.mark.parametrize(
    "change", [{"recurrent": "lstm"}, {"units": 0}, {"channels": ()}, {"dropout": 1.0}, {"fps": 0.0}], ids=str
)
def test_senseless_sizes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        Audio2LandmarkConfig(**change)  # type: ignore[arg-type]


# ---- measures


def open_mouth(opening: float, width: float = 0.0) -> torch.Tensor:
    motion = torch.zeros(LOWER_POINTS, 2)
    motion[[34, 35, 36], 1] = opening
    motion[33, 0] = width
    return motion


def test_opening_and_width_by_hand() -> None:
    motion = torch.stack([open_mouth(0.2, 0.1), open_mouth(0.0)])
    torch.testing.assert_close(opening_of(motion), torch.tensor([0.2, 0.0]))
    torch.testing.assert_close(width_of(motion), torch.tensor([0.1, 0.0]))
    assert mouth_opening(motion.numpy())[0] == pytest.approx(0.2)  # the same points as the scheme's own measure


def test_course_is_zero_for_the_truth_and_by_hand_for_half_of_it() -> None:
    time = torch.linspace(0, 12, 100)
    wanted, weight = time.sin()[None] * 0.1, torch.ones(1, 100)
    correlation, amplitude = course(wanted, wanted, weight, 0.01)
    assert float(correlation) == pytest.approx(0, abs=1e-3)
    assert float(amplitude) == pytest.approx(0, abs=1e-6)
    correlation, amplitude = course(-wanted / 2, wanted, weight, 0.01)
    assert float(correlation) == pytest.approx(2, abs=2e-2)
    assert float(amplitude) == pytest.approx(math.log(2) ** 2, rel=0.05)


def test_course_leaves_out_sequences_that_do_not_move() -> None:
    still = torch.zeros(1, 50)
    correlation, amplitude = course(torch.randn(1, 50), still, torch.ones(1, 50), 0.01)
    assert float(correlation) == float(amplitude) == 0.0


def test_best_lag_counts_late_frames() -> None:
    wanted = np.sin(np.linspace(0, 20, 120))
    assert best_lag(wanted, wanted) == 0
    assert best_lag(np.roll(wanted, 2), wanted) == 2
    assert best_lag(np.roll(wanted, -1), wanted) == -1
    assert best_lag(np.zeros(120), wanted) == 0


def test_bilabials_must_close_near_the_beginning_of_the_word() -> None:
    words = [(1.0, 1.4, "bin"), (1.6, 2.0, "red")]
    opening = np.full(75, 0.1)
    assert closes(opening, words) == 0.0
    opening[26] = 0.01
    assert closes(opening, words) == 1.0
    assert math.isnan(closes(opening, words[1:]))


def test_short_pieces_are_padded_with_frames_that_do_not_count() -> None:
    piece = (np.ones((3, 30, 28)), np.ones((3, LOWER_POINTS, 2)), np.ones(3))
    x, motion, weight = collate([piece], 5)
    assert x.shape == (1, 5, 30, 28)
    assert motion.shape == (1, 5, LOWER_POINTS, 2)
    assert weight.tolist() == [[1, 1, 1, 0, 0]]


def test_other_vocal_tract_moves_the_spectrum_and_keeps_the_level() -> None:
    torch.testing.assert_close(warp_matrix(1.0), torch.eye(14), atol=1e-5, rtol=0)
    there_and_back = warp_matrix(1 / 1.1) @ warp_matrix(1.1)
    torch.testing.assert_close(there_and_back[:7, :7], torch.eye(7), atol=0.2, rtol=0)  # 40 bands and 14 terms only
    peak = torch.zeros(40)
    peak[15] = 1.0  # a resonance in one mel band
    dct, hertz, _ = cepstral_bases(14)
    scale = torch.tensor([LEVEL_DB * math.sqrt(40), *TYPICAL_DEVIATION])
    before = (dct @ peak) / scale
    moved = dct.T @ (warp_matrix(1.15) @ before * scale)
    assert float(hertz[int(moved.argmax())]) == pytest.approx(1.15 * float(hertz[15]), rel=0.05)
    assert warp_matrix(1.15)[0].tolist() == [1.0] + [0.0] * 13


def test_varied_features_keep_their_shape_and_differ_between_sequences_only() -> None:
    torch.manual_seed(0)
    x = windows(3).expand(2, 3, 30, 28)
    varied = vary_features(x, 0.1)
    assert varied.shape == x.shape
    assert not torch.allclose(varied[0], varied[1])
    same = x[:, :1].expand(2, 3, 30, 28)
    made = vary_features(same, 0.1)
    torch.testing.assert_close(made[:, 0], made[:, 2])


# ---- the stage


def chirping_clip(name: str, seed: int) -> Clip:
    """Three seconds in which the mouth opens with the loudness of a hum."""
    generator = np.random.default_rng(seed)
    frames = 75
    envelope = np.clip(np.sin(np.arange(frames) / 4 + generator.uniform(0, 6)), 0, 1)
    envelope[:10] = envelope[-10:] = 0
    time = np.arange(frames * FRAME_SAMPLES) / 16_000
    hum = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12)) * envelope.repeat(FRAME_SAMPLES)
    motion = np.stack([open_mouth(float(0.2 * e)).numpy() for e in envelope])
    motion += generator.normal(0, 1e-3, motion.shape)
    words = ((0.4, 1.2, "bin"), (1.2, 2.6, "red"))
    return Clip(name, (hum * 8000).astype(np.int16), motion.astype(np.float32), np.ones(frames, np.float32), words)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A prepared corpus and eight augmented utterances, made once."""
    parent = tmp_path_factory.mktemp("speech")
    folder = parent / stage_module.recipe(STAGE, 0)
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_module, "SHARD", 8)
        patch.setattr(stage_module.os, "nice", lambda increment: 0)  # only the process that makes items steps back
        for kind, count in (("train", 4), ("dev", 2), ("transcribed", 0), ("synthetic", 0), ("unread", 0)):
            save_clips(folder / f"{kind}.npz", [chirping_clip(f"{kind}{i}", i) for i in range(count)])
        stage_module.make_shards(folder, 0, 1, (1.0, 0.0, 0.0))
        yield parent


def tiny_stage(cache: Path) -> Audio2LandmarkStage:
    return Audio2LandmarkStage(Path("nowhere"), STAGE, cache=cache)


def test_stage_learns_and_its_average_follows(cache: Path) -> None:
    stage = tiny_stage(cache)
    before = stage.validate()
    batches = stage._batches(0)
    losses = []
    for number in range(60):
        stage.set_progress(number / 60)
        losses.append(float(stage.step(next(batches))["loss"]))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    after = stage.validate()
    assert after["score"] < before["score"]
    assert after["correlation"] > 0.7
    assert stage.networks()["audio2landmark"][0] is stage.average


def test_batches_are_a_function_of_their_number(cache: Path) -> None:
    stage = tiny_stage(cache)
    first = stage._batches(0)
    batches = [next(first) for _ in range(4)]
    again = next(stage._batches(3))
    for made, expected in zip(again, batches[3], strict=True):
        assert torch.equal(made, expected)
    assert not torch.equal(batches[2][0], batches[3][0])


def test_stage_state_restores_bit_for_bit(cache: Path) -> None:
    one, two = tiny_stage(cache), tiny_stage(cache)
    batch = next(one._batches(0))
    one.step(batch)
    for name, part in two.state().items():
        part.load_state_dict(copy.deepcopy(one.state()[name].state_dict()))
    torch.manual_seed(1)
    one.step(batch)
    torch.manual_seed(1)
    two.step(batch)
    for a, b in zip(one.average.parameters(), two.average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_loss_is_zero_for_the_truth_and_open_lips_cost_where_they_should_touch(cache: Path) -> None:
    stage = tiny_stage(cache)
    _, motion, weight = next(stage._batches(0))
    terms = stage.losses(motion, motion, weight)
    assert all(float(term) == pytest.approx(0, abs=0.02) for term in terms.values())
    closed = torch.zeros(1, 20, LOWER_POINTS, 2)
    parted = open_mouth(0.1).expand(1, 20, LOWER_POINTS, 2)
    assert float(stage.losses(parted, closed, torch.ones(1, 20))["closed"]) > 1
    assert float(stage.losses(closed, parted, torch.ones(1, 20))["closed"]) == 0


def test_missing_corpus_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"landmarks\.npz"):
        Audio2LandmarkStage(tmp_path, cache=tmp_path / "cache")
