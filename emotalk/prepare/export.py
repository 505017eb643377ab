"""Write prepared clips as videos and sound files in MEAD's layout, for programs that read only that."""

from __future__ import annotations

import csv
import io
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from ..audio import SAMPLE_RATE
from ..data import ClipReader, Corpus, Row
from ..errors import InputError, OutputError
from ..files import new_file, output_error
from ..video import VideoWriter
from .clip import write_text

ACTORS = "actors.csv"
MOST_ACTORS = 999


def export_mead(folder: Path, output: Path, on_clip: Callable[[int, int], None] | None = None) -> int:
    """Write every clip with an emotion as `M001/video/front/happy/level_2/001.mp4` and its sound as m4a beside.

    Actors are numbered in the order of their names, `actors.csv` says who is who; the take is the sentence number.
    What is there already is kept, so an interrupted export goes on.

    Returns:
        The number of clips.

    Raises:
        InputError: if the folder holds no prepared corpus, or one that does not fit.
        OutputError: if something cannot be written.
    """
    corpus = Corpus(folder)
    rows = [row for row in corpus.rows if row.emotion is not None and row.facts["level"] in ("1", "2", "3")]
    people = sorted({row.actor for row in rows})
    if not rows or len(people) > MOST_ACTORS:
        found = f"{len(rows)} clips with emotion and level, of {len(people)} people"
        raise InputError(f"{folder} has {found}; MEAD's layout takes up to {MOST_ACTORS} people")
    numbers = {actor: f"M{number:03d}" for number, actor in enumerate(people, 1)}
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([("folder", "actor"), *((numbers[a], a) for a in people)])
    write_text(output / ACTORS, buffer.getvalue())
    for done, row in enumerate(rows, 1):
        _export(corpus, row, output / numbers[row.actor])
        if on_clip is not None:
            on_clip(done, len(rows))
    return len(rows)


def _export(corpus: Corpus, row: Row, folder: Path) -> None:
    assert row.emotion is not None
    place = Path(row.emotion.value) / f"level_{row.facts['level']}"
    number = f"{int(row.facts['take'] or 1):03d}"
    video = folder / "video" / row.facts["view"] / place / f"{number}.mp4"
    sound = folder / "audio" / place / f"{number}.m4a"
    try:
        video.parent.mkdir(parents=True, exist_ok=True)
        sound.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(video, error) from None
    with corpus.open(row) as clip:
        if len(clip.samples) and not sound.exists():
            _write_sound(sound, clip)
        if not video.exists():
            side = int(corpus.about["config"]["size"])
            known = np.flatnonzero(clip.valid)
            with VideoWriter(video, side, side, float(row.facts["fps"])) as writer:
                for index in range(clip.frames):
                    writer.write(clip.frame(int(known[np.abs(known - index).argmin()])))


def _write_sound(path: Path, clip: ClipReader) -> None:
    import imageio_ffmpeg

    with new_file(path) as part, tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "sound.wav"
        soundfile.write(wav, clip.samples, SAMPLE_RATE)
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", "-i", str(wav)]
        command += ["-c:a", "aac", "-b:a", "128k", "-ar", "48000", "-f", "mp4", f"file:{part}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise OutputError(f"{path} cannot be written (ffmpeg: {' '.join(last)})")
