"""Real recordings with real and made defects; work that is killed; a cluster that loses a machine."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from emotalk.data import Corpus
from emotalk.landmarks import FACE_UNIT

SHARED = Path(__file__).parents[3] / "shared"
ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "emotalk" / "assets" / "sample_speech.flac"
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")
GRID_CLIPS = 8
needs_clips = pytest.mark.skipif(not (SHARED / "clips" / "index.csv").is_file(), reason="no ../shared/clips")
needs_grid = pytest.mark.skipif(not (SHARED / "grid" / "clips").is_dir(), reason="no ../shared/grid")
pytestmark = pytest.mark.real


def emotalk(*words: str | Path, wait: bool = True) -> subprocess.Popen[str]:
    """The program, on its own; with `wait` until it ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EMOTALK_OFFLINE": "1"}
    command = [sys.executable, "-m", "emotalk", *map(str, words)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    if wait:
        process.output, process.errors = process.communicate()  # type: ignore[attr-defined]
    return process


def put(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    return target


def sound(target: Path, seconds: float) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    loop = ["-stream_loop", "-1", "-i", str(SPEECH), "-t", f"{seconds}", str(target)]
    subprocess.run([FFMPEG, "-y", "-v", "error", *loop], check=True)


def frames_of(clip: str) -> int:
    with (SHARED / "clips" / "index.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["file"] == clip)
    return int(row["frames"])


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def mead(tmp_path: Path) -> Path:
    """MEAD's layout from real clips, with folders between and the defects that its archives have."""
    root, clips = tmp_path / "MEAD", SHARED / "clips"
    put(clips / "mead_M003_disgusted_L1_av.mp4", root / "M003/video/video/front/disgusted/level_1/004.mp4")
    for emotion in EMOTIONS:
        name = f"mead_W009_{emotion}_L3.mp4"
        put(clips / name, root / f"W009/video/front/1/{emotion}/level_3/005.mp4")
        sound(root / f"W009/audio/{emotion}/level_3/005.m4a", frames_of(name) / 25)
    calm = clips / "mead_W009_neutral_L1.mp4"
    neutral = root / "W009/video/front/neutral"
    put(calm, neutral / "level_1/005.mp4")  # no sound
    put(calm, neutral / "level_1/006.mp4")
    sound(root / "W009/audio/neutral/level_1/006.m4a", frames_of(calm.name) / 25 + 1)
    put(calm, neutral / "level_2/007.mp4")
    put(calm, neutral / "level_1/008.mp4").write_bytes(b"")
    sound(root / "W009/audio/neutral/level_1/009.m4a", frames_of(calm.name) / 25)
    put(calm, neutral / "level_1/009.mp4").write_bytes(calm.read_bytes()[: calm.stat().st_size // 3])
    long = ["-f", "lavfi", "-i", "color=gray:s=64x64:r=1:d=14400", "-preset", "ultrafast"]
    subprocess.run([FFMPEG, "-v", "error", *long, str(neutral / "level_1/010.mp4")], check=True)
    (root / "M011/video/front").mkdir(parents=True)
    return root


@needs_clips
def test_real_mead_clips_and_its_known_defects(mead: Path, tmp_path: Path) -> None:
    done = emotalk("prepare", mead, tmp_path / "out", "--landmarks", "shipped", "--json")
    assert done.returncode == 1, done.errors  # type: ignore[attr-defined]
    facts = json.loads(done.output)  # type: ignore[attr-defined]
    assert facts["corpus"] == "mead" and facts["clips"] == 8
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        found = {Path(row["source"]).name: row["reason"] for row in csv.DictReader(file)}
    assert found.pop("009.mp4") in ("unreadable", "truncated")
    assert found == {
        "005.mp4": "no sound", "006.mp4": "length", "007.mp4": "label", "008.mp4": "empty", "010.mp4": "too long",
        "M011": "no video",
    }  # fmt: skip
    corpus = Corpus(tmp_path / "out")
    assert {row.emotion.value for row in corpus.rows if row.emotion and row.actor == "W009"} == set(EMOTIONS)
    for row in corpus.rows:
        with corpus.open(row) as clip:
            assert clip.valid.mean() > 0.98
            eyes = clip.landmarks[:, [36, 39, 42, 45]].reshape(-1, 2, 2, 2).mean(2)
            distance = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)
            assert np.median(distance) == pytest.approx(FACE_UNIT, rel=0.1)
            assert np.percentile(clip.opening, 95) > 0.1  # they talk
            assert len(clip.windows()) == clip.frames
            print(f"{row.clip}: {clip.frames} frames, mouth to {clip.opening.max():.2f}")


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A few GRID clips of development, as the corpus lies on disk."""
    with (SHARED / "grid" / "split.csv").open(newline="") as file:
        names = [row["clip"] for row in csv.DictReader(file) if row["split"] == "dev"][:GRID_CLIPS]
    for name in names:
        put(SHARED / "grid" / "clips" / f"{name}.mp4", tmp_path / "GRID" / "s1" / f"{name}.mp4")
    return tmp_path / "GRID"


@needs_grid
def test_killed_five_times_the_result_is_that_of_an_undisturbed_run(grid: Path, tmp_path: Path) -> None:
    words = ("--landmarks", "shipped", "--jobs", "2")
    begun = time.monotonic()
    assert emotalk("prepare", grid, tmp_path / "whole", *words).returncode == 0
    took = time.monotonic() - begun
    random_ = random.Random(0)
    for _ in range(5):
        process = emotalk("prepare", grid, tmp_path / "killed", *words, wait=False)
        time.sleep(took * random_.uniform(0.3, 0.8))
        process.kill()
        process.communicate()
        print(f"killed with {len(list((tmp_path / 'killed').rglob('*.npz')))} clips done")
    time.sleep(2)  # the processes it had notice that it is gone
    done = emotalk("prepare", grid, tmp_path / "killed", "--landmarks", "shipped", "--jobs", "1")
    assert done.returncode == 0, done.errors  # type: ignore[attr-defined]
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert len(Corpus(tmp_path / "whole").rows) == GRID_CLIPS


@needs_grid
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_a_cluster_that_loses_a_machine_gives_the_same_bytes(grid: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--block"]
    start += ["--object-store-memory=100000000"]
    port = random.Random().randrange(20_000, 30_000)
    machines = []
    try:
        for role in (["--head", f"--port={port}", "--include-dashboard=false"], [f"--address=127.0.0.1:{port}"]):
            machines.append(
                subprocess.Popen(
                    [*start, *role],
                    env=environment,
                    start_new_session=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            time.sleep(15)
        words = ("--landmarks", "shipped", "--cluster", f"127.0.0.1:{port}", "--json")
        process = emotalk("prepare", grid, tmp_path / "cluster", *words, wait=False)
        while process.poll() is None and len(list((tmp_path / "cluster").rglob("[!.]*.npz"))) < 3:
            time.sleep(0.2)
        assert process.poll() is None, process.communicate()[1]
        os.killpg(machines[1].pid, signal.SIGKILL)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert json.loads(output)["clips"] == GRID_CLIPS
    finally:
        for machine in machines:
            if machine.poll() is None:
                os.killpg(machine.pid, signal.SIGTERM)
                try:
                    machine.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(machine.pid, signal.SIGKILL)
    assert emotalk("prepare", grid, tmp_path / "local", "--landmarks", "shipped", "--jobs", "1").returncode == 0
    assert digests(tmp_path / "cluster") == digests(tmp_path / "local")


@needs_grid
def test_landmarks_of_prepared_clips_agree_with_their_annotation(grid: Path, tmp_path: Path) -> None:
    assert emotalk("prepare", grid, tmp_path / "out", "--landmarks", "shipped", "--limit", "4").returncode == 0
    with np.load(SHARED / "grid" / "landmarks.npz") as data:
        known = dict(zip(data["clips"].tolist(), zip(data["landmarks68"], data["valid"], strict=True), strict=True))
    errors = []
    for row in (corpus := Corpus(tmp_path / "out")).rows:
        points, seen = known[row.facts["sentence"]]
        with corpus.open(row) as clip:
            count = min(len(points), clip.frames)
            distance = np.linalg.norm(clip.source[:count] - points[:count].astype(np.float64), axis=2)[seen[:count]]
            errors.append(float(distance.mean() / float(row.facts["face_pixels"])))
    print(f"mean distance from the annotation: {100 * np.mean(errors):.1f} % of the distance of the eyes")
    assert np.mean(errors) < 0.08
