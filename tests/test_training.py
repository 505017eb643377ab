"""The loop, driven by a stage of a few weights."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emotalk import __version__, training
from emotalk.errors import ConfigError, DeviceError, DivergedError, OutputError, WeightsError
from emotalk.training import LoopConfig, cosine, prefetch, read_checkpoint, read_run, train

QUIET = LoopConfig(log_steps=2, validate_steps=0, validate_minutes=0, checkpoint_minutes=0)


class Toy:
    """Learns the sum of four numbers; dropout and AdamW make the order of random numbers and the state matter."""

    name = "toy"

    def __init__(self, seed: int = 0, width: int = 8) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.net = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, 1))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), 1e-2)
        self.fractions: list[float] = []
        self.closed = False
        self.validations = 0

    def state(self) -> dict[str, Any]:
        return {"net": self.net, "optimizer": self.optimizer}

    def batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            for number in itertools.count(start):
                x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1000 * self.seed + number))
                yield x, x.sum(1, keepdim=True)
        finally:
            self.closed = True

    def set_progress(self, fraction: float) -> None:
        self.fractions.append(fraction)
        training.set_learning_rate(self.optimizer, 1e-2 * cosine(fraction))

    def step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        assert self.net.training
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        return {"regression": loss.detach(), "gradient_norm": norm}

    def validate(self) -> dict[str, float]:
        assert not self.net.training
        self.validations += 1
        x = torch.randn(64, 4)  # draws from the generator that dropout uses
        return {"score": float((self.net(x) - x.sum(1, keepdim=True)).square().mean().detach())}

    def picture(self) -> np.ndarray:
        sheet = np.zeros((4, 6, 3), np.uint8)
        sheet[..., 0] = 255  # red
        return sheet

    def networks(self) -> dict[str, Any]:
        return {"toy": (self.net, {})}


def weights(stage: Toy) -> list[bytes]:
    return [value.numpy().tobytes() for value in stage.net.state_dict().values()]


def log(folder: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_loss_falls_and_the_run_folder_tells(tmp_path: Path) -> None:
    run = tmp_path / "run"
    seen: list[tuple[int, float]] = []
    result = train(
        Toy(),
        run,
        steps=150,
        config={"batch": 16},
        loop=LoopConfig(log_steps=50, validate_steps=50),
        on_step=lambda step, fraction: seen.append((step, fraction)),
    )
    terms = [record["terms"]["regression"] for record in log(run, "train")]
    assert len(terms) == 3 and terms[-1] < 0.3 * terms[0]
    assert "gradient_norm" in log(run, "train")[0]["terms"]
    scores = [record["metrics"]["score"] for record in log(run, "validate")]
    assert len(scores) == 4 and scores[-1] < 0.3 * scores[0]  # before the first step, then every 50
    assert result.step == 150 and result.best_score == min(scores)
    assert seen[-1] == (150, 1.0) and len(seen) == 150
    assert read_run(run) == training.Run(stage="toy", seed=0, config={"batch": 16}, version=__version__)
    assert sorted(path.name for path in run.iterdir()) == ["best.pt", "last.pt", "log.jsonl", "pictures", "run.json"]


def test_picture_is_saved_in_colour(tmp_path: Path) -> None:
    import cv2

    train(Toy(), tmp_path / "run", steps=1, loop=QUIET)
    pictures = sorted((tmp_path / "run" / "pictures").iterdir())
    assert [path.name for path in pictures] == ["0000000.png", "0000001.png"]
    read = cv2.imread(str(pictures[0]))
    assert read is not None and read[0, 0].tolist() == [0, 0, 255]  # cv2 gives blue first: red is last


def test_mean_of_terms_is_logged(tmp_path: Path) -> None:
    stage = Toy()
    numbers = iter([1.0, 3.0, 5.0, 9.0])
    stage.step = lambda batch: {"term": torch.tensor(next(numbers))}  # type: ignore[method-assign]
    train(stage, tmp_path / "run", steps=4, loop=QUIET)
    assert [record["terms"] for record in log(tmp_path / "run", "train")] == [{"term": 2.0}, {"term": 7.0}]


class StopsAt(Toy):
    """Presses Ctrl-C during one step."""

    def __init__(self, at: int, kind: signal.Signals = signal.SIGINT) -> None:
        super().__init__()
        self.at, self.kind, self.count = at, kind, 0

    def step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), self.kind)
        return super().step(batch)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_12_steps_equal_6_and_resume_and_6_bit_for_bit(tmp_path: Path, kind: signal.Signals) -> None:
    loop = LoopConfig(log_steps=4, validate_steps=3)
    whole = Toy()
    train(whole, tmp_path / "whole", steps=12, loop=loop)
    first = StopsAt(6, kind)
    with pytest.raises(KeyboardInterrupt):
        train(first, tmp_path / "parts", steps=12, loop=loop)
    assert first.closed and read_checkpoint(tmp_path / "parts" / "last.pt")["step"] == 6
    second = Toy(seed=3)  # other first weights: all must come from the checkpoint
    second.seed = 0
    result = train(second, tmp_path / "parts", steps=12, loop=loop)
    assert weights(second) == weights(whole)
    assert result.step == 12
    assert first.fractions + second.fractions == whole.fractions
    for kind_of_record in ("validate", "train"):
        steps = [record["step"] for record in log(tmp_path / "parts", kind_of_record)]
        assert steps == sorted(set(steps))
    scores = [record["metrics"] for record in log(tmp_path / "whole", "validate")]
    assert [record["metrics"] for record in log(tmp_path / "parts", "validate")] == scores


def test_looking_more_often_does_not_change_what_is_learnt(tmp_path: Path) -> None:
    seldom, often = Toy(), Toy()
    train(seldom, tmp_path / "a", steps=8, loop=QUIET)
    train(often, tmp_path / "b", steps=8, loop=LoopConfig(log_steps=1, validate_steps=1, checkpoint_steps=1))
    assert often.validations > seldom.validations
    assert weights(seldom) == weights(often)


def test_steps_after_the_last_checkpoint_are_logged_once(tmp_path: Path) -> None:
    class Dies(Toy):
        def step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            if len(self.fractions) == 8:
                raise RuntimeError("the machine is gone")
            return super().step(batch)

    run = tmp_path / "run"
    loop = LoopConfig(log_steps=1, checkpoint_steps=5)
    with pytest.raises(RuntimeError, match="machine is gone"):
        train(Dies(), run, steps=10, loop=loop)
    with (run / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # cut while it was written
    resumed, whole = Toy(), Toy()
    train(resumed, run, steps=10, loop=loop)
    train(whole, tmp_path / "whole", steps=10, loop=loop)
    assert [record["step"] for record in log(run, "train")] == list(range(1, 11))
    assert weights(resumed) == weights(whole)


def test_killed_before_the_first_checkpoint_begins_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(Toy(), run, steps=2, loop=QUIET)
    (run / "last.pt").unlink()
    stage = Toy()
    train(stage, run, steps=2, loop=QUIET)
    assert json.loads((run / "log.jsonl").read_text().splitlines()[0])["kind"] == "start"
    assert len(stage.fractions) == 2 and len(log(run, "start")) == 1


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    first = train(Toy(), tmp_path / "run", steps=3, loop=QUIET)
    stage = Toy()
    again = train(stage, tmp_path / "run", steps=3, loop=QUIET)
    assert stage.fractions == [] and again.step == 3 and again.best_score == first.best_score


def test_minutes_end_the_training_and_count_over_resumes(tmp_path: Path) -> None:
    stage = Toy()
    result = train(stage, tmp_path / "run", minutes=0.005, loop=QUIET)
    assert 0.3 <= result.elapsed < 5 and result.step > 3
    assert stage.fractions == sorted(stage.fractions) and stage.fractions[-1] > 0.5
    assert log(tmp_path / "run", "validate")[-1]["step"] == result.step
    again = Toy()
    train(again, tmp_path / "run", minutes=0.005, loop=QUIET)
    assert again.fractions == []


def test_best_is_the_best_and_patience_ends(tmp_path: Path) -> None:
    stage = Toy()
    scores = iter([5.0, 2.0, 3.0, 4.0, 1.0])
    stage.validate = lambda: {"score": next(scores)}  # type: ignore[method-assign]
    result = train(stage, tmp_path / "run", steps=40, loop=LoopConfig(validate_steps=10, patience=2))
    assert result.stopped_early and (result.step, result.best_step, result.best_score) == (30, 10, 2.0)
    assert read_checkpoint(tmp_path / "run" / "best.pt")["step"] == 10
    assert read_checkpoint(tmp_path / "run" / "last.pt")["step"] == 30


def test_nan_names_step_and_term_and_saves_nothing(tmp_path: Path) -> None:
    class Breaks(Toy):
        def step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            terms = super().step(batch)
            if len(self.fractions) == 7:
                with torch.no_grad():
                    self.net[0].weight.fill_(torch.nan)
                return {**terms, "total_variation": torch.tensor(torch.nan)}
            return terms

    with pytest.raises(DivergedError, match="toy diverged at step 7: total_variation is nan"):
        train(Breaks(), tmp_path / "run", steps=10, loop=LoopConfig(checkpoint_steps=1))
    checkpoint = read_checkpoint(tmp_path / "run" / "last.pt")
    assert checkpoint["step"] == 6
    assert bool(checkpoint["state"]["net"]["0.weight"].isfinite().all())


def test_nan_score_stops(tmp_path: Path) -> None:
    stage = Toy()
    stage.validate = lambda: {"score": float("nan")}  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match="score is nan"):
        train(stage, tmp_path / "run", steps=2, loop=QUIET)
    assert not (tmp_path / "run" / "best.pt").exists()


def test_killed_save_leaves_the_previous_checkpoint_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train(Toy(), run, steps=5, loop=QUIET)
    before = (run / "last.pt").read_bytes()

    def killed(_handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        training.write_atomic(run / "last.pt", b"half of a checkpoint")
    assert (run / "last.pt").read_bytes() == before
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    assert read_checkpoint(run / "last.pt")["step"] == 5


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train(Toy(), run, steps=5, loop=QUIET)
    full = False

    def fsync(_handle: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training.os, "fsync", fsync)

    class Fills(Toy):
        def step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            nonlocal full
            full = True
            return super().step(batch)

    with pytest.raises(OutputError, match=r"No space left on device.*the previous last\.pt is kept"):
        train(Fills(), run, steps=9, loop=LoopConfig(checkpoint_steps=2))
    assert read_checkpoint(run / "last.pt")["step"] == 5
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_cut_checkpoint_is_named(tmp_path: Path, keep: float) -> None:
    run = tmp_path / "run"
    train(Toy(), run, steps=2, loop=QUIET)
    content = (run / "last.pt").read_bytes()
    (run / "last.pt").write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(WeightsError, match=r"last\.pt is cut or damaged; .*best\.pt"):
        train(Toy(), run, steps=4, loop=QUIET)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    (tmp_path / "last.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(WeightsError, match="cut or damaged"):
        read_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "owned").exists()


def test_other_runs_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = {"batch": 4, "net": {"width": 8}}
    train(Toy(), run, steps=2, loop=QUIET, config=config)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    other = Toy()
    other.name = "other"
    with pytest.raises(ConfigError, match="run of stage toy, not other"):
        train(other, run, steps=4, loop=QUIET, config=config)
    with pytest.raises(ConfigError, match="begun with seed 0, not 1"):
        train(Toy(), run, steps=4, seed=1, loop=QUIET, config=config)
    with pytest.raises(ConfigError, match="other sizes of the network"):
        train(Toy(), run, steps=4, loop=QUIET, config={"batch": 4, "net": {"width": 9}})
    said = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**said, "format": "emotalk-run/0"}))
    with pytest.raises(ConfigError, match="format emotalk-run/0"):
        train(Toy(), run, steps=4, loop=QUIET, config=config)
    (run / "run.json").write_bytes(before["run.json"])
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    train(Toy(), run, steps=3, loop=QUIET, config={**config, "batch": 8})  # what is not a size may change


def test_checkpoint_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    train(Toy(), tmp_path / "run", steps=2, loop=QUIET)
    with pytest.raises(WeightsError, match="does not fit net of stage toy"):
        train(Toy(width=9), tmp_path / "run", steps=4, loop=QUIET)
    renamed = Toy()
    renamed.state = lambda: {"network": renamed.net}  # type: ignore[method-assign]
    with pytest.raises(WeightsError, match="differs in net, network, optimizer"):
        train(renamed, tmp_path / "run", steps=4, loop=QUIET)


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    assert read_run(tmp_path / "absent") is None
    (tmp_path / "photos").mkdir()
    assert read_run(tmp_path / "photos") is None  # empty: may become one
    (tmp_path / "photos" / "me.jpg").write_text("x")
    with pytest.raises(ConfigError, match="no run folder"):
        train(Toy(), tmp_path / "photos", steps=1, loop=QUIET)
    with pytest.raises(ConfigError, match="is a file"):
        train(Toy(), tmp_path / "photos" / "me.jpg", steps=1, loop=QUIET)
    (tmp_path / "photos" / "run.json").write_text('{"format": "emo')
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        train(Toy(), tmp_path / "photos", steps=1, loop=QUIET)


def test_limits_are_checked(tmp_path: Path) -> None:
    for arguments, message in (
        ({}, "how long"),
        ({"steps": 0}, "steps is 0"),
        ({"minutes": 0.0}, "minutes is 0"),
        ({"minutes": float("nan")}, "minutes is nan"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(Toy(), tmp_path / "run", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"loop\.patience is -1"):
        LoopConfig(patience=-1)
    assert not (tmp_path / "run").exists()


def test_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    stage = Toy()

    def step(_batch: object) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    stage.step = step  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="out of memory at step 0; lower the batch size"):
        train(stage, tmp_path / "run", steps=2, loop=QUIET)


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(Toy(), tmp_path / "run", steps=1, loop=QUIET)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_cosine_rises_then_falls() -> None:
    rates = [cosine(i / 100) for i in range(101)]
    assert rates[2] == pytest.approx(1.0) and max(rates) <= 1.0
    assert rates[51] == pytest.approx(0.51)
    assert rates[-1] == pytest.approx(0.02) and rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[0] > 0


def test_prefetch_keeps_the_order_and_ends_its_thread() -> None:
    batches = prefetch(iter(range(1000)), depth=3)
    assert [next(batches) for _ in range(5)] == [0, 1, 2, 3, 4]
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    assert list(prefetch(iter("abc"))) == ["a", "b", "c"]


def test_prefetch_raises_what_the_thread_raised() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OutputError("no more")

    batches = prefetch(broken())
    assert next(batches) == 1
    with pytest.raises(OutputError, match="no more"):
        next(batches)
