"""Feelings over time: key moments from a CSV or JSON file, and what is felt between them."""

from __future__ import annotations

import bisect
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from .conditions import Feeling, mix_weights, shares
from .emotions import blend, check_intensity, condition_vector, parse_emotion
from .errors import ConfigError, InputError, OutputError
from .files import check_readable, new_file, output_error

COLUMNS = ("time", "emotion", "intensity", "ease")
REQUIRED = COLUMNS[:3]
END_TOLERANCE = 0.05  # seconds; a time written with one decimal may lie a little after the end


class Ease(str, Enum):
    """How a feeling changes from one key moment to the next."""

    LINEAR = "linear"
    SMOOTH = "smooth"

    def share(self, position: float) -> float:
        """Share of the second feeling at a position in [0, 1] between two."""
        return position if self is Ease.LINEAR else position * position * (3.0 - 2.0 * position)


@dataclass(frozen=True, slots=True)
class Key:
    """One key moment; `ease` is how it goes on from here."""

    time: float  # seconds
    feeling: Feeling
    ease: Ease = Ease.LINEAR


class Track:
    """What a face feels over time. Before the first and after the last key moment nothing changes.

    Args:
        keys: at least one, in order of time.

    Raises:
        InputError: if there is none, or times are out of order, negative or not finite.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        if not keys:
            raise InputError("the track is empty; give at least one key moment")
        for before, key in zip([None, *keys], keys, strict=False):
            check_time(key.time, None if before is None else before.time)
        self.keys = tuple(keys)
        self._times = [key.time for key in keys]

    @classmethod
    def constant(cls, feeling: Feeling) -> Track:
        """One feeling all the time."""
        return cls([Key(0.0, feeling)])

    def feeling_at(self, seconds: float) -> Feeling:
        """What is felt at a time.

        From or to neutral the other emotion fades in or out; between two emotions both their shares and the intensity
        change.
        """
        after = bisect.bisect_right(self._times, seconds)
        if after == 0 or after == len(self.keys):
            return self.keys[max(after - 1, 0)].feeling
        first, second = self.keys[after - 1], self.keys[after]
        share = first.ease.share((seconds - first.time) / (second.time - first.time))
        return between(first.feeling, second.feeling, share)

    def condition_at(self, seconds: float) -> np.ndarray:
        """What is felt at a time, as emotion part and intensity part.

        Shape:
            returns: (11,) float32, see `emotions.condition_vector`.
        """
        feeling = self.feeling_at(seconds)
        return condition_vector(dict(feeling.weights), feeling.intensity)

    def over(self, seconds: float) -> Track:
        """The track for a recording of that length: itself, if no key moment lies after the end.

        Raises:
            InputError: if one does.
        """
        for number, key in enumerate(self.keys, start=1):
            if key.time > seconds + END_TOLERANCE:
                raise InputError(f"row {number} of the track: {key.time:g} s is after the end ({seconds:.2f} s)")
        return self


@dataclass(frozen=True, slots=True)
class Ramp:
    """From one feeling at the beginning of a recording to another at its end, however long it is."""

    start: Feeling
    end: Feeling
    ease: Ease = Ease.LINEAR

    def over(self, seconds: float) -> Track:
        """As a track for a recording of that length."""
        return Track([Key(0.0, self.start, self.ease), Key(seconds, self.end, self.ease)])

    def at(self, share: float) -> Feeling:
        """What is felt at a share of the way, not eased."""
        return between(self.start, self.end, share)

    def levels(self, steps: int) -> list[Feeling]:
        """Feelings in equal steps, from the first to the last.

        Raises:
            ConfigError: if there are fewer than two.
        """
        if steps < 2:
            raise ConfigError(f"{steps} steps are too few; give at least 2")
        return [self.at(step / (steps - 1)) for step in range(steps)]

    def keys(self, seconds: float, steps: int) -> Track:
        """The same as a track to edit: with a key moment at each of equal steps, if that changes nothing."""
        if self.ease is not Ease.LINEAR:
            return self.over(seconds)
        times = [seconds * step / (steps - 1) for step in range(steps)]
        return Track([Key(time, feeling, self.ease) for time, feeling in zip(times, self.levels(steps), strict=True)])


def check_time(time: float, before: float | None = None) -> float:
    """Return a time in seconds if it is finite, not negative, and after the one before.

    Raises:
        InputError: if it is not.
    """
    if not math.isfinite(time):
        raise InputError(f"time is {time}; give seconds")
    if time < 0:
        raise InputError(f"time is {time:g}; the recording begins at 0")
    if before is not None and time <= before:
        raise InputError(f"time {time:g} is not after {before:g}; key moments must be in order")
    return time


def between(first: Feeling, second: Feeling, share: float) -> Feeling:
    """A feeling between two."""
    if share <= 0 or first == second:
        return first
    if share >= 1:
        return second
    if first.is_neutral:
        first = replace(second, intensity=0.0)
    elif second.is_neutral:
        second = replace(first, intensity=0.0)
    lower = None
    if first.lower is not None or second.lower is not None:
        lower = mix_weights(first.lower or first.weights, second.lower or second.weights, share)
    intensity = (1 - share) * first.intensity + share * second.intensity
    return Feeling(mix_weights(first.weights, second.weights, share), intensity, lower=lower)


def read_track(path: str | Path) -> Track:
    """A track from a CSV file (time,emotion,intensity and maybe ease) or a JSON file (a list of such objects).

    Raises:
        InputError: in one line with file and row.
    """
    path = Path(path)
    check_readable(path, InputError, "track")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"the track {path} is no text; give CSV or JSON") from None
    rows = _json_rows(path, text) if text.lstrip()[:1] in ("[", "{") else _csv_rows(path, text)
    if not rows:
        raise InputError(f"the track {path} is empty; give rows of time,emotion,intensity")
    keys: list[Key] = []
    for number, row in rows:
        try:
            keys.append(_key(row))
            check_time(keys[-1].time, keys[-2].time if len(keys) > 1 else None)
        except (ConfigError, InputError) as error:
            raise InputError(f"the track {path}, row {number}: {error}") from error
    return Track(keys)


def write_track(path: str | Path, track: Track, *, overwrite: bool = False) -> Path:
    """Write a track that `read_track` reads: JSON if the name ends in .json, else CSV.

    Raises:
        OutputError: if the file exists or cannot be written, or the track holds what a file cannot.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputError(f"the track {path} exists; add --overwrite to replace it")
    if any(key.feeling.lower is not None for key in track.keys):
        raise OutputError("a track file cannot hold different feelings of the upper and the lower face")
    rows = [
        (round(key.time, 3), blend(key.feeling.weights).text, round(key.feeling.intensity, 3), key.ease.value)
        for key in track.keys
    ]
    if path.suffix.lower() == ".json":
        text = json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], indent=2) + "\n"
    else:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([COLUMNS, *rows])
        text = lines.getvalue()
    with new_file(path) as part:
        try:
            part.write_text(text, "utf-8")
        except OSError as error:
            raise output_error(path, error) from error
    return path


def _csv_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """Number of the line in the file, and its cells by name; a first line of names is optional."""
    names: Sequence[str] = COLUMNS
    rows: list[tuple[int, dict[str, Any]]] = []
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        for number, cells in enumerate(reader, start=1):
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if not rows and names is COLUMNS and cells[0].lower() in COLUMNS:
                names = [cell.lower() for cell in cells]
                _check_names(f"the track {path}, row {number}", names)
                continue
            if len(cells) > len(names):
                raise InputError(
                    f"the track {path}, row {number}: {len(cells)} cells for {','.join(names)}; quote a blend"
                )
            rows.append((number, dict(zip(names, cells, strict=False))))
    except csv.Error as error:
        raise InputError(f"the track {path}, row {reader.line_num}: {error}") from error
    return rows


def _json_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the track {path} is no valid JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"the track {path} must be a list of objects with {', '.join(COLUMNS)}")
    for number, entry in enumerate(entries, start=1):
        _check_names(f"the track {path}, row {number}", list(entry))
    return list(enumerate(entries, start=1))


def _check_names(where: str, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise InputError(f"{where}: unknown column {unknown[0]!r} (known: {', '.join(COLUMNS)})")
    if len(set(names)) < len(names):
        raise InputError(f"{where}: a column is named twice")


def _key(row: Mapping[str, Any]) -> Key:
    """One key moment from cells of text or JSON values."""
    missing = [name for name in REQUIRED if row.get(name) in (None, "")]
    if missing:
        raise InputError(f"{missing[0]} is missing")
    wished = row["emotion"]
    if isinstance(wished, Mapping):
        wished = {parse_emotion(name): _number("weight", weight) for name, weight in wished.items()}
    elif not isinstance(wished, str):
        raise InputError(f"emotion is {wished!r}; give a name or a blend")
    intensity = check_intensity(_number("intensity", row["intensity"]))
    ease = str(row.get("ease") or Ease.LINEAR.value).strip().lower()
    if ease not in [known.value for known in Ease]:
        raise InputError(f"ease is {ease!r}; it must be linear or smooth")
    return Key(_number("time", row["time"]), Feeling(shares(wished), intensity), Ease(ease))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{name} is {value!r}; it must be a number")
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name} is {value!r}; it must be a number") from None
