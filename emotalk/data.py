"""A prepared corpus on disk: one file per clip, a manifest, a basis; and readers that stream from it."""

from __future__ import annotations

import csv
import json
import random
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .audio import window_starts
from .config import AudioConfig
from .emotions import Emotion
from .errors import InputError
from .landmarks import CROP_SIZE, LOWER_CURVES, LOWER_FACE, Basis, draw_curves

FORMAT = "emotalk-corpus/1"
ABOUT = "about.json"
MANIFEST = "manifest.csv"
QUARANTINE = "quarantine.csv"
BASIS = "basis.npz"
STATISTICS = "statistics.json"
REPORT = "report.txt"
CLIPS = "clips"

# Columns of the manifest and what they mean; the expression weights of puppets follow, one column each.
COLUMNS: Mapping[str, str] = {
    "clip": "name, unique in the corpus",
    "file": "its file below the folder",
    "corpus": "mead, ravdess, crema-d, savee, grid, folder or puppet",
    "actor": "the person",
    "view": "front, down, top, left_30, left_60, right_30 or right_60",
    "emotion": "one of the eight, empty if unknown",
    "intensity": "0 to 3, empty if unknown",
    "level": "intensity as the corpus writes it",
    "sentence": "the words; one text for one actor",
    "take": "repetition",
    "split": "train, dev or test",
    "frames": "pictures at `fps`",
    "valid_frames": "those that show a face",
    "fps": "frames per second of the prepared clip",
    "width": "pixels of the recording",
    "height": "pixels of the recording",
    "source_fps": "frames per second of the recording",
    "face_pixels": "median distance of the eyes in the recording",
    "picture_seconds": "length of the picture",
    "sound_seconds": "length of the sound, 0 without sound",
    "notes": "what a person should know, separated by `;`",
    "source": "the video below the corpus folder",
    "source_sound": "the sound file below the corpus folder, empty if it is the video's own",
}
NUMBERS = ("intensity", "fps", "source_fps", "face_pixels", "picture_seconds", "sound_seconds")
WHOLE_NUMBERS = ("frames", "valid_frames", "width", "height")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the manifest."""

    clip: str
    file: str
    actor: str
    emotion: Emotion | None
    intensity: float | None
    split: str
    frames: int
    facts: Mapping[str, str]  # every column as text


class ClipReader:
    """One prepared clip; arrays are read when asked for, pictures one at a time.

    Shape, T frames:
        landmarks: (T, 68, 2) float32, canonical crop of 256 pixels, x then y; the head's jitter is smoothed away.
        source:    (T, 68, 2) float32, pixels of the recording.
        transform: (T, 2, 3) float32, recording to canonical crop.
        valid:     (T,) bool, frames that show a face; landmarks of the others are interpolated, their pictures empty.
        opening:   (T,) float32, between the inner lips, in face units.
        motion:    (T, 37, 2) float32, displacement of the lower face from rest, in face units.
        mfcc:      (L, 28) float32 as `audio.mfcc` gives it; L is 0 without sound.
        samples:   (n,) int16 mono at 16 kHz, as long as the picture.
        weights:   (T, E) float32 expression weights of a puppet; E is 0 for people.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._data = np.load(self.path, allow_pickle=False)
            self.about: dict[str, Any] = json.loads(str(self._data["about"]))
        except FileNotFoundError:
            raise InputError(f"{self.path} does not exist; prepare the corpus again") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{self.path} is no prepared clip ({error}); remove it and prepare again") from None

    def __getattr__(self, name: str) -> np.ndarray:
        if name in ("landmarks", "source", "transform", "valid", "opening", "motion", "mfcc", "samples", "weights"):
            value: np.ndarray = self._data[name]
            self.__dict__[name] = value
            return value
        raise AttributeError(name)

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()

    @property
    def frames(self) -> int:
        """Number of pictures."""
        return len(self._offsets) - 1

    @property
    def lower_points(self) -> np.ndarray:
        """Jaw and mouth (T, 37, 2) in the canonical crop: what `draw_curves` takes with `LOWER_CURVES`."""
        return self.landmarks[:, LOWER_FACE]

    def frame(self, index: int) -> np.ndarray:
        """Aligned crop number `index`, (size, size, 3) uint8 RGB; only its own bytes are read.

        Raises:
            InputError: if that frame shows no face, or the file is damaged.
        """
        first, last = self._offsets[index], self._offsets[index + 1]
        if first == last:
            raise InputError(f"frame {index} of {self.path.name} shows no face")
        with self.path.open("rb") as file:
            file.seek(self._start + int(first))
            packed = np.frombuffer(file.read(int(last - first)), np.uint8)
        picture = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        if picture is None:
            raise InputError(f"frame {index} of {self.path} is damaged; remove the file and prepare again")
        return np.ascontiguousarray(picture[..., ::-1])

    def windows(self, config: AudioConfig = AudioConfig()) -> np.ndarray:  # noqa: B008
        """MFCC windows (T, context, 28), one per frame, as `audio.mfcc_windows` gives them.

        Raises:
            InputError: if the clip has no sound.
        """
        if len(self.mfcc) == 0:
            raise InputError(f"{self.path.name} has no sound")
        rows = window_starts(self.frames, float(self.about["fps"]), config)[:, None] + np.arange(config.context)
        windows: np.ndarray = self.mfcc[rows]
        return windows

    def heatmap(self, index: int, size: int = CROP_SIZE) -> np.ndarray:
        """Line drawing of jaw and lips of one frame, (size, size) float32 in [0, 1]."""
        return draw_curves(self.lower_points[index] * (size / CROP_SIZE), size, size, LOWER_CURVES)

    @cached_property
    def _offsets(self) -> np.ndarray:
        offsets: np.ndarray = self._data["offsets"]
        return offsets

    @cached_property
    def _start(self) -> int:
        """Where the pictures begin in the file: the archive is not compressed."""
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo("crops.npy")
        with self.path.open("rb") as file:
            file.seek(info.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            file.seek(info.header_offset + 30 + name + extra)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            read(file)
            return file.tell()


class Corpus:
    """A prepared corpus. Only its manifest is in memory.

    Raises:
        InputError: if the folder holds none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.about: dict[str, Any] = json.loads((self.folder / ABOUT).read_text("utf-8"))
            with (self.folder / MANIFEST).open(encoding="utf-8", newline="") as file:
                self.rows = [_row(values) for values in csv.DictReader(file)]
        except FileNotFoundError as error:
            name = Path(error.filename).name
            raise InputError(
                f"{self.folder} holds no prepared corpus ({name} is missing); run emotalk prepare"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.folder} holds a damaged corpus ({error}); run emotalk prepare again") from None
        if self.about.get("format") != FORMAT:
            raise InputError(f"{self.folder} holds a corpus of another format ({self.about.get('format')})")

    def select(
        self, split: str | None = None, emotions: Sequence[Emotion] = (), actors: Sequence[str] = ()
    ) -> list[Row]:
        """Rows of one side, of some emotions, of some actors."""
        return [
            row
            for row in self.rows
            if (split is None or row.split == split)
            and (not emotions or row.emotion in emotions)
            and (not actors or row.actor in actors)
        ]

    def open(self, row: Row) -> ClipReader:
        """The clip of a row."""
        return ClipReader(self.folder / row.file)

    def stream(self, split: str, seed: int, start: int = 0) -> Iterator[Row]:
        """Rows of one side without end, each pass in a new order; row i depends on (seed, i) only.

        Raises:
            InputError: if that side is empty.
        """
        rows = self.select(split)
        if not rows:
            raise InputError(f"{self.folder} has no clips for {split}")
        position = start
        while True:
            turn, first = divmod(position, len(rows))
            order = list(range(len(rows)))
            random.Random(f"{seed} {turn}").shuffle(order)
            for index in order[first:]:
                yield rows[index]
            position += len(rows) - first

    def basis(self) -> Basis:
        """PCA of the lower face's motion in the training clips.

        Raises:
            InputError: if the corpus has none (too little motion, or no training clips).
        """
        try:
            with np.load(self.folder / BASIS, allow_pickle=False) as data:
                return Basis(data["mean"], data["components"], data["scale"])
        except FileNotFoundError:
            raise InputError(f"{self.folder} holds no {BASIS}; the corpus has too few training frames") from None


def _row(values: dict[str, str]) -> Row:
    return Row(
        clip=values["clip"],
        file=values["file"],
        actor=values["actor"],
        emotion=Emotion(values["emotion"]) if values["emotion"] else None,
        intensity=float(values["intensity"]) if values["intensity"] else None,
        split=values["split"],
        frames=int(values["frames"]),
        facts=values,
    )
