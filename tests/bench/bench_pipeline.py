"""How fast photographs talk: time per stage, frames per second, time to first frame, peak memory.

    python tests/bench/bench_pipeline.py [--face FILE] [--speech FILE] [--seconds 10] [--random] [--json FILE]

Times are medians after one warm-up run, with the processor time beside them, which a busy machine changes less; the
command is measured cold, in a process of its own. With `--random` the networks have their real sizes and random
weights, and the landmarks are given: speed can be measured without training.
`--tiny` uses networks of a few thousand weights and one second, to test the bench itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path[:0] = [
    str(Path(__file__).parents[2]),
    str(Path(__file__).parents[1]),
]  # emotalk, if not installed, and tiny.py

ASSETS = Path(__file__).parents[2] / "emotalk" / "assets"
WISH = {"emotion": "happy", "intensity": 3.0}
# The sample portrait's eyes and nose, for networks that cannot find them: `landmarks.STABLE` by eye.
SAMPLE_STABLE = np.array([[196.0, 117], [212, 117], [237, 115], [253, 114], [224, 113], [227, 146]])


def random_weights(folder: Path, small: bool) -> Path:
    """Weights of every network that generates, random and loud enough to move the picture."""
    import tiny
    import torch

    from emotalk.nets import NETWORKS
    from emotalk.weights import save_network

    for name in ("neutral2emotion", "audio2landmark", "refinement"):
        config = tiny.CONFIGS[name] if small else NETWORKS[name].config_class()()
        module = tiny.network(name, config=config)
        with torch.no_grad():
            for key, parameter in module.named_parameters():
                if key.startswith("head"):
                    parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
        save_network(folder / f"{name}.safetensors", module, config)
    return folder


def given_landmarks(*_: object) -> np.ndarray:
    """68 points for the sample portrait; only those of the alignment and the lips matter."""
    from emotalk.landmarks import STABLE, crop_transform, invert_transform, transform_points

    points = np.zeros((68, 2))
    points[STABLE] = SAMPLE_STABLE
    to_picture = invert_transform(crop_transform(points))
    angle = np.linspace(np.pi, 0, 17)
    canonical = np.full((68, 2), 128.0)
    canonical[:17] = np.c_[128 + 72 * np.cos(angle), 95 + 118 * np.sin(angle)]
    turn = np.pi + np.arange(12) * np.pi / 6
    canonical[48:60] = np.c_[128 + 26 * np.cos(turn), 168 + 9 * np.sin(turn)]
    canonical[60:68] = np.c_[[104, 116, 128, 140, 152, 140, 128, 116], np.full(8, 166.0)]
    result = transform_points(to_picture, canonical)
    result[STABLE] = SAMPLE_STABLE
    return result


def make_pipeline(weights: Path | None, *, given: bool) -> Any:
    """A pipeline; with random weights the face is given, not found."""
    from emotalk.pipeline import Pipeline

    if given:
        Pipeline.find_landmarks = given_landmarks  # type: ignore[method-assign, assignment]
    return Pipeline(weights=weights, offline=True)


def longer(speech: Path, seconds: float, folder: Path) -> Path:
    """The recording repeated and cut to a length."""
    import soundfile

    samples, rate = soundfile.read(speech, dtype="float32")
    path = folder / "speech.wav"
    soundfile.write(path, np.resize(samples, (round(seconds * rate), *samples.shape[1:])), rate)
    return path


def processor_seconds() -> float:
    """Work done by this process and by the encoders that it ran and waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def milliseconds(work: Callable[[], object], repeats: int, per: int = 1) -> dict[str, float]:
    """Median and spread of one run, and the processor time in it, divided by `per`, after one warm-up."""
    work()
    times, worked = [], processor_seconds()
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3 / per)
    worked = (processor_seconds() - worked) * 1e3 / per / repeats
    return {"median": statistics.median(times), "lowest": min(times), "highest": max(times), "processor": worked}


def cold(face: Path, speech: Path, weights: Path | None, *, given: bool) -> dict[str, float]:
    """One whole run in a process of its own, as the command does it."""
    command = [sys.executable, __file__, "--child", "--face", str(face), "--speech", str(speech)]
    command += ["--weights", str(weights)] if weights else []
    command += ["--random"] if given else []
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {"whole": time.perf_counter() - start, **json.loads(done.stdout)}


def child(face: Path, speech: Path, weights: Path | None, *, given: bool) -> dict[str, float]:
    """What `cold` runs: from the first import to the finished file."""
    start = time.perf_counter()
    pipeline = make_pipeline(weights, given=given)
    imported = time.perf_counter()
    first: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        result = pipeline.generate(face, speech, **WISH)
        ready = time.perf_counter()
        result.save(
            Path(folder) / "out.mp4", on_frame=lambda done: first.append(time.perf_counter()) if done == 1 else None
        )
        end = time.perf_counter()
    return {
        "imports": imported - start,
        "before_frames": ready - imported,
        "first_frame": first[0] - start,
        "frames": end - ready,
        "frames_per_second": result.frame_count / (end - ready),
        "processor": processor_seconds(),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def stages(face: Path, speech: Path, weights: Path | None, *, given: bool, repeats: int) -> dict[str, Any]:
    """Each stage on its own, warm, one after the other."""
    import torch

    from emotalk import audio, landmarks
    from emotalk.conditions import Feeling
    from emotalk.config import PipelineConfig
    from emotalk.image import read_image
    from emotalk.tracks import Track
    from emotalk.video import VideoWriter

    pipeline = make_pipeline(weights, given=given)
    picture = read_image(face)
    waveform = audio.read_audio(speech)
    fps = 25.0
    result = pipeline.generate(face, speech, **WISH)
    count = result.frame_count
    network, half = pipeline.network("refinement"), pipeline.half
    (scene,), _ = pipeline.scenes(face, speech, [Track.constant(Feeling.of(**WISH))])
    batch = range(min(count, pipeline.config.batch))
    faces = [scene.face(frame) for frame in batch]
    wanted = np.stack([scene.wanted(frame, faces[0]) for frame in batch])
    edits = pipeline._speak(network, faces, wanted)
    windows = torch.from_numpy(audio.mfcc_windows(waveform.samples, fps))[None]
    frames = list(result.frames())

    def encode() -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            VideoWriter(Path(folder) / "out.mp4", *result.size, fps, audio=speech) as writer,
        ):
            for frame in frames:
                writer.write(frame)

    def save() -> None:
        with tempfile.TemporaryDirectory() as folder:
            result.save(Path(folder) / "out.mp4")

    def lay() -> None:
        for frame, edit in enumerate(edits):
            scene.close_up.whole(scene.draw(frame, faces[frame], edit))

    def feel() -> None:
        pipeline.expressions(scene.close_up.part).face(Feeling.of(**WISH))

    few = max(1, repeats // 2)
    table = {
        "read picture": milliseconds(lambda: read_image(face), repeats),
        "find face": milliseconds(lambda: pipeline.find(picture), repeats),
        "emotion edit": milliseconds(feel, repeats),
        "read sound": milliseconds(lambda: audio.read_audio(speech), repeats),
        "mfcc": milliseconds(lambda: audio.mfcc_windows(waveform.samples, fps), few),
        "audio2landmark": milliseconds(lambda: pipeline.network("audio2landmark").displacements(windows), few),
        "refinement per frame": milliseconds(lambda: pipeline._speak(network, faces, wanted), 2 * repeats, len(wanted)),
        "compose per frame": milliseconds(lay, 2 * repeats, len(wanted)),
        "encode per frame": milliseconds(encode, few, count),
        "all per frame, as a video": milliseconds(save, few, count),
    }
    pipeline.config, pipeline.half, pipeline._networks = PipelineConfig(half=False), False, {}
    network = pipeline.network("refinement")
    exact = [scene.draw(frame, faces[0], edit) for frame, edit in enumerate(pipeline._speak(network, faces, wanted))]
    usual = [scene.draw(frame, faces[0], edit) for frame, edit in enumerate(edits)]
    apart = np.abs(np.stack(exact).astype(int) - np.stack(usual))
    return {
        "milliseconds": table,
        "frames_per_second": 1e3 / table["all per frame, as a video"]["median"],
        "frames": count,
        "size": list(result.size),
        "changed_rectangle": [
            scene.close_up.columns.stop - scene.close_up.columns.start,
            scene.close_up.rows.stop - scene.close_up.rows.start,
        ],
        "eye_distance": landmarks.FACE_UNIT / float(np.sqrt(np.linalg.det(scene.close_up.photograph.crop[:, :2]))),
        "half_precision": {
            "used": half,
            "mean_grey_levels": float(apart.mean()),
            "largest_grey_levels": int(apart.max()),
        },
    }


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON object."""
    import torch

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = arguments.random or arguments.tiny
        weights = random_weights(folder, small=arguments.tiny) if given else arguments.weights
        speech = longer(arguments.speech, 1.0 if arguments.tiny else arguments.seconds, folder)
        first = cold(arguments.face, speech, weights, given=given)
        warm = stages(arguments.face, speech, weights, given=given, repeats=1 if arguments.tiny else 10)
    return {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "torch": torch.__version__,
            "opencv": cv2.__version__,
            "threads": torch.get_num_threads(),
        },
        "weights": "tiny" if arguments.tiny else "random" if arguments.random else str(arguments.weights or "shipped"),
        "cold_seconds": first,
        "warm": warm,
    }


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def show(facts: dict[str, Any]) -> None:
    """The table."""
    machine, first, warm = facts["machine"], facts["cold_seconds"], facts["warm"]
    print(f"{machine['processor']}, {machine['cores']} cores (load {machine['load']:.1f}), torch {machine['torch']}")
    print(f"weights: {facts['weights']}; {warm['frames']} frames of {warm['size'][0]}x{warm['size'][1]}, ", end="")
    print(f"{warm['eye_distance']:.0f} px between the eyes, {warm['changed_rectangle']} px recomputed\n")
    print("cold, a process of its own")
    for name in ("imports", "before_frames", "first_frame", "frames", "whole"):
        print(f"  {name:<28}{first[name]:9.2f} s")
    print(f"  {'processor time':<28}{first['processor']:9.2f} s, all cores and the encoder")
    print(f"  {'frames per second':<28}{first['frames_per_second']:9.1f}")
    print(f"  {'peak memory':<28}{first['peak_mib']:9.0f} MiB without the encoder\n")
    print(f"warm{'median':>31}{'lowest':>9}{'highest':>9}{'processor':>11}  ms")
    for name, row in warm["milliseconds"].items():
        print(f"  {name:<24}{row['median']:9.2f}{row['lowest']:9.2f}{row['highest']:9.2f}{row['processor']:11.2f}")
    print(f"\n{warm['frames_per_second']:.1f} frames per second; half precision ", end="")
    half = warm["half_precision"]
    print(
        f"{'used' if half['used'] else 'not used'}, apart from float32 by {half['mean_grey_levels']:.3f} grey levels ",
        end="",
    )
    print(f"in the mean, {half['largest_grey_levels']} at most")


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--face", type=Path, default=ASSETS / "sample_face.jpg")
    options.add_argument("--speech", type=Path, default=ASSETS / "sample_speech.flac")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--weights", type=Path)
    options.add_argument("--random", action="store_true", help="real sizes, random weights, given landmarks")
    options.add_argument("--tiny", action="store_true", help="test the bench itself")
    options.add_argument("--json", type=Path, help="write the numbers here, too")
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return options


def main(words: list[str] | None = None) -> dict[str, Any]:
    """Run, print, and return the numbers."""
    arguments = parser().parse_args(words)
    if arguments.child:
        facts: dict[str, Any] = child(arguments.face, arguments.speech, arguments.weights, given=arguments.random)
        print(json.dumps(facts))
        return facts
    facts = bench(arguments)
    show(facts)
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")
    return facts


if __name__ == "__main__":
    main()
