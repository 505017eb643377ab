"""Where a command speaks: the result on stdout; progress, notes and errors on stderr. And the checks of its paths."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from ..weights import Weights

VIDEO_SUFFIX = ".mp4"


def show(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result of a command on stdout: one line of text, or one JSON object."""
    sys.stdout.write((json.dumps(result, allow_nan=False) if as_json else text) + "\n")


def note(text: str, *, quiet: bool = False) -> None:
    """Say something beside the result, on stderr."""
    if not quiet:
        sys.stderr.write(f"emotalk: {text}\n")


def report(message: str) -> None:
    """Print one error line on stderr."""
    sys.stderr.write(f"emotalk: {' '.join(message.split())}\n")


@contextmanager
def frame_progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr that the yielded function moves by one frame; nothing without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("frames", total=total)
        yield lambda: bar.advance(task)


@contextmanager
def byte_progress(*, quiet: bool) -> Iterator[Callable[[Weights, int], None]]:
    """Progress of downloads on stderr; names source and licence of each file before its first byte."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    silent = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=silent, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def on_bytes(weights: Weights, done: int) -> None:
            if weights.name not in tasks:
                tasks[weights.name] = bar.add_task(weights.name, total=weights.size)
                note(
                    f"fetching {weights.name} ({weights.size} bytes, {weights.licence}; {weights.source})", quiet=quiet
                )
            bar.update(tasks[weights.name], completed=done)

        yield on_bytes


def check_input(path: Path, what: str) -> Path:
    """Return `path` if it is a file with something in it that may be read; the content is checked by its reader.

    Raises:
        InputError: if it is not.
    """
    try:
        if path.is_dir():
            raise InputError(f"the {what} {path} is a folder; give a file")
        if not path.exists():
            raise InputError(f"the {what} {path} does not exist")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"the {what} {path} is empty")
        if not os.access(path, os.R_OK):
            raise InputError(f"the {what} {path} may not be read: permission denied")
    except OSError as error:  # a name too long, a loop of links, a folder that may not be entered
        raise InputError(f"the {what} {path} cannot be opened: {error.strerror}") from error
    return path


def check_destination(
    path: Path,
    name: str,
    *,
    overwrite: bool,
    inputs: tuple[Path, ...] = (),
    suffixes: tuple[str, ...] = (VIDEO_SUFFIX,),
) -> Path:
    """Return `path`, or `name` in it if it is a folder, if a file may be written there.

    Args:
        path: where to.
        name: default name of the file.
        overwrite: allow an existing file.
        inputs: files that must not be replaced.
        suffixes: endings that the name may have.

    Raises:
        UsageError: if the name ends otherwise.
        OutputError: if it exists, is one of the inputs, or its folder is missing or closed.
    """
    try:
        path = path / name if path.is_dir() else path
        if path.suffix.lower() not in suffixes:
            raise UsageError(f"the output {path} must end in {' or '.join(suffixes)}")
        folder = path.parent
        if not folder.is_dir():
            state = "is not a folder" if folder.exists() else "does not exist"
            raise OutputError(f"cannot write {path}: {folder} {state}")
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder")
        if path.exists():
            if any(path.samefile(other) for other in inputs if other.exists()):
                raise OutputError(f"the output {path} is also an input; choose another name")
            if not overwrite:
                raise OutputError(f"the output {path} exists; add --overwrite to replace it")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {path}: no permission to write in {folder}")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return path
