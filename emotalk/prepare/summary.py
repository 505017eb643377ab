"""What stands beside the prepared clips: manifest, quarantine, basis, statistics, and a report to read."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import __version__
from ..config import Audio2LandmarkConfig
from ..corpora import REASONS, SPLITS, Scan, SplitRule, check_split, missing, readable
from ..data import BASIS, COLUMNS, MANIFEST, QUARANTINE, REPORT, STATISTICS, ClipReader
from ..files import new_file, output_error
from ..landmarks import LOWER_POINTS
from .clip import Task, write_text

COMPONENTS = Audio2LandmarkConfig().components
LISTED = 200  # clips of one reason named in the report; the table has all


@dataclass(frozen=True, slots=True)
class Bad:
    """One line of the quarantine."""

    clip: str
    reason: str
    detail: str
    source: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the manifest holds."""

    clips: int
    frames: int
    splits: Mapping[str, int]
    bad: Sequence[Bad]


class Covariance:
    """Mean and covariance of motion, clip by clip: memory does not grow with the corpus."""

    def __init__(self) -> None:
        size = 2 * LOWER_POINTS
        self.count = 0
        self.total = np.zeros(size)
        self.products = np.zeros((size, size))

    def add(self, motion: np.ndarray) -> None:
        """Take in frames (T, 37, 2)."""
        rows = motion.reshape(len(motion), -1).astype(np.float64)
        self.count += len(rows)
        self.total += rows.sum(0)
        self.products += rows.T @ rows

    def basis(self, size: int) -> dict[str, np.ndarray]:
        """Arrays of `basis.npz`; as `landmarks.Basis.fit` would find them, up to sign.

        `explained` is the share of the variance that each component explains.
        """
        mean = self.total / self.count
        covariance = (self.products - self.count * np.outer(mean, mean)) / max(self.count - 1, 1)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1].T
        strongest = np.abs(vectors).argmax(1)
        vectors = vectors * np.sign(vectors[np.arange(len(vectors)), strongest])[:, None]
        return {
            "mean": mean.astype(np.float32),
            "components": vectors[:size].astype(np.float32),
            "scale": np.sqrt(np.maximum(values[:size], 1e-12)).astype(np.float32),
            "explained": (values / max(values.sum(), 1e-12)).astype(np.float32),
        }


def finish(output: Path, tasks: Sequence[Task], sides: Mapping[str, str], scanned: Scan, rule: SplitRule) -> Summary:
    """Write everything that is not a clip, from the clips themselves, in the order of their names.

    Raises:
        OutputError: if something cannot be written.
        ConfigError: if the split is not clean.
    """
    bad = [Bad("", item.reason, item.detail, readable(item.path)) for item in scanned.rejected]
    gathered = Gathered()
    extra = _weight_names(output, tasks)
    header = [*COLUMNS, *extra]
    lines = 0
    proof: list[tuple[str, str, str]] = []
    try:
        with new_file(output / MANIFEST) as part, part.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, header, lineterminator="\n", extrasaction="ignore")
            table.writeheader()
            for task in sorted(tasks, key=lambda task: task.clip.name):
                path = output / task.file
                if not path.exists():
                    bad.append(_bad(output / task.note, task))
                    continue
                with ClipReader(path) as clip:
                    row = {**clip.about, "split": sides[task.clip.name], **clip.about.get("weights", {})}
                    table.writerow(row)
                    gathered.add(clip, row)
                proof.append((row["actor"], row["sentence"], row["split"]))
                lines += 1
    except OSError as error:
        raise output_error(output / MANIFEST, error) from None
    by_identity = rule.kind_for(scanned.corpus) == "identity"
    check_split(proof, by_identity=by_identity)
    bad.sort(key=lambda item: (item.reason, item.clip, item.source))
    _write_quarantine(output / QUARANTINE, bad)
    explained = gathered.write_basis(output / BASIS)
    statistics = gathered.statistics() | {
        "explained_variance": explained,
        "quarantine": dict(sorted(Counter(item.reason for item in bad).items())),
        "split": asdict(rule),
        "split_check": "no actor on two sides" if by_identity else "no sentence of an actor on two sides",
        "versions": versions(),
    }
    write_text(output / STATISTICS, json.dumps(statistics, indent=2, sort_keys=True, allow_nan=False) + "\n")
    write_text(output / REPORT, "\n".join(report(scanned, tasks, statistics, bad)) + "\n")
    return Summary(lines, statistics["frames"], statistics["splits"], tuple(bad))


def _weight_names(output: Path, tasks: Sequence[Task]) -> list[str]:
    """Columns of expression weights, where there are any."""
    for task in tasks:
        if task.clip.corpus == "puppet" and (output / task.file).exists():
            with ClipReader(output / task.file) as clip:
                return list(clip.about.get("weights", {}))
    return []


def _bad(note: Path, task: Task) -> Bad:
    try:
        said = json.loads(note.read_text("utf-8"))
        return Bad(task.clip.name, said["reason"], said["detail"], said["source"])
    except (OSError, ValueError, KeyError):
        return Bad(task.clip.name, "crash", "left no trace", readable(task.clip.video))


def _write_quarantine(path: Path, bad: Sequence[Bad]) -> None:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["clip", "reason", "detail", "source"])
    table.writerows((item.clip, item.reason, item.detail, item.source) for item in bad)
    write_text(path, buffer.getvalue())


class Gathered:
    """Sums over the clips of the manifest."""

    def __init__(self) -> None:
        self.clips: Counter[str] = Counter()  # per split
        self.cells: Counter[str] = Counter()  # actor, emotion, level
        self.emotions: Counter[str] = Counter()
        self.frames = self.valid = 0
        self.picture = self.sound = self.with_sound = 0.0
        self.worst = 0.0
        self.opening: Counter[int] = Counter()  # frames by mouth opening in hundredths of a face unit
        self.bytes = 0
        self.covariance = Covariance()

    def add(self, clip: ClipReader, row: Mapping[str, Any]) -> None:
        """Take in one clip."""
        emotion = row["emotion"] or "unknown"
        self.clips[row["split"]] += 1
        self.emotions[emotion] += 1
        self.cells[f"{row['actor']} {emotion} {row['level'] or '-'}"] += 1
        self.frames += row["frames"]
        self.valid += row["valid_frames"]
        picture, sound = float(row["picture_seconds"]), float(row["sound_seconds"])
        self.picture += picture
        self.bytes += clip.path.stat().st_size
        if sound:
            self.with_sound += 1
            self.sound += sound
            self.worst = max(self.worst, abs(sound - picture))
        valid = clip.valid
        self.opening.update(np.clip(np.round(clip.opening[valid] * 100), 0, 200).astype(int).tolist())
        if row["split"] == "train":
            self.covariance.add(clip.motion[valid])

    def write_basis(self, path: Path) -> list[float]:
        """Write `basis.npz` if there is enough motion; returns the variance explained by 1, 2, ... components."""
        if self.covariance.count <= COMPONENTS:
            path.unlink(missing_ok=True)
            return []
        arrays = self.covariance.basis(COMPONENTS)
        with new_file(path) as part:
            try:
                with part.open("wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
            except OSError as error:
                raise output_error(path, error) from None
        return [round(float(v), 4) for v in np.cumsum(arrays["explained"])[:COMPONENTS]]

    def statistics(self) -> dict[str, Any]:
        """Numbers of the corpus."""
        steps = np.array(sorted(self.opening.elements())) if self.frames < 1_000_000 else self._sampled()
        spread = {f"{p}": round(float(np.percentile(steps, p)) / 100, 3) for p in (5, 50, 95)} if len(steps) else {}
        return {
            "clips": sum(self.clips.values()),
            "splits": {side: self.clips[side] for side in SPLITS},
            "emotions": dict(sorted(self.emotions.items())),
            "cells": dict(sorted(self.cells.items())),
            "frames": self.frames,
            "valid_frames": self.valid,
            "picture_hours": round(self.picture / 3600, 4),
            "sound_hours": round(self.sound / 3600, 4),
            "clips_with_sound": int(self.with_sound),
            "largest_length_difference": round(self.worst, 3),
            "mouth_opening_percentiles": spread,
            "megabytes": round(self.bytes / 1e6, 1),
        }

    def _sampled(self) -> np.ndarray:
        share = self.frames // 500_000
        return np.repeat(sorted(self.opening), [max(1, self.opening[k] // share) for k in sorted(self.opening)])


def versions() -> dict[str, str]:
    """Of everything that has a say in the numbers."""
    import imageio_ffmpeg

    names = ("numpy", "torch", "librosa", "soxr", "soundfile")
    found = {"emotalk": __version__, "opencv": cv2.__version__, "ffmpeg": imageio_ffmpeg.get_ffmpeg_version()}
    return found | {name: metadata.version(name) for name in names}


def report(scanned: Scan, tasks: Sequence[Task], statistics: Mapping[str, Any], bad: Sequence[Bad]) -> Iterator[str]:
    """The report, line by line."""
    splits = ", ".join(f"{count} {side}" for side, count in statistics["splits"].items())
    yield f"{scanned.corpus} corpus: {len(tasks)} clips wanted, {statistics['clips']} prepared ({splits}),"
    yield (
        f"{statistics['frames']} frames, {statistics['picture_hours']:.2f} hours, {statistics['megabytes']:.0f} MB; "
        f"{len(bad)} in quarantine."
    )
    for cause, count in sorted(scanned.left_out.items()):
        yield f"{count} files left out on purpose: {cause}."
    if scanned.strangers:
        shown = ", ".join(readable(path) for path in scanned.strangers[:3])
        yield f"{len(scanned.strangers)} videos are not named as this corpus names them, such as {shown}."
    grouped: dict[str, list[Bad]] = {}
    for item in bad:
        grouped.setdefault(item.reason, []).append(item)
    for reason, items in grouped.items():
        yield ""
        yield f"{reason}: {REASONS.get(reason, reason)} ({len(items)})"
        for item in items[:LISTED]:
            yield f"  {item.source}: {item.detail}"
        if len(items) > LISTED:
            yield f"  and {len(items) - LISTED} more, see {QUARANTINE}"
    lost = missing(scanned)
    if lost:
        yield ""
        yield "Missing from a complete corpus:"
        for line in lost:
            yield f"  {line}"
