"""`emotalk interpolate-intensity`: a feeling that grows, or turns into another, as one video or side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..conditions import Feeling
from ..emotions import MAX_INTENSITY, Emotion, check_intensity
from ..errors import ConfigError, OutputError, UsageError
from ..tracks import Ease, Ramp, write_track
from ..weights import check_source, fetch_set
from .generate import check_run, read_wish
from .options import (
    OUTPUT,
    DeviceOption,
    EmotionOption,
    FaceArgument,
    FaceIndexOption,
    FpsOption,
    JsonOption,
    LandmarkDetector,
    LandmarksOption,
    OfflineOption,
    OutputOption,
    OverwriteOption,
    QuietOption,
    SeedOption,
    SpeechArgument,
    StillOption,
    WeightsOption,
)
from .output import VIDEO_SUFFIX, byte_progress, check_destination, check_input, frame_progress, note, show

if TYPE_CHECKING:
    from ..pipeline import Pipeline

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_STEPS = 16


class Layout(str, Enum):
    """What is made."""

    VIDEO = "video"
    GRID = "grid"
    FRAMES = "frames"


FromOption = Annotated[float, typer.Option("--from", metavar="0..3", help="Intensity at the beginning.")]
ToOption = Annotated[float, typer.Option("--to", metavar="0..3", help="Intensity at the end.")]
ToEmotionOption = Annotated[
    str | None, typer.Option("--to-emotion", metavar="NAME", help="Emotion at the end; default is --emotion.")
]
EaseOption = Annotated[Ease, typer.Option("--ease", help="How it changes; smooth begins and ends gently.")]
StepsOption = Annotated[
    int, typer.Option("--steps", metavar="N", help="Levels of a grid or of frames; key moments of --write-track.")
]
LayoutOption = Annotated[
    Layout,
    typer.Option(
        "--layout", help="video: one that changes; grid: a video of the levels side by side; frames: a picture of them."
    ),
]
WriteTrackOption = Annotated[
    Path | None,
    typer.Option(
        "--write-track", metavar="FILE", rich_help_panel=OUTPUT, help="Also write the change as a track to edit."
    ),
]


def interpolate_intensity(
    face: FaceArgument,
    speech: SpeechArgument,
    output: OutputOption = None,
    emotion: EmotionOption = Emotion.HAPPY.value,
    start: FromOption = 0.0,
    end: ToOption = MAX_INTENSITY,
    to_emotion: ToEmotionOption = None,
    ease: EaseOption = Ease.LINEAR,
    steps: StepsOption = 4,
    layout: LayoutOption = Layout.VIDEO,
    still: StillOption = False,
    write: WriteTrackOption = None,
    fps: FpsOption = 25.0,
    face_index: FaceIndexOption = 1,
    landmarks: LandmarksOption = LandmarkDetector.AUTO,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    weights: WeightsOption = "shipped",
    offline: OfflineOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a feeling grow, or turn into another, while a face talks."""
    started = time.monotonic()
    first = read_wish(emotion, quiet=quiet)
    last = first if to_emotion is None else read_wish(to_emotion, quiet=quiet)
    ramp = Ramp(Feeling(first.weights, check_intensity(start)), Feeling(last.weights, check_intensity(end)), ease)
    if not 2 <= steps <= MOST_STEPS:
        raise ConfigError(f"--steps is {steps}; it must be between 2 and {MOST_STEPS}")
    check_run(fps, face_index, device)
    check_input(face, "photograph")
    check_input(speech, "recording")
    name = f"{face.stem}_{speech.stem}_{first.name}{start:g}-{'' if last == first else last.name}{end:g}"
    suffixes = PICTURE_SUFFIXES if layout is Layout.FRAMES else (VIDEO_SUFFIX,)
    path = check_destination(
        output or Path(), name + suffixes[0], overwrite=overwrite, inputs=(face, speech), suffixes=suffixes
    )
    check_track(write, path, overwrite=overwrite, inputs=(face, speech))
    check_source(weights)
    with byte_progress(quiet=quiet) as on_bytes:
        fetch_set(weights, offline=offline, on_bytes=on_bytes)

    from ..audio import read_audio
    from ..pipeline import Pipeline  # imports torch, which --help does not need

    pipeline = Pipeline(device=device, weights=weights, landmarks=landmarks.value, offline=offline, seed=seed)
    options: dict[str, Any] = {"still": still, "fps": fps, "face_index": face_index}
    levels = ramp.levels(steps)
    labels = [label(level) for level in levels]
    if write is not None:
        write_track(write, ramp.keys(read_audio(speech).duration, steps), overwrite=overwrite)
    if layout is Layout.FRAMES:
        facts = save_strip(pipeline, face, levels, labels, path, face_index)
    else:
        result = (
            pipeline.compare(face, speech, levels, labels, **options)
            if layout is Layout.GRID
            else pipeline.generate(face, speech, track=ramp, **options)
        )
        with frame_progress(result.frame_count, quiet=quiet) as advance:
            result.save(path, overwrite=overwrite, on_frame=lambda *_: advance())
        facts = {"frames": result.frame_count, "duration": result.duration, "fps": result.fps, "size": result.size}
    seconds = time.monotonic() - started
    width, height = facts.pop("size")
    note(f"{facts['frames']} frames of {width}x{height}, made in {seconds:.1f} s", quiet=quiet)
    facts = {
        "output": str(path),
        "face": str(face),
        "speech": str(speech),
        "emotion": first.text,
        "from": start,
        "to": end,
        "to_emotion": last.text,
        "ease": ease.value,
        "layout": layout.value,
        "track": None if write is None else str(write),
        "width": width,
        "height": height,
        **facts,
        "seconds": round(seconds, 3),
    }
    show(facts, str(path), as_json=as_json)


def label(feeling: Feeling) -> str:
    """`happy 2` or `happy 50 % sad 50 % 1.5`; a share or intensity has at most two decimals."""
    if feeling.is_neutral:
        return Emotion.NEUTRAL.value
    names = [
        emotion.value if share > 0.999 else f"{emotion.value} {share:.0%}"
        for emotion, share in feeling.weights.items()
        if share > 0
    ]
    return f"{' '.join(names)} {round(feeling.intensity, 2):g}"


def check_track(path: Path | None, video: Path, *, overwrite: bool, inputs: tuple[Path, ...]) -> None:
    """Refuse a track file that may not be written.

    Raises:
        UsageError, OutputError: if it is the output, or exists, or its folder is missing or closed.
    """
    if path is None:
        return
    if path == video:
        raise UsageError(f"the track {path} is also the output; choose another name")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    check_destination(path, path.name, overwrite=overwrite, inputs=inputs, suffixes=(".csv", ".json"))


def save_strip(
    pipeline: Pipeline, face: Path, levels: Sequence[Feeling], labels: Sequence[str], path: Path, face_index: int
) -> dict[str, Any]:
    """Write one picture with a still of each level; returns what there is to tell."""
    from ..image import write_image
    from ..layout import side_by_side

    strip = side_by_side(list(pipeline.emotional_faces(face, levels, face_index=face_index)), labels)
    write_image(path, strip)
    return {"frames": len(levels), "duration": None, "fps": None, "size": (strip.shape[1], strip.shape[0])}
