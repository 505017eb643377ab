"""`emotalk generate`: one photograph and one recording become a talking video."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..device import check_device_name
from ..emotions import Emotion, Wish, check_intensity, parse_wish
from ..errors import ConfigError, UsageError
from ..tracks import read_track
from ..weights import check_source, fetch_set
from .options import (
    DeviceOption,
    EmotionOption,
    FaceArgument,
    FaceIndexOption,
    FpsOption,
    IntensityOption,
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

LOWEST_FPS, HIGHEST_FPS = 1.0, 120.0
USUAL_INTENSITY = 2.0

UpperOption = Annotated[
    str | None, typer.Option("--upper-emotion", metavar="NAME", help="Of eyes and brows, in place of --emotion.")
]
LowerOption = Annotated[
    str | None, typer.Option("--lower-emotion", metavar="NAME", help="Of mouth and chin, in place of --emotion.")
]
TrackOption = Annotated[
    Path | None,
    typer.Option("--track", metavar="FILE", help="What is felt when, in place of --emotion: time,emotion,intensity."),
]


def generate(
    face: FaceArgument,
    speech: SpeechArgument,
    output: OutputOption = None,
    emotion: EmotionOption = Emotion.NEUTRAL.value,
    intensity: IntensityOption = USUAL_INTENSITY,
    upper_emotion: UpperOption = None,
    lower_emotion: LowerOption = None,
    track: TrackOption = None,
    still: StillOption = False,
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
    """Make a talking video from one photograph and one recording."""
    started = time.monotonic()
    upper = read_wish(upper_emotion or emotion, quiet=quiet)
    lower = read_wish(lower_emotion or emotion, quiet=quiet) if upper_emotion or lower_emotion else None
    check_intensity(intensity)
    check_run(fps, face_index, device)
    check_input(face, "photograph")
    check_input(speech, "recording")
    if track is not None:
        check_input(track, "track")
        if upper_emotion or lower_emotion or emotion != Emotion.NEUTRAL.value or intensity != USUAL_INTENSITY:
            raise UsageError("--track says what is felt; leave the options of emotion and intensity out")
    feelings = None if track is None else read_track(track)
    wish = track.stem if track is not None else wish_name(upper, intensity, lower)
    name = f"{face.stem}_{speech.stem}_{wish}{VIDEO_SUFFIX}"
    path = check_destination(output or Path(), name, overwrite=overwrite, inputs=(face, speech))
    check_source(weights)
    with byte_progress(quiet=quiet) as on_bytes:
        fetch_set(weights, offline=offline, on_bytes=on_bytes)

    from ..pipeline import Pipeline  # imports torch, which --help does not need

    pipeline = Pipeline(device=device, weights=weights, landmarks=landmarks.value, offline=offline, seed=seed)
    result = pipeline.generate(
        face,
        speech,
        emotion=upper.weights,
        intensity=intensity,
        lower_emotion=None if lower is None else lower.weights,
        track=feelings,
        still=still,
        fps=fps,
        face_index=face_index,
    )
    with frame_progress(result.frame_count, quiet=quiet) as advance:
        saved = result.save(path, overwrite=overwrite, on_frame=lambda *_: advance())
    seconds = time.monotonic() - started
    width, height = result.size
    note(
        f"{result.frame_count} frames of {width}x{height}, {result.duration:.1f} s, made in {seconds:.1f} s",
        quiet=quiet,
    )
    facts = {
        "output": str(saved),
        "face": str(face),
        "speech": str(speech),
        "emotion": upper.text if track is None else None,
        "lower_emotion": None if lower is None else lower.text,
        "intensity": intensity if track is None else None,
        "track": None if track is None else str(track),
        "fps": result.fps,
        "frames": result.frame_count,
        "duration": result.duration,
        "width": width,
        "height": height,
        "seconds": round(seconds, 3),
    }
    show(facts, str(saved), as_json=as_json)


def read_wish(text: str, *, quiet: bool) -> Wish:
    """An emotion or a blend; says so when its weights were normalised.

    Raises:
        ConfigError: if it is neither.
    """
    wish = parse_wish(text)
    if wish.was_normalised:
        note(f"the weights of {text} sum to {wish.given:g}; taken as {wish.text}", quiet=quiet)
    return wish


def check_run(fps: float, face_index: int, device: str) -> None:
    """Refuse what no run can do, before anything loads.

    Raises:
        ConfigError, DeviceError: naming the option.
    """
    if not LOWEST_FPS <= fps <= HIGHEST_FPS:
        raise ConfigError(f"--fps is {fps:g}; it must be between {LOWEST_FPS:g} and {HIGHEST_FPS:g}")
    if face_index < 1:
        raise ConfigError(f"--face is {face_index}; 1 is the largest face")
    check_device_name(device)


def wish_name(upper: Wish, intensity: float, lower: Wish | None = None) -> str:
    """`sad3`, `happy60-surprised40_2` or `sad-over-happy2`, for file names; neutral has no number."""
    if lower is not None and lower.weights != upper.weights:
        return f"{upper.name}-over-{lower.name}{intensity:g}"
    if upper.emotion is Emotion.NEUTRAL:
        return upper.name
    return f"{upper.name}{intensity:g}" if upper.emotion is not None else f"{upper.name}_{intensity:g}"
