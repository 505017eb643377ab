"""Generate the test side of a prepared corpus, so that it can be evaluated against the recordings themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..audio import SAMPLE_RATE
from ..data import ClipReader, Corpus, Row
from ..emotions import EMOTIONS, Emotion
from ..errors import EmotalkError, InputError
from ..image import write_image
from ..result import write_sound
from ..video import VideoWriter
from .items import Item, Plan

CLIPS_PER_EMOTION = 6  # of each actor, as in MEAD's evaluation
SPLIT = "test"
USUAL_INTENSITY = 2.0  # where the corpus does not say


class Generates(Protocol):
    """What this needs of `pipeline.Pipeline`."""

    def generate(self, face: Any, speech: Any, *, emotion: Any, intensity: float, fps: float) -> Any:
        """A result with `save`."""
        ...


def make_benchmark(
    corpus: Corpus, folder: Path, pipeline: Generates, on_clip: Callable[[str, int, int], object] | None = None
) -> Plan:
    """Write generated videos, recordings and photographs of the test side into a folder.

    The recording is the prepared crop with its sound; the photograph is the frame of a neutral clip of the same actor
    and view in which the mouth is most closed, or without one that of the clip itself. The generated video hears the
    sound of the recording and is asked for its emotion and intensity.

    Returns:
        what to evaluate; a clip that cannot be generated is an item with a problem.

    Raises:
        InputError: if the test side has no clips with a known emotion.
    """
    rows = choose(corpus.select(SPLIT))
    if not rows:
        raise InputError(f"{corpus.folder} has no clips for {SPLIT} with a known emotion; prepare it with a split")
    photographs: dict[tuple[str, str], Path | None] = {}
    items = []
    for number, row in enumerate(rows):
        if on_clip is not None:
            on_clip(row.clip, number, len(rows))
        name = Path(row.file).stem
        video = folder / f"{name}.mp4"
        emotion, intensity = row.emotion or Emotion.NEUTRAL, USUAL_INTENSITY if row.intensity is None else row.intensity
        item = Item(video, emotion=emotion.value, intensity=intensity)
        try:
            with corpus.open(row) as clip:
                if not len(clip.samples):
                    raise InputError(f"{row.clip} has no sound to speak")
                fps = float(row.facts["fps"])
                key = row.actor, row.facts.get("view", "")
                if key not in photographs:
                    photographs[key] = photograph(corpus, key, folder)
                source = photographs[key] or still(clip, folder / f"{name}.png")
                real = recording(clip, fps, folder, name)
                made = pipeline.generate(
                    source, (clip.samples, SAMPLE_RATE), emotion=emotion, intensity=intensity, fps=fps
                )
                made.save(video, overwrite=True)
            items.append(Item(video, real, source, emotion=emotion.value, intensity=intensity))
        except EmotalkError as error:
            items.append(Item(video, emotion=item.emotion, intensity=intensity, problem=f"{row.clip}: {error}"))
    return Plan(items)


def choose(rows: Sequence[Row]) -> list[Row]:
    """At most six clips of each emotion of each actor, spread over the intensities, in the order of the manifest."""
    chosen: list[Row] = []
    for actor in dict.fromkeys(row.actor for row in rows):
        for emotion in EMOTIONS:
            mine = [row for row in rows if row.actor == actor and row.emotion is emotion]
            levels = sorted({row.intensity for row in mine}, key=lambda level: -1.0 if level is None else level)
            each = [[row for row in mine if row.intensity == level] for level in levels]
            turns = [row for row in chain.from_iterable(zip_longest(*each)) if row is not None]
            chosen += turns[:CLIPS_PER_EMOTION]
    return chosen


def photograph(corpus: Corpus, key: tuple[str, str], folder: Path) -> Path | None:
    """A neutral picture of one actor from one view, from outside the test side if there is one; None without."""
    neutral = corpus.select(emotions=[Emotion.NEUTRAL], actors=[key[0]])
    mine = [row for row in neutral if row.facts.get("view", "") == key[1]]
    for row in sorted(mine, key=lambda row: row.split == SPLIT):
        try:
            with corpus.open(row) as clip:
                return still(clip, folder / f"{'_'.join(part for part in key if part)}_neutral.png")
        except InputError:
            continue
    return None


def still(clip: ClipReader, path: Path) -> Path:
    """The frame of a clip in which the mouth is most closed, as a picture file."""
    valid = np.flatnonzero(clip.valid)
    if not len(valid):
        raise InputError(f"{clip.path.name} shows no face")
    write_image(path, clip.frame(int(valid[np.argmin(clip.opening[valid])])))
    return path


def recording(clip: ClipReader, fps: float, folder: Path, name: str) -> Path:
    """The prepared crops of a clip as a video with its sound."""
    sound, path = folder / f"{name}.wav", folder / f"{name}_real.mp4"
    write_sound(sound, clip.samples, SAMPLE_RATE)
    pictures = frames(clip)
    first = next(pictures)
    with VideoWriter(path, first.shape[1], first.shape[0], fps, sound) as writer:
        writer.write(first)
        for picture in pictures:
            writer.write(picture)
    sound.unlink()
    return path


def frames(clip: ClipReader) -> Iterator[np.ndarray]:
    """Every crop; one without a face repeats the crop before it."""
    valid = np.flatnonzero(clip.valid)
    if not len(valid):
        raise InputError(f"{clip.path.name} shows no face")
    last = clip.frame(int(valid[0]))
    for index in range(clip.frames):
        last = clip.frame(index) if clip.valid[index] else last
        yield last
