"""One training loop for every stage: steps, time, log, checkpoints, resume. It knows no network by name."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from . import __version__
from .device import is_out_of_memory
from .errors import ConfigError, DeviceError, DivergedError, OutputError, WeightsError
from .files import new_file, output_error

FORMAT = "emotalk-run/1"  # of the run folder; raise the number when an older loop can no longer be resumed
LAST = "last.pt"
BEST = "best.pt"
LOG = "log.jsonl"
PICTURES = "pictures"

Batch = Any
T = TypeVar("T")


class Stateful(Protocol):
    """Anything that is saved and restored by name: networks, optimizers, averages."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Stage(Protocol):
    """What one stage of the training knows: its data, networks, optimizers and what one step means.

    A stage may also have `picture() -> np.ndarray`, a uint8 RGB contact sheet (H, W, 3) saved at each validation, and
    `card() -> Mapping`, what its model card says about data and licences.
    """

    name: str

    def state(self) -> Mapping[str, Stateful]:
        """Everything that a step changes. Modules among the values are set to train or eval by the loop."""
        ...

    def batches(self, start: int) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, ... without end; each is a function of (seed, number) alone."""
        ...

    def set_progress(self, fraction: float) -> None:
        """Called before each step with the share of the training that is done, in [0, 1]: sets the learning rate."""
        ...

    def step(self, batch: Batch) -> Mapping[str, Tensor]:
        """Update the weights once; return detached scalars by name, `gradient_norm` among them."""
        ...

    def validate(self) -> dict[str, float]:
        """Measure on dev data; `score` is what decides about the best checkpoint, lower is better."""
        ...

    def networks(self) -> Mapping[str, tuple[nn.Module, Any]]:
        """The networks that an export writes, each with its config, by their name in `weights.py`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How often the loop logs, validates and saves. 0 switches a rule off; the last step always does all three."""

    log_steps: int = 50
    validate_steps: int = 0
    validate_minutes: float = 4.0
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 4.0
    patience: int = 0  # validations without a better score before an early stop

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if not math.isfinite(value) or value < 0:
                raise ConfigError(f"loop.{key} is {value}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Where a training ended."""

    step: int
    elapsed: float  # seconds of training, over all resumes
    best_score: float
    best_step: int
    metrics: dict[str, float]  # of the last validation
    stopped_early: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What `run.json` in a run folder says."""

    stage: str
    seed: int
    config: dict[str, Any]
    version: str  # of the package that began the run


def read_run(folder: Path) -> Run | None:
    """The description of a run folder; None if there is none yet.

    Raises:
        ConfigError: if the folder holds something else, or a run of another format.
    """
    path = folder / "run.json"
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file; --run needs a folder")
    if not path.exists():
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is no run folder (it holds no run.json); choose a new or empty folder")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["format"]
        if found != FORMAT:
            raise ConfigError(f"{folder} is a run of format {found}, not {FORMAT}; choose another --run")
        return Run(stage=content["stage"], seed=content["seed"], config=content["config"], version=content["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({type(error).__name__}); choose another folder") from error


def check_run(run: Run, folder: Path, stage: str, seed: int, config: object) -> None:
    """Refuse to go on with a run of another stage, seed or network; other settings may change between resumes.

    Raises:
        ConfigError: naming what differs.
    """
    if run.stage != stage:
        raise ConfigError(f"{folder} holds a run of stage {run.stage}, not {stage}; choose another --run")
    if run.seed != seed:
        raise ConfigError(f"{folder} was begun with seed {run.seed}, not {seed}; choose another --run")
    if run.config.get("net") != plain_config(config).get("net"):
        raise ConfigError(f"{folder} was begun with other sizes of the network (net); choose another --run")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it.

    Raises:
        OutputError: if it cannot be written; what was there before stays.
    """
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as part, part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(path, error) from error
    except OutputError as error:
        if not path.is_file():
            raise
        raise OutputError(f"{error}; the previous {path.name} is kept") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this format on the CPU, tensors and plain values only.

    Raises:
        WeightsError: if it is missing, cut, damaged, or of another format.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist; train longer, until the first checkpoint is saved") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        other = BEST if path.name == LAST else LAST
        raise WeightsError(f"{path} is cut or damaged; to go on from {other}, copy it over this file") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise WeightsError(f"{path} is no checkpoint of format {FORMAT}")
    return checkpoint


def restore(stage: Stage, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Give a stage the state in a checkpoint.

    Raises:
        WeightsError: if the checkpoint is of another stage or does not fit the networks.
    """
    if checkpoint["stage"] != stage.name:
        raise WeightsError(f"{path} belongs to stage {checkpoint['stage']}, not {stage.name}")
    saved, wanted = checkpoint["state"], stage.state()
    if set(saved) != set(wanted):
        differing = ", ".join(sorted(set(saved) ^ set(wanted)))
        raise WeightsError(f"{path} does not fit stage {stage.name}: differs in {differing}")
    for name, part in wanted.items():
        try:
            part.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{path} does not fit {name} of stage {stage.name}: {reason}") from error


def cosine(fraction: float, *, warmup: float = 0.02, floor: float = 0.02) -> float:
    """Learning-rate factor at a share of the training: linear rise over `warmup`, then half a cosine to `floor`."""
    if fraction < warmup:
        return max(fraction / warmup, 0.05)
    position = min((fraction - warmup) / (1 - warmup), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * position))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def prefetch(batches: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """The same batches in the same order, made in a thread while the networks work.

    The thread ends when the generator is closed; an error in it is raised here.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def offer(item: tuple[T | None, BaseException | None]) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                made.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for batch in batches:
                offer((batch, None))
                if stop.is_set():
                    return
            offer((None, StopIteration()))
        except BaseException as error:  # handed to the consumer, who raises it
            offer((None, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield batch  # type: ignore[misc]  # not None: no error came with it
    finally:
        stop.set()
        thread.join(timeout=10)


def train(
    stage: Stage,
    folder: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    config: object = None,
    loop: LoopConfig | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_record: Callable[[Mapping[str, Any]], None] | None = None,
) -> Result:
    """Train a stage in a run folder until `steps` are done or `minutes` have passed, whichever comes first.

    A folder that already holds a run of this stage is resumed: the steps done and the time spent count. With `steps`
    alone, a run that was stopped and resumed ends with the weights of one that was not, bit for bit on one machine.
    Ctrl-C (or SIGTERM) finishes the step, saves, and raises KeyboardInterrupt.

    Args:
        folder: gets run.json, log.jsonl, last.pt, best.pt and pictures/.
        seed: of torch's generator during training. The stage has its own copy for data and first weights.
        config: what run.json and the checkpoints record: the stage's config, a dataclass or a mapping.
        on_step: called after each step with its number and the share that is done, in [0, 1].
        on_record: called with each record of the log.

    Raises:
        ConfigError: if neither or a senseless limit is given, or the folder holds another run.
        WeightsError: if the checkpoint to resume from is damaged or does not fit.
        DivergedError: if a term is NaN or infinite; the last checkpoint stays as it was.
        DeviceError: if memory runs out.
        OutputError: if a file cannot be written; the previous checkpoint stays.
    """
    if steps is None and minutes is None:
        raise ConfigError("how long to train is not said; give steps or minutes")
    if steps is not None and steps < 1:
        raise ConfigError(f"steps is {steps}; it must be 1 or more")
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"minutes is {minutes:g}; it must be above 0")
    return _Loop(
        stage, folder, steps, minutes, seed, plain_config(config), loop or LoopConfig(), on_step, on_record
    ).run()


class _Loop:
    """The state of one call of `train`."""

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        steps: int | None,
        minutes: float | None,
        seed: int,
        config: dict[str, Any],
        settings: LoopConfig,
        on_step: Callable[[int, float], None] | None,
        on_record: Callable[[Mapping[str, Any]], None] | None,
    ) -> None:
        self.stage, self.folder, self.steps, self.minutes = stage, folder, steps, minutes
        self.seed, self.config, self.settings = seed, config, settings
        self.on_step, self.on_record = on_step, on_record
        self.step = 0
        self.before = 0.0  # seconds of training before this call
        self.started = time.monotonic()
        self.best_score, self.best_step = math.inf, 0
        self.metrics: dict[str, float] = {}
        self.without_gain = 0
        self.sums: dict[str, tuple[float, int]] = {}

    @property
    def elapsed(self) -> float:
        return self.before + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        by_steps = self.step / self.steps if self.steps else 0.0
        by_time = self.elapsed / (60 * self.minutes) if self.minutes else 0.0
        return min(max(by_steps, by_time), 1.0)

    @property
    def patience_lost(self) -> bool:
        return 0 < self.settings.patience <= self.without_gain

    def run(self) -> Result:
        resumed = self._open()
        self._mode(True)
        with _interrupts() as interrupted:
            batches = self.stage.batches(self.step)
            try:
                if not resumed:
                    self._validate()
                self._steps(batches, interrupted)
                if interrupted.is_set():
                    self._log_terms()
                    self._save(LAST)
                    raise KeyboardInterrupt
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise DeviceError(
                    f"{self.stage.name}: out of memory at step {self.step}; lower the batch size"
                ) from error
            finally:
                if isinstance(batches, Generator):
                    batches.close()
        return Result(
            step=self.step,
            elapsed=self.elapsed,
            best_score=self.best_score,
            best_step=self.best_step,
            metrics=self.metrics,
            stopped_early=self.patience_lost,
        )

    def _steps(self, batches: Iterator[Batch], interrupted: threading.Event) -> None:
        settings = self.settings
        validated = saved = logged = time.monotonic()
        logged_step = self.step
        fraction = self.progress  # looked at once per step: time may not run out unseen between the save and the end
        while fraction < 1.0 and not self.patience_lost:
            if interrupted.is_set():
                return
            self.stage.set_progress(fraction)
            terms = self.stage.step(next(batches))
            self.step += 1
            self._check(terms)
            now = time.monotonic()
            fraction = self.progress
            ended = fraction >= 1.0
            if ended or _due(self.step, settings.log_steps):
                self._log_terms(speed=(self.step - logged_step) / max(now - logged, 1e-9))
                logged, logged_step = now, self.step
            if ended or _due(self.step, settings.validate_steps) or _passed(now - validated, settings.validate_minutes):
                self._validate()
                validated = time.monotonic()
                ended = ended or self.patience_lost
            if ended or _due(self.step, settings.checkpoint_steps) or _passed(now - saved, settings.checkpoint_minutes):
                self._save(LAST)
                saved = time.monotonic()
            if self.on_step:
                self.on_step(self.step, fraction)

    def _open(self) -> bool:
        """Begin the run folder, or restore what it holds. Returns True if there was a checkpoint."""
        run = read_run(self.folder)
        if run is not None:
            check_run(run, self.folder, self.stage.name, self.seed, self.config)
        header = {"format": FORMAT, "version": __version__, "stage": self.stage.name, "seed": self.seed}
        path = self.folder / LAST
        resume = run is not None and path.exists()
        if resume:
            checkpoint = read_checkpoint(path)
            restore(self.stage, checkpoint, path)
            self.step, self.before = checkpoint["step"], checkpoint["elapsed"]
            self.best_score, self.best_step = checkpoint["best_score"], checkpoint["best_step"]
            self.metrics, self.without_gain = checkpoint["metrics"], checkpoint["without_gain"]
            self.sums = {name: (total, count) for name, (total, count) in checkpoint["sums"].items()}
            torch.set_rng_state(checkpoint["rng"])
            if torch.cuda.is_available() and checkpoint["cuda_rng"]:
                torch.cuda.set_rng_state_all(checkpoint["cuda_rng"])
        else:
            torch.manual_seed(self.seed)
        write_atomic(self.folder / "run.json", json.dumps({**header, "config": self.config}, indent=1).encode())
        self._cut_log()
        self._record("resume" if resume else "start", steps=self.steps, minutes=self.minutes, config=self.config)
        return resume

    def _cut_log(self) -> None:
        """Drop what was logged after the checkpoint: those steps come again."""
        path = self.folder / LOG
        if not path.exists():
            return
        kept = []
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # the last line of a killed run may be cut
                if json.loads(line)["step"] <= self.step and self.step > 0:
                    kept.append(line + b"\n")
        write_atomic(path, b"".join(kept))

    def _mode(self, training: bool) -> None:
        for part in self.stage.state().values():
            if isinstance(part, nn.Module):
                part.train(training)

    def _check(self, terms: Mapping[str, Tensor]) -> None:
        values = torch.stack([value.detach().float().reshape(()) for value in terms.values()])
        for name, value in zip(terms, values.tolist(), strict=True):  # looked at in each step: no bad weights are saved
            if not math.isfinite(value):
                raise DivergedError(
                    f"{self.stage.name} diverged at step {self.step}: {name} is {value:g}; "
                    "lower learning_rate and resume from the last checkpoint"
                )
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, count + 1)

    def _log_terms(self, speed: float | None = None) -> None:
        if not self.sums:
            return
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        self._record("train", terms=means, steps_per_second=speed)

    def _validate(self) -> None:
        self._mode(False)
        with torch.random.fork_rng():  # how often one looks must not change what is learnt
            self.metrics = {name: float(value) for name, value in self.stage.validate().items()}
            picture = getattr(self.stage, "picture", None)
            sheet = picture() if picture is not None else None
        self._mode(True)
        score = self.metrics["score"]
        if not math.isfinite(score):
            raise DivergedError(
                f"{self.stage.name} diverged at step {self.step}: dev score is {score:g}; lower learning_rate"
            )
        self._record("validate", metrics=self.metrics)
        if sheet is not None:
            _write_picture(self.folder / PICTURES / f"{self.step:07d}.png", sheet)
        if score < self.best_score:
            self.best_score, self.best_step, self.without_gain = score, self.step, 0
            self._save(BEST)
        else:
            self.without_gain += 1

    def _save(self, name: str) -> None:
        card = getattr(self.stage, "card", None)
        content = {
            "format": FORMAT,
            "version": __version__,
            "stage": self.stage.name,
            "seed": self.seed,
            "config": self.config,
            "step": self.step,
            "elapsed": self.elapsed,
            "best_score": self.best_score,
            "best_step": self.best_step,
            "without_gain": self.without_gain,
            "metrics": self.metrics,
            "sums": self.sums,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "state": {key: part.state_dict() for key, part in self.stage.state().items()},
            "networks": {
                key: {"config": plain_config(config), "weights": module.state_dict()}  # storage shared with "state"
                for key, (module, config) in self.stage.networks().items()
            },
            "card": plain_config(card()) if card is not None else {},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomic(self.folder / name, buffer.getvalue())

    def _record(self, kind: str, **fields: Any) -> None:
        record = {"kind": kind, "step": self.step, "elapsed": round(self.elapsed, 2), **fields}
        try:
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.folder / LOG}: {error.strerror or error}") from error
        if self.on_record:
            self.on_record(record)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second acts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def handle(kind: int, _frame: object) -> None:
        asked.set()
        signal.signal(kind, before[signal.Signals(kind)])

    for kind in kinds:
        signal.signal(kind, handle)
    try:
        yield asked
    finally:
        for kind in kinds:
            signal.signal(kind, before[kind])


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _passed(seconds: float, minutes: float) -> bool:
    return minutes > 0 and seconds >= 60 * minutes


def plain_config(config: object) -> dict[str, Any]:
    """A config as JSON would give it back."""
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config or {})  # type: ignore[call-overload]
    return json.loads(json.dumps(values, default=str))  # type: ignore[no-any-return]


def _write_picture(path: Path, picture: np.ndarray) -> None:
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    if done:
        write_atomic(path, encoded.tobytes())
