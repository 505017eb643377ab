"""`emotalk generate`: one photograph and one recording become a talking video."""

from __future__ import annotations

import time
from pathlib import Path

from ..device import check_device_name
from ..emotions import Emotion, check_intensity, parse_emotion
from ..errors import ConfigError
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
    WeightsOption,
)
from .output import VIDEO_SUFFIX, byte_progress, check_destination, check_input, frame_progress, note, show

LOWEST_FPS, HIGHEST_FPS = 1.0, 120.0


def generate(
    face: FaceArgument,
    speech: SpeechArgument,
    output: OutputOption = None,
    emotion: EmotionOption = Emotion.NEUTRAL.value,
    intensity: IntensityOption = 2.0,
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
    feeling = parse_emotion(emotion)
    check_intensity(intensity)
    if not LOWEST_FPS <= fps <= HIGHEST_FPS:
        raise ConfigError(f"--fps is {fps:g}; it must be between {LOWEST_FPS:g} and {HIGHEST_FPS:g}")
    if face_index < 1:
        raise ConfigError(f"--face is {face_index}; 1 is the largest face")
    check_device_name(device)
    check_input(face, "photograph")
    check_input(speech, "recording")
    name = default_name(face, speech, feeling, intensity)
    path = check_destination(output or Path(), name, overwrite=overwrite, inputs=(face, speech))
    check_source(weights)
    with byte_progress(quiet=quiet) as on_bytes:
        fetch_set(weights, offline=offline, on_bytes=on_bytes)

    from ..pipeline import Pipeline  # imports torch, which --help does not need

    pipeline = Pipeline(device=device, weights=weights, landmarks=landmarks.value, offline=offline, seed=seed)
    result = pipeline.generate(face, speech, emotion=feeling, intensity=intensity, fps=fps, face_index=face_index)
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
        "emotion": feeling.value,
        "intensity": intensity,
        "fps": result.fps,
        "frames": result.frame_count,
        "duration": result.duration,
        "width": width,
        "height": height,
        "seconds": round(seconds, 3),
    }
    show(facts, str(saved), as_json=as_json)


def default_name(face: Path, speech: Path, emotion: Emotion, intensity: float) -> str:
    """`face_speech_sad3.mp4`; neutral has no number."""
    wish = emotion.value if emotion is Emotion.NEUTRAL else f"{emotion.value}{intensity:g}"
    return f"{face.stem}_{speech.stem}_{wish}{VIDEO_SUFFIX}"
