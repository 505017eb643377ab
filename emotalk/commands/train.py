"""`emotalk train`: one command per stage; `export` writes what a run has learnt, `card` prints what weights say."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..device import check_device_name, resolve_device
from ..errors import ConfigError
from ..stages import STAGES
from ..weights import ASSETS, SHIPPED, SUFFIX, check_source, fetch_set, read_card
from .options import OUTPUT, RUNTIME, DeviceOption, JsonOption, QuietOption
from .output import note, show

DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Folder with the training data of this stage.")]
RunOption = Annotated[
    Path, typer.Option("--run", metavar="FOLDER", help="Run folder; an existing run of this stage is resumed.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", metavar="N", help="Train until step N.")]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", metavar="M", help="Train for M minutes, all resumes together.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings as TOML.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as learning_rate=1e-3; may be repeated."),
]
TrainSeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", help="First weights and order of the data; 0 if not said.", rich_help_panel=RUNTIME
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Processor threads; all if not said.", rich_help_panel=RUNTIME),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `emotalk train`.")]
FolderOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the weights.", rich_help_panel=OUTPUT)
]
LastOption = Annotated[bool, typer.Option("--last", help="Take the last checkpoint, not the best.")]
SourceArgument = Annotated[
    str, typer.Argument(metavar="WEIGHTS", help="shipped, a folder, a file, or the name of published weights.")
]

SUMMARIES: Mapping[str, str] = {
    "landmarks": "Train the face finder and the 68 landmarks.",
    "audio2landmark": "Train speech to lip and jaw motion.",
    "neutral2emotion": "Train a neutral face to an emotional one.",
    "refinement": "Train an emotional face to a talking one.",
}

train = typer.Typer(no_args_is_help=True, help="Train one stage, or export what a run has learnt.")


def _train(
    stage: str,
    data: Path,
    run: Path,
    limits: tuple[int | None, float | None],
    config: Path | None,
    assignments: list[str],
    seed: int | None,
    device: str,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    check_device_name(device)
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads is {threads}; it must be 1 or more")

    import torch  # these imports take seconds, which --help does not need

    from ..runs import Limits, export_run, read_settings, train_stage

    if threads is not None:
        torch.set_num_threads(threads)
    settings = read_settings(config, assignments)
    steps, minutes = limits
    with training_progress(stage, quiet=quiet) as (on_step, on_record):
        result = train_stage(
            stage,
            data,
            run,
            limits=Limits(steps=steps, minutes=minutes),
            settings=settings,
            subject=str(config) if config and not assignments else "settings",
            seed=seed,
            device=resolve_device(device),
            on_step=on_step,
            on_record=on_record,
        )
    files = export_run(run, run)
    ended = ", no gain any more" if result.stopped_early else ""
    note(f"best score {result.best_score:.5g} at step {result.best_step} of {result.step}{ended}", quiet=quiet)
    facts = {"run": str(run), "stage": stage, **asdict(result), "weights": [str(path) for path in files]}
    show(facts, str(run), as_json=as_json)


def _add_stage(stage: str) -> None:
    def command(
        data: DataArgument,
        run: RunOption,
        steps: StepsOption = None,
        minutes: MinutesOption = None,
        config: ConfigOption = None,
        assignments: SetOption = None,
        seed: TrainSeedOption = None,
        device: DeviceOption = "auto",
        threads: ThreadsOption = None,
        quiet: QuietOption = False,
        as_json: JsonOption = False,
    ) -> None:
        _train(stage, data, run, (steps, minutes), config, assignments or [], seed, device, threads, quiet, as_json)

    train.command(stage, help=SUMMARIES[stage])(command)


for _stage in STAGES:
    _add_stage(_stage)


@train.command()
def export(run: RunArgument, output: FolderOption, last: LastOption = False, as_json: JsonOption = False) -> None:
    """Write the networks of a run as weights files for `generate --weights`."""
    from ..runs import export_run  # imports torch

    files = [str(path) for path in export_run(run, output, last=last)]
    show({"run": str(run), "weights": files}, "\n".join(files), as_json=as_json)


@train.command()
def card(weights: SourceArgument = SHIPPED, as_json: JsonOption = False) -> None:
    """Print what weights say of themselves: data, settings, measured numbers."""
    cards = {}
    for path in weights_files(weights):
        said = read_card(path)
        cards[said["network"]] = {"file": str(path), **said}
    page = [(ASSETS / "MODEL_CARD.md").read_text("utf-8").rstrip()] if weights == SHIPPED else []
    texts = [f"{name}: {json.dumps(said['card'], indent=2)}" for name, said in cards.items()]
    show({"networks": cards}, "\n\n".join(page + texts), as_json=as_json)


def weights_files(source: str) -> list[Path]:
    """The files of `source` itself, without those that stand in for networks it lacks."""
    check_source(source)
    path = ASSETS if source == SHIPPED else Path(source)
    if path.is_dir():
        return sorted(path.glob(f"*{SUFFIX}"))
    return [path] if path.is_file() else fetch_set(source)


@contextmanager
def training_progress(
    stage: str, *, quiet: bool
) -> Iterator[tuple[Callable[[int, float], None] | None, Callable[[Mapping[str, Any]], None] | None]]:
    """Two callbacks of the loop that keep a bar with step, score and time left on stderr; none without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn(stage), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)
        score = ""

        def on_step(step: int, fraction: float) -> None:
            bar.update(task, completed=fraction, description=f"step {step}{score}")

        def on_record(record: Mapping[str, Any]) -> None:
            nonlocal score
            if record["kind"] == "validate":
                score = f", score {record['metrics']['score']:.4g}"
                numbers = "  ".join(f"{key} {value:.4g}" for key, value in record["metrics"].items())
                bar.console.print(f"step {record['step']}: {numbers}", markup=False, highlight=False)

        yield on_step, on_record
