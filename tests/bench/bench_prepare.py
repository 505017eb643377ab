"""How fast recordings become training data: frames per second of one processor, and whether memory stays flat.

    python tests/bench/bench_prepare.py [--clips 6] [--seconds 4] [--side 1080] [--video FILE] [--json FILE]

The clips show the sample portrait, moving, with the sample speech; or `--video` is taken, as often as `--clips` says.
Processor time counts ffmpeg too, so that frames per processor second hold on a busy machine as well.
`--tiny` takes one short, small clip, to test the bench itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # emotalk, if not installed

ASSETS = Path(__file__).parents[2] / "emotalk" / "assets"
FPS = 25


def draw(path: Path, side: int, seconds: float) -> None:
    """The sample portrait in a `side` pixels high picture of 16:9, swaying, with the sample speech."""
    import cv2
    import numpy as np

    from emotalk.image import read_image
    from emotalk.video import VideoWriter

    photo = read_image(ASSETS / "sample_face.jpg")
    width, height = side * 16 // 9, side
    zoom = height / photo.shape[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, width, height, FPS, audio=ASSETS / "sample_speech.flac") as writer:
        for number in range(round(seconds * FPS)):
            shift = width / 2 - photo.shape[1] * zoom / 2 + 0.02 * width * np.sin(number / 9)
            matrix = np.array([[zoom, 0, shift], [0, zoom, 0.01 * height * np.sin(number / 7)]])
            writer.write(cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def processor_seconds() -> float:
    """Of this process and of the ffmpeg processes that have ended."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Prepare the clips one by one after a first one that warms up."""
    from emotalk.config import PrepareConfig
    from emotalk.corpora import scan
    from emotalk.prepare.run import Progress, detector, prepare

    first = folder / "corpus" / "s1" / "bbaf0n.mp4"
    first.parent.mkdir(parents=True)
    if options.video:
        shutil.copy(options.video, first)
    else:
        draw(first, options.side, options.seconds)
    letters = "abcdefghijklmnopqrstuvxyz"
    for number in range(1, options.clips):
        name = f"bba{letters[number // 10 % 25]}{number % 10 or 'z'}{'nps'[number // 250 % 3]}.mp4"
        (first.parent / name).symlink_to(first)
    seen: list[tuple[float, float, int, float]] = []  # wall, processor, frames, peak MiB after each clip

    def on_clip(progress: Progress) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seen.append((time.perf_counter(), processor_seconds(), progress.frames, peak))

    config = PrepareConfig(most_difference=60, longest=3600)
    result = prepare(
        scan(folder / "corpus"), folder / "out", config=config, jobs=1, landmarks="shipped", on_clip=on_clip
    )
    if result.quarantined:
        raise SystemExit(f"{result.quarantined} clips failed: {(folder / 'out' / 'report.txt').read_text()}")
    start, end = seen[0], seen[-1]
    frames = end[2] - start[2]
    return {
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "landmarks": detector("shipped"),
        "clips": len(seen),
        "frames": frames,
        "frames_per_second": round(frames / max(end[0] - start[0], 1e-6), 1),
        "frames_per_processor_second": round(frames / max(end[1] - start[1], 1e-6), 1),
        "peak_mib_first": round(start[3]),
        "peak_mib_last": round(end[3]),
        "megabytes_per_hour": round(
            sum(p.stat().st_size for p in (folder / "out").rglob("*.npz")) / 1e6 / result.hours
        ),
    }


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--side", type=int, default=1080)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(words)
    if options.tiny:
        options.clips, options.seconds, options.side = 2, 0.5, 192
    with tempfile.TemporaryDirectory() as folder:
        facts = measure(options, Path(folder))
    for name, value in facts.items():
        print(f"{name:28} {value}")
    if options.json:
        options.json.write_text(json.dumps(facts, indent=2) + "\n")
    return facts


if __name__ == "__main__":
    main()
