"""The edge to the file system: refuse files that cannot be read, and write new ones whole or not at all."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError, OutputError


def check_readable(path: Path, error: type[InputError], kind: str) -> None:
    """Refuse what no decoder need look at: a missing file, a folder, an empty file, one without read permission."""
    try:
        if path.is_dir():
            raise error(f"{path} is a folder; give a {kind} file")
        with path.open("rb") as file:
            if not file.read(1):
                raise error(f"{path} is empty (0 bytes); give a {kind} file")
    except FileNotFoundError:
        raise error(f"{path} does not exist; check the name") from None
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror}); check its name and permissions") from None


def output_error(path: Path, error: OSError) -> OutputError:
    """What to tell the user when `path` could not be written."""
    advice = {
        errno.ENOSPC: "free some space or write elsewhere",
        errno.EDQUOT: "free some space or write elsewhere",
        errno.ENOENT: "make the folder first",
        errno.ENAMETOOLONG: "choose a shorter name",
    }
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason}); {advice.get(error.errno or 0, 'choose another folder')}")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it at the end of the block; removed if the block fails.

    The rename replaces an existing file in one step. An interrupted program (Ctrl-C) leaves nothing behind either.

    Errors of the block itself pass unchanged.

    Raises:
        OutputError: if the folder is missing or not writable, the disk is full, or `path` is a folder.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it")
    part = path.with_name(f".{secrets.token_hex(6)}.part{path.suffix}")
    try:
        part.touch(exist_ok=False)  # not mkstemp: the user's umask decides who may read the result
    except OSError as error:
        raise output_error(path, error) from None
    try:
        yield part
        try:
            part.replace(path)
        except OSError as error:
            raise output_error(path, error) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
