"""Prepare a corpus: find the clips, leave out what is done, do the work, write manifest, basis, statistics, report."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..config import PrepareConfig, config_from_mapping
from ..corpora import Clip, Filter, Scan, SplitRule, split_clips
from ..data import ABOUT, CLIPS, FORMAT, REPORT
from ..errors import ConfigError, InputError, OutputError
from ..files import output_error
from .clip import QUARANTINED, Outcome, Task, read_about, write_text
from .summary import finish

if TYPE_CHECKING:
    from .puppets import PuppetRule

KEPT = ("fps", "size", "quality")  # settings that all clips of a prepared corpus share


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far the work is."""

    done: int
    total: int
    frames: int  # prepared in this run
    seconds: float
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out."""

    output: str
    corpus: str
    clips: int  # in the manifest
    prepared: int  # in this run
    kept: int  # from earlier runs
    quarantined: int
    reasons: Mapping[str, int]
    splits: Mapping[str, int]
    frames: int
    hours: float
    seconds: float = field(default=0.0)


Runner = Callable[[Sequence[Task]], Iterable[Outcome]]


def prepare(
    scanned: Scan,
    output: Path,
    *,
    wanted: Filter | None = None,
    rule: SplitRule | None = None,
    config: PrepareConfig | None = None,
    landmarks: str = "auto",
    puppet: PuppetRule | None = None,
    jobs: int | None = None,
    runner: Runner | None = None,
    on_clip: Callable[[Progress], None] | None = None,
) -> Result:
    """Prepare the wanted clips of a corpus; what an earlier run has done is kept.

    The manifest, the split and the basis cover what is wanted now; they are made anew from the clips, in the order of
    their names, so they do not depend on who did the work and when.

    Args:
        puppet: for clips that are drawn, as `puppets.scan_portraits` lists them.
        jobs: processes; as many as there are processors if not given.
        runner: does the work instead of local processes.
        on_clip: called after each clip.

    Raises:
        ConfigError: if the folder holds a corpus with other settings.
        InputError: if no clip can be prepared.
        OutputError: if something cannot be written.
    """
    started = time.monotonic()
    wanted, rule, config = wanted or Filter(), rule or SplitRule(), config or PrepareConfig()
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs is {jobs}; it must be 1 or more")
    chosen = wanted.apply(scanned.clips)
    sides = split_clips(scanned.clips, rule)  # of the whole corpus: a filter moves no clip to another side
    finder = detector(landmarks)
    _claim(output, scanned, config, finder)
    root = os.path.abspath(scanned.root)  # noqa: PTH100  # names that are no UTF-8
    folder = os.path.abspath(output)  # noqa: PTH100  # workers may stand elsewhere
    tasks = [
        Task(clip=clip, root=root, output=folder, config=config, landmarks=finder, puppet=puppet) for clip in chosen
    ]
    todo = [task for task in tasks if not is_done(task)]
    frames = 0
    if todo:
        run = runner or _local(len(todo), jobs)
        with closing(_iterate(run(todo))) as outcomes:
            for number, outcome in enumerate(outcomes, 1):
                frames += outcome.frames
                if on_clip is not None:
                    spent = time.monotonic() - started
                    on_clip(Progress(done=number, total=len(todo), frames=frames, seconds=spent, outcome=outcome))
    summary = finish(output, tasks, sides, scanned, rule)
    made = sum(1 for task in todo if (output / task.file).exists())
    result = Result(
        output=str(output), corpus=scanned.corpus, clips=summary.clips, prepared=made, kept=summary.clips - made,
        quarantined=len(summary.bad), reasons=dict(sorted(Counter(bad.reason for bad in summary.bad).items())),
        splits=summary.splits, frames=summary.frames, hours=round(summary.frames / config.fps / 3600, 4),
        seconds=round(time.monotonic() - started, 2),
    )  # fmt: skip
    if summary.clips == 0:
        said = ", ".join(f"{count} {reason}" for reason, count in result.reasons.items())
        raise InputError(f"no clip of {scanned.root} can be used ({said}); {output / REPORT} says why")
    return result


def _iterate(outcomes: Iterable[Outcome]) -> Any:
    """As a generator, so that it can be closed."""
    yield from outcomes


def _local(count: int, jobs: int | None) -> Runner:
    from .workers import run_here, run_processes

    processes = min(count, jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or 1)
    return run_here if processes == 1 else lambda tasks: run_processes(tasks, processes)


def detector(landmarks: str) -> str:
    """Name the landmark detector exactly: which one "auto" is here, and which weights."""
    from ..face import SOURCES, FaceAlignment

    if landmarks not in SOURCES:
        raise ConfigError(f"unknown landmarks {landmarks!r} (known: {', '.join(SOURCES)})")
    if landmarks == "face-alignment" or (landmarks == "auto" and FaceAlignment.ready()):
        return f"face-alignment {FaceAlignment.WEIGHTS}"
    import hashlib

    from ..weights import ASSETS, SUFFIX

    digest = hashlib.sha256()
    for name in ("facefinder", "landmarks"):
        digest.update((ASSETS / f"{name}{SUFFIX}").read_bytes())
    return f"shipped {digest.hexdigest()[:12]}"


def is_done(task: Task) -> bool:
    """Whether this very work is done, well or badly."""
    output = Path(task.output)
    file, note = output / task.file, output / task.note
    if file.exists():
        about = read_about(file)
        return about is not None and about.get("fingerprint") == task.fingerprint()
    with suppress(OSError, ValueError):
        return bool(json.loads(note.read_text("utf-8"))["fingerprint"] == task.fingerprint())
    return False


def _claim(output: Path, scanned: Scan, config: PrepareConfig, finder: str) -> None:
    """Make the folder, or check that it may take these clips; clear what a killed run left half written."""
    about = output / ABOUT
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; give a folder")
    inside = os.path.realpath(output)
    if inside == os.path.realpath(scanned.root):
        raise OutputError(f"{output} is the corpus itself; give another folder")
    said = {"format": FORMAT, "corpus": scanned.corpus, "landmarks": finder, "config": asdict(config)}
    if about.exists():
        try:
            before = json.loads(about.read_text("utf-8"))
            old = config_from_mapping(PrepareConfig, before["config"])
            pairs = [(name, getattr(old, name), getattr(config, name)) for name in KEPT]
            pairs += [(name, before[name], said[name]) for name in ("format", "corpus", "landmarks")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{about} cannot be read ({error}); choose another folder") from None
        for name, was, wish in pairs:
            if was != wish:
                raise ConfigError(f"{output} holds clips made with {name} {was}, not {wish}; choose another folder")
    elif output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output} holds other files; give an empty or a new folder")
    try:
        (output / CLIPS).mkdir(parents=True, exist_ok=True)
        for folder in (output, output / CLIPS, output / QUARANTINED):
            for part in folder.glob(".*.part*") if folder == output else folder.glob("*/.*.part*"):
                part.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(output, error) from None
    write_text(about, json.dumps(said | {"version": __version__}, indent=2, sort_keys=True) + "\n")


def plan(scanned: Scan, wanted: Filter, rule: SplitRule) -> tuple[list[Clip], dict[str, int]]:
    """The wanted clips and how many of them are on each side."""
    chosen = wanted.apply(scanned.clips)
    sides = split_clips(scanned.clips, rule)
    return chosen, dict(Counter(sides[clip.name] for clip in chosen))
