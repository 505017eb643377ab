"""What is to be evaluated: videos, and which reference, photograph and wish belongs to each."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..emotions import Emotion, check_intensity, parse_emotion, parse_wish
from ..errors import ConfigError, EmotalkError, InputError

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".flv"}
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
# Manifest columns by meaning; the first that is there counts. Others are ignored.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "video": ("video", "output"),
    "reference": ("reference", "real"),
    "source": ("source", "face", "photo"),
    "speech": ("speech", "audio"),
    "emotion": ("emotion",),
    "intensity": ("intensity",),
}
LEVEL = re.compile(r"(?:level_?|l)?([0-3](?:\.\d+)?)$")


@dataclass(frozen=True, slots=True)
class Item:
    """One video and what it is held against.

    Attributes:
        speech: where its sound is, if not in the video.
        emotion: wished emotion or blend as text; None if nobody said.
        problem: why this line of a manifest cannot be used.
    """

    video: Path
    reference: Path | None = None
    source: Path | None = None
    speech: Path | None = None
    emotion: str | None = None
    intensity: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything to evaluate, and what found no partner."""

    items: Sequence[Item]
    videos_without: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # "reference" or "source" -> videos
    unused: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # "reference" or "source" -> files

    @property
    def unmatched(self) -> list[str]:
        """One line for each name without a partner."""
        lines = [f"no {what} has the name of {path}" for what, paths in self.videos_without.items() for path in paths]
        return lines + [f"{what} {path} belongs to no video" for what, paths in self.unused.items() for path in paths]


def plan(
    videos: Sequence[Path],
    references: Sequence[Path] = (),
    sources: Sequence[Path] = (),
    emotion: str | None = None,
    intensity: float | None = None,
) -> Plan:
    """Match videos with references and photographs.

    A folder stands for the files in it. One reference for one video, or one photograph for all, needs no names. Else a
    reference belongs to the video of the same name, or to those whose name holds its whole name.

    Raises:
        InputError: if there is no video at all, or a folder holds none.
        ConfigError: if emotion or intensity make no sense.
    """
    wish = parse_wish(emotion).text if emotion is not None else None
    if intensity is not None:
        check_intensity(intensity)
    films = expand(videos, VIDEO_SUFFIXES, "video")
    if not films:
        raise InputError("no video was given; name at least one, or a manifest")
    items = [with_wish(Item(path), wish, intensity) for path in films]
    lonely: dict[str, list[Path]] = {}
    unused: dict[str, list[Path]] = {}
    for what, files in (
        ("reference", expand(references, VIDEO_SUFFIXES, "reference")),
        ("source", expand(sources, PICTURE_SUFFIXES, "photograph")),
    ):
        if not files:
            continue
        partners = match(films, files, one_for_all=what == "source")
        items = [
            item if partner is None else _with(item, what, partner)
            for item, partner in zip(items, partners, strict=True)
        ]
        lonely[what] = [film for film, partner in zip(films, partners, strict=True) if partner is None]
        unused[what] = [path for path in files if path not in partners]
    return Plan(items, lonely, unused)


def _with(item: Item, what: str, path: Path) -> Item:
    return replace(item, reference=path) if what == "reference" else replace(item, source=path)


def expand(paths: Sequence[Path], suffixes: set[str], what: str) -> list[Path]:
    """Folders become their files, sorted by name; files stay, whatever they are called."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file())
            if not inside:
                raise InputError(f"the folder {path} holds no {what}")
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def match(videos: Sequence[Path], others: Sequence[Path], *, one_for_all: bool) -> list[Path | None]:
    """The partner of each video by name; None where there is none, or where two would do."""
    if len(others) == 1 and (one_for_all or len(videos) == 1):
        return [others[0]] * len(videos)
    partners: list[Path | None] = []
    for video in videos:
        same = [other for other in others if other.stem == video.stem]
        if not same:
            inside = [other for other in others if holds(video.stem, other.stem)]
            longest = max((len(other.stem) for other in inside), default=0)
            same = [other for other in inside if len(other.stem) == longest]
        partners.append(same[0] if len(same) == 1 else None)
    return partners


def holds(name: str, part: str) -> bool:
    """Whether `part` stands in `name` as whole words: `anna` in `anna_talk_sad3`, not in `joanna`."""
    text, wanted = (" ".join(re.split(r"[_\-\s.]+", value.lower())) for value in (name, part))
    return f" {wanted} " in f" {text} "


def with_wish(item: Item, emotion: str | None, intensity: float | None) -> Item:
    """The wish as given, else as the name of the video says it: `anna_talk_sad3.mp4`, `W009_fear_L3.mp4`."""
    if emotion is None:
        said = wish_of_name(item.video.stem)
        if said is None:
            return replace(item, intensity=intensity)
        emotion = said[0].value
        intensity = said[1] if intensity is None else intensity
    return replace(item, emotion=emotion, intensity=intensity)


def wish_of_name(stem: str) -> tuple[Emotion, float | None] | None:
    """Emotion and intensity from a file name; the last emotion written out counts."""
    words = re.split(r"[_\-\s]+", stem.lower())
    found: tuple[Emotion, float | None] | None = None
    for index, word in enumerate(words):
        said = re.fullmatch(r"([a-z]+)([0-3](?:\.\d+)?)?", word)
        if said is None or (len(said[1]) < 4 and said[1] != "sad"):
            continue
        try:
            emotion = parse_emotion(said[1])
        except ConfigError:
            continue
        level = said[2]
        if level is None and index + 1 < len(words):
            following = LEVEL.fullmatch(words[index + 1])
            level = following[1] if following else None
        found = emotion, None if level is None else float(level)
    return found


def read_manifest(path: Path) -> Plan:
    """Items from a CSV file with a header line, or from JSON lines, such as `emotalk generate --json` prints.

    Paths are looked for beside the manifest, then from the current folder. A line that cannot be used becomes an item
    with a problem, so that the rest is evaluated.

    Raises:
        InputError: if the file cannot be read, is empty, or names no videos.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"the manifest {path} cannot be read: {reason}") from None
    rows: list[tuple[int, Mapping[str, Any] | None]] = []
    if text.lstrip().startswith("{"):
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                rows.append((number, _json_object(line)))
    else:
        rows = [(number, row) for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2)]
    if not rows:
        raise InputError(f"the manifest {path} has no lines; it needs a header with the column video")
    if not any(row and any(row.get(name) for name in COLUMNS["video"]) for _, row in rows):
        raise InputError(f"the manifest {path} names no videos; it needs a column video (or output)")
    return Plan([_item(path, number, row) for number, row in rows])


def _json_object(line: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _item(manifest: Path, number: int, row: Mapping[str, Any] | None) -> Item:
    where = f"{manifest}, line {number}"
    if row is None:
        return Item(Path(where), problem=f"{where} is no JSON object")
    said = {
        what: next((str(row[name]).strip() for name in names if row.get(name) not in (None, "")), "")
        for what, names in COLUMNS.items()
    }
    if not said["video"]:
        return Item(Path(where), problem=f"{where} names no video")
    reference, source, speech = (
        _beside(manifest, said[what]) if said[what] else None for what in ("reference", "source", "speech")
    )
    item = Item(_beside(manifest, said["video"]), reference, source, speech)
    try:
        emotion = parse_wish(said["emotion"]).text if said["emotion"] else None
        intensity = check_intensity(float(said["intensity"])) if said["intensity"] else None
    except (EmotalkError, ValueError) as error:
        return replace(item, problem=f"{where}: {error}")
    return with_wish(item, emotion, intensity)


def _beside(manifest: Path, name: str) -> Path:
    path = Path(name)
    beside = manifest.parent / path
    return beside if not path.is_absolute() and beside.exists() else path
