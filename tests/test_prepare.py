"""Clips become training data or are told what is wrong with them; interrupted work ends as undisturbed work does."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import soundfile
import torch
from threadpoolctl import threadpool_limits
from tiny_rig import face_points

from emotalk.audio import SAMPLE_RATE, mfcc_windows
from emotalk.config import PrepareConfig
from emotalk.corpora import Filter, SplitRule, scan
from emotalk.data import COLUMNS, ClipReader, Corpus
from emotalk.emotions import Emotion
from emotalk.errors import ConfigError, InputError, OutputError
from emotalk.face import Face, bounding_box
from emotalk.landmarks import CROP_SIZE, EYE_LINE, FACE_UNIT, Basis, mouth_opening, transform_points
from emotalk.prepare import cluster, run, workers
from emotalk.prepare.clip import Outcome, Task
from emotalk.prepare.page import bars, inspect, plot
from emotalk.prepare.summary import Covariance
from emotalk.video import VideoWriter

FPS = 25.0
SIZE = 96
UNIT = 24.0  # pixels between the eyes
DARK, ALONE, TWO, TINY = 0, 100, 200, 150  # brightness of a frame says what the finder sees in it


def landmarks_at(x: float, opening: float = 0.0, unit: float = UNIT) -> np.ndarray:
    points = face_points()
    points[[65, 66, 67], 1] += opening
    return points * unit + (x, 40)


class Finder:
    """Sees a face where the first pixel's red is, as far right as green says, its mouth as open as blue says."""

    def face(self, frame: np.ndarray) -> list[Face]:
        kind, green, blue = frame[:8, :8].reshape(-1, 3).mean(0)
        if kind < 50:
            return []
        points = landmarks_at(48 + (green - 100) / 10, blue / 255, 6.0 if abs(kind - TINY) < 25 else UNIT)
        return [Face(points, bounding_box(points), 1.0)] * (2 if kind > 180 else 1)

    def find(self, image: np.ndarray) -> list[Face]:
        return self.face(image)

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[Face | None]:
        for frame in frames:
            yield next(iter(self.face(frame)), None)


def speech(path: Path, seconds: float, seed: int = 0) -> Path:
    """Noise in syllables."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    noise = np.random.default_rng(seed).standard_normal(count)
    soundfile.write(path, 0.1 * noise * np.clip(np.sin(time * 12), 0, None), SAMPLE_RATE)
    return path


def video(path: Path, seconds: float = 1.0, kind: int = ALONE, sound: Path | None = None, dark: int = 0) -> Path:
    """Flat frames that tell the finder what to see: a face that moves right and opens its mouth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, SIZE, SIZE, FPS, audio=sound) as writer:
        for number in range(round(seconds * FPS)):
            shown = DARK if number < dark else kind
            blue = round(60 * max(0.0, np.sin(number / 3)))
            writer.write(np.full((SIZE, SIZE, 3), (shown, 100 + number, 60 + blue), np.uint8))
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of each kind, with its sound; tests copy them where they want them."""
    folder = tmp_path_factory.mktemp("media")
    second = speech(folder / "1.wav", 1.0)
    video(folder / "good.mp4", sound=second)
    video(folder / "silent.mp4")
    video(folder / "long.mp4", 3.0, sound=speech(folder / "3.wav", 3.0))
    video(folder / "two.mp4", kind=TWO, sound=second)
    video(folder / "tiny.mp4", kind=TINY, sound=second)
    video(folder / "gaps.mp4", dark=2, sound=second)
    video(folder / "dark.mp4", dark=12, sound=second)
    return folder


@pytest.fixture(autouse=True)
def fake_finder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_finder", Finder())


def put(media: Path, name: str, *places: Path) -> None:
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(media / name, place)


@pytest.fixture
def root(tmp_path: Path, media: Path) -> Path:
    """A RAVDESS corpus of two people: 4 clips of each that are fine."""
    folder = tmp_path / "corpus"
    for actor in (1, 2):
        for number in range(2):
            for emotion in (3, 4):
                name = f"01-01-{emotion:02d}-02-{number + 1:02d}-01-{actor:02d}.mp4"
                put(media, "good.mp4", folder / f"Actor_{actor:02d}" / name)
    return folder


def prepared(root: Path, output: Path, **options: object) -> run.Result:
    return run.prepare(scan(root), output, jobs=1, landmarks="shipped", **options)  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_clip_has_its_row_and_its_arrays(root: Path, tmp_path: Path) -> None:
    result = prepared(root, tmp_path / "out")
    assert (result.clips, result.prepared, result.kept, result.quarantined) == (8, 8, 0, 0)
    assert result.frames == 8 * 25
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(COLUMNS)
    assert [row["clip"] for row in table] == sorted(row["clip"] for row in table)
    first = table[0]
    assert (first["actor"], first["emotion"], first["intensity"], first["frames"]) == ("01", "happy", "3", "25")
    assert float(first["face_pixels"]) == pytest.approx(UNIT, abs=0.2)
    assert all((tmp_path / "out" / row["file"]).is_file() for row in table)

    corpus = Corpus(tmp_path / "out")
    assert len(corpus.rows) == 8
    assert {row.actor for row in corpus.select(actors=["02"])} == {"02"}
    assert {row.emotion for row in corpus.select(emotions=[Emotion.SAD])} == {Emotion.SAD}
    with corpus.open(corpus.rows[0]) as clip:
        assert clip.frames == 25 and clip.valid.all()
        assert clip.landmarks.shape == (25, 68, 2) and clip.motion.shape == (25, 37, 2)
        assert clip.samples.shape == (SAMPLE_RATE,) and clip.samples.dtype == np.int16
        assert clip.frame(3).shape == (256, 256, 3)
        assert clip.heatmap(3).max() > 0.3
        # BLAS sums on as many threads as there are cores here, on one while preparing: the last digits differ
        assert np.allclose(clip.windows(), mfcc_windows(clip.samples.astype(np.float32) / 32768, FPS), atol=1e-4)


def test_landmarks_crops_and_transforms_agree(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path / "out", wanted=Filter(limit=1))
    corpus = Corpus(tmp_path / "out")
    with corpus.open(corpus.rows[0]) as clip:
        for number in (0, 12, 24):
            mapped = transform_points(clip.transform[number], clip.source[number])
            assert np.abs(mapped - clip.landmarks[number]).max() < 0.01
            eyes = clip.landmarks[number, [36, 39, 42, 45]]
            assert np.linalg.norm(eyes[:2].mean(0) - eyes[2:].mean(0)) == pytest.approx(FACE_UNIT, rel=0.03)
            assert eyes[:, 1].mean() == pytest.approx(EYE_LINE, abs=2)
            assert eyes[:, 0].mean() == pytest.approx(CROP_SIZE / 2, abs=2)
        assert clip.opening == pytest.approx(mouth_opening(clip.landmarks) / FACE_UNIT)
        assert np.ptp(clip.motion[:, -3:, 1]) > 0.1  # the mouth moves


def test_a_frame_is_read_without_its_clip(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(root, tmp_path / "out", wanted=Filter(limit=1))
    clip = ClipReader(next((tmp_path / "out" / "clips").rglob("*.npz")))
    whole, offsets = clip._data["crops"], clip._offsets
    for number in (0, 7, 24):
        expected = cv2.imdecode(whole[offsets[number] : offsets[number + 1]], cv2.IMREAD_COLOR)[..., ::-1]
        assert np.array_equal(clip.frame(number), expected)


def test_another_size_and_rate(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path / "out", wanted=Filter(limit=1), config=PrepareConfig(fps=10, size=64))
    corpus = Corpus(tmp_path / "out")
    with corpus.open(corpus.rows[0]) as clip:
        assert clip.frames == 10
        assert clip.frame(0).shape == (64, 64, 3)
        assert clip.landmarks[:, [36, 45], 1].mean() == pytest.approx(EYE_LINE, abs=2)  # always of 256 pixels
        assert len(clip.windows()) == 10


def test_each_defect_has_its_reason(tmp_path: Path, media: Path) -> None:
    root = tmp_path / "corpus"
    front = root / "M003" / "video" / "front"

    def place(number: int) -> Path:
        return front / "sad" / "level_1" / f"{number:03d}.mp4"

    put(media, "good.mp4", place(1), place(4), front / "angry" / "level_1" / "M003_front_sad_level1_009.mp4")
    put(media, "silent.mp4", place(2), place(3))
    put(media, "two.mp4", place(5))
    put(media, "dark.mp4", place(6))
    put(media, "gaps.mp4", place(7))
    put(media, "long.mp4", place(8))
    put(media, "tiny.mp4", place(10))
    put(media, "long.mp4", place(11))
    place(12).write_bytes(b"")
    place(13).write_bytes(b"no video" * 100)
    speech(root / "M003" / "audio" / "sad" / "level_1" / "003.m4a".replace("m4a", "wav"), 1.0)
    speech(root / "M003" / "audio" / "sad" / "level_1" / "004.wav", 2.0)
    whole = place(11).read_bytes()  # faststart: the index is at the beginning, the end of the data is lost
    place(11).write_bytes(whole[: len(whole) // 2])
    (root / "W011").mkdir()
    result = prepared(root, tmp_path / "out", config=PrepareConfig(longest=2.5))
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        found = {row["source"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(file)}
    assert found == {
        "002.mp4": "no sound", "004.mp4": "length", "005.mp4": "two faces", "006.mp4": "no face",
        "008.mp4": "too long", "010.mp4": "small face", "011.mp4": "too long", "012.mp4": "empty",
        "013.mp4": "unreadable", "M003_front_sad_level1_009.mp4": "label", "W011": "no video",
    }  # fmt: skip
    assert result.clips == 3 and result.quarantined == len(found)
    text = (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert "12 of 25 frames (48 %) show no face" in text
    assert "the sound lasts 2.00 s, the picture 1.00 s" in text
    assert str(tmp_path) not in text

    again = prepared(root, tmp_path / "again")
    assert again.reasons["truncated"] == 1
    assert "too long" not in again.reasons


def test_frames_without_a_face_are_marked_and_bridged(tmp_path: Path, media: Path) -> None:
    put(media, "gaps.mp4", tmp_path / "corpus" / "s1" / "bbaf2n.mp4")
    prepared(tmp_path / "corpus", tmp_path / "out")
    corpus = Corpus(tmp_path / "out")
    with corpus.open(corpus.rows[0]) as clip:
        assert clip.valid.tolist() == [False] * 2 + [True] * 23
        assert np.isfinite(clip.landmarks).all() and np.isfinite(clip.motion).all()
        assert clip.frame(2).any()
        with pytest.raises(InputError, match=r"frame 1 .* shows no face"):
            clip.frame(1)
    assert corpus.rows[0].facts["valid_frames"] == "23"


def test_clips_without_sound_are_taken_on_request(tmp_path: Path, media: Path) -> None:
    put(media, "silent.mp4", tmp_path / "corpus" / "s1" / "bbaf2n.mp4")
    with pytest.raises(InputError, match=r"no clip .* can be used \(1 no sound\)"):
        prepared(tmp_path / "corpus", tmp_path / "out")
    result = prepared(tmp_path / "corpus", tmp_path / "out", config=PrepareConfig(silent=True))
    assert result.clips == 1 and result.quarantined == 0
    corpus = Corpus(tmp_path / "out")
    with corpus.open(corpus.rows[0]) as clip:
        assert len(clip.samples) == len(clip.mfcc) == 0
        with pytest.raises(InputError, match="no sound"):
            clip.windows()


def test_names_that_are_no_text_are_prepared(tmp_path: Path, media: Path) -> None:
    folder = tmp_path / "corpus" / "M003" / "video" / "front" / "sad" / "level_1"
    put(media, "good.mp4", folder / "001\n.mp4", folder / os.fsdecode(b"002\xff.mp4"), folder / "-003.mp4")
    result = prepared(tmp_path / "corpus", tmp_path / "out")
    assert result.clips == 3, (tmp_path / "out" / "report.txt").read_text("utf-8")
    sources = {row.facts["source"].rpartition("/")[2] for row in Corpus(tmp_path / "out").rows}
    assert sources == {"001\\n.mp4", "002\\xff.mp4", "-003.mp4"}


def test_a_second_run_keeps_everything_and_changes_nothing(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path / "out")
    before = digests(tmp_path / "out")
    result = prepared(root, tmp_path / "out")
    assert (result.prepared, result.kept) == (0, 8)
    assert digests(tmp_path / "out") == before


def test_interrupted_work_ends_as_undisturbed_work(root: Path, tmp_path: Path, media: Path) -> None:
    put(media, "silent.mp4", root / "Actor_01" / "01-01-05-02-01-01-01.mp4")
    prepared(root, tmp_path / "whole")

    class Killed(Exception):
        pass

    for stop in (1, 4, 2):

        def on_clip(progress: run.Progress, stop: int = stop) -> None:
            if progress.done == stop:
                raise Killed

        with pytest.raises(Killed):
            prepared(root, tmp_path / "parts", on_clip=on_clip)
        folder = tmp_path / "parts" / "clips" / "01"
        (folder / ".0123.part.npz").write_bytes(b"half")  # what a killed program leaves
    damaged = next((tmp_path / "parts" / "clips" / "01").glob("01*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    result = prepared(root, tmp_path / "parts")
    assert result.kept == 6 and result.clips == 8
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_order_of_the_work_does_not_matter(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path / "one")
    prepared(root, tmp_path / "other", runner=lambda tasks: workers.run_here(list(reversed(tasks))))
    assert digests(tmp_path / "one") == digests(tmp_path / "other")


def test_threads_of_the_machine_do_not_matter(root: Path, tmp_path: Path) -> None:
    for threads in (1, 2):
        with threadpool_limits(threads):
            prepared(root, tmp_path / str(threads), wanted=Filter(limit=2))
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_a_repaired_source_is_prepared_again(root: Path, tmp_path: Path, media: Path) -> None:
    bad = root / "Actor_01" / "01-01-05-02-01-01-01.mp4"
    bad.write_bytes(b"broken")
    assert prepared(root, tmp_path / "out").quarantined == 1
    put(media, "good.mp4", bad)
    result = prepared(root, tmp_path / "out")
    assert (result.prepared, result.kept, result.quarantined) == (1, 8, 0)
    assert not list((tmp_path / "out" / "quarantine").rglob("*.json"))


def test_other_settings_need_another_folder(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path / "out", wanted=Filter(limit=1))
    with pytest.raises(ConfigError, match=r"made with fps 25.0, not 30"):
        prepared(root, tmp_path / "out", config=PrepareConfig(fps=30))
    with pytest.raises(OutputError, match="is the corpus itself"):
        prepared(root, root)
    with pytest.raises(OutputError, match="holds other files"):
        prepared(root, root / "Actor_01")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        prepared(root, tmp_path / "file")


def test_a_full_disk_stops_the_work_in_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
        prepared(root, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_the_split_is_written_and_clean(root: Path, tmp_path: Path) -> None:
    result = prepared(root, tmp_path / "out", rule=SplitRule(kind="identity", seed=3))
    assert result.splits == {"train": 4, "dev": 0, "test": 4}
    rows = Corpus(tmp_path / "out").rows
    assert len({row.actor for row in rows if row.split == "test"}) == 1
    first = prepared(root, tmp_path / "some", wanted=Filter(actors=("02",)))
    whole = prepared(root, tmp_path / "all")
    assert first.clips == 4 and whole.clips == 8
    sides = {row.clip: row.split for row in Corpus(tmp_path / "all").rows}
    assert all(sides[row.clip] == row.split for row in Corpus(tmp_path / "some").rows)  # a filter moves nobody


def test_the_basis_is_that_of_all_training_frames_at_once(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path / "out")
    corpus = Corpus(tmp_path / "out")
    rows = []
    for row in corpus.select("train"):
        with corpus.open(row) as clip:
            rows.append(clip.motion[clip.valid])
    whole = Basis.fit(np.concatenate(rows), 20)
    basis = corpus.basis()
    strong = whole.scale > 1e-4
    assert strong.any()
    assert basis.scale[strong] == pytest.approx(whole.scale[strong], rel=1e-3)
    assert np.abs((basis.components * whole.components).sum(1))[strong] == pytest.approx(1, abs=1e-3)
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text("utf-8"))
    assert statistics["explained_variance"][-1] == pytest.approx(1, abs=0.01)
    assert set(statistics["versions"]) >= {"emotalk", "numpy", "torch", "opencv", "ffmpeg"}


def test_covariance_in_parts_is_covariance_at_once() -> None:
    motion = np.random.default_rng(0).normal(0.3, 0.1, (300, 37, 2)).astype(np.float32)
    parts, whole = Covariance(), Covariance()
    whole.add(motion)
    for part in np.array_split(motion, 7):
        parts.add(part)
    for name, values in whole.basis(5).items():
        assert parts.basis(5)[name] == pytest.approx(values, abs=1e-4), name


def test_the_stream_of_rows_resumes(root: Path, tmp_path: Path) -> None:
    prepared(root, tmp_path / "out")
    corpus = Corpus(tmp_path / "out")
    stream = corpus.stream("train", seed=1)
    names = [next(stream).clip for _ in range(50)]
    later = corpus.stream("train", seed=1, start=20)
    assert [next(later).clip for _ in range(30)] == names[20:]
    size = len(corpus.select("train"))
    assert len(set(names[:size])) == size
    assert names[:size] != names[size : 2 * size]
    with pytest.raises(InputError, match="no clips for nowhere"):
        next(corpus.stream("nowhere", seed=0))


def test_a_folder_that_is_no_corpus_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"about.json is missing"):
        Corpus(tmp_path)


def die_on_sad(task: Task) -> Outcome:
    """Runs in another process."""
    if "-04-" in task.clip.name:
        os._exit(9)
    return Outcome(task.clip.name, "", "", 1)


def test_a_process_that_dies_takes_only_its_own_clip(root: Path, tmp_path: Path) -> None:
    clips = scan(root).clips[1::2]
    config = PrepareConfig()
    tasks = [Task(clip=c, root=str(root), output=str(tmp_path / "out"), config=config, landmarks="x") for c in clips]
    outcomes = list(workers.run_processes(tasks, 2, die_on_sad))
    assert sorted(o.name for o in outcomes) == [c.name for c in clips]
    assert all((o.reason == "crash") == ("-04-" in o.name) for o in outcomes)
    assert 0 < sum(o.reason == "crash" for o in outcomes) < len(outcomes)


def test_the_page_shows_the_corpus_without_any_other_file(root: Path, tmp_path: Path, media: Path) -> None:
    (root / "Actor_01" / "01-01-05-02-01-01-01.mp4").write_bytes(b"<b>broken</b>")
    prepared(root, tmp_path / "out")
    page = inspect(tmp_path / "out").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 3  # happy, sad, landmarks
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "01-01-05-02-01-01-01.mp4" in page and "<b>broken" not in page
    assert page.count("<svg") == 3 and "4 clips" in page
    ElementTree.fromstring(re.search(r"<svg.*?</svg>", page, re.S)[0])  # type: ignore[index]


def test_plots_of_nothing_say_so() -> None:
    assert "no data" in plot([], "x", "y", "title") and "no data" in bars([], "title")
    assert "nan" not in plot([(0.0, 0.0)], "x", "y", "title")


class RemoteError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__("a page of traceback")
        self.cause = cause


class LostError(Exception):
    pass


def fake_ray() -> ModuleType:
    """Ray on this machine: runs what it is given when the result is asked for, last first."""
    ray = ModuleType("ray")
    ray.exceptions = SimpleNamespace(  # type: ignore[attr-defined]
        RayTaskError=RemoteError, WorkerCrashedError=LostError, NodeDiedError=LostError, OutOfMemoryError=LostError
    )

    def remote(**options: object) -> Callable[..., Any]:
        assert options["max_retries"] == 3
        return lambda function: SimpleNamespace(remote=lambda task: lambda: function(task))

    def init(address: str, **options: object) -> None:
        if address == "nowhere":
            raise ConnectionError("no answer\nin time")

    ray.remote, ray.init = remote, init  # type: ignore[attr-defined]
    ray.wait = lambda references, num_returns: (references[-1:], references[:-1])  # type: ignore[attr-defined]
    ray.get = lambda reference: reference()  # type: ignore[attr-defined]
    ray.cluster_resources = lambda: {"CPU": 2.0}  # type: ignore[attr-defined]
    ray.shutdown = lambda: None  # type: ignore[attr-defined]
    return ray


def test_a_cluster_gives_the_same_bytes_and_its_losses_are_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, media: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", fake_ray())
    monkeypatch.setattr(cluster, "check_cluster", lambda: None)
    monkeypatch.setattr(cluster, "one_thread", lambda: None)
    prepared(root, tmp_path / "here")
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:  # as `one_thread` does for good in a process of its own
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        with threadpool_limits(1):
            prepared(root, tmp_path / "there", runner=lambda tasks: cluster.run_cluster(tasks, "auto"))
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    assert digests(tmp_path / "here") == digests(tmp_path / "there")

    def lose(task: Task) -> Outcome:
        if "-04-" in task.clip.name:
            raise LostError
        return workers.work(task)

    result = prepared(root, tmp_path / "lost", runner=lambda tasks: cluster.run_cluster(tasks, "auto", lose))
    assert result.clips == 4 and result.reasons == {"crash": 4}

    def fail(task: Task) -> Outcome:
        raise RemoteError(OutputError("the disk is full"))

    with pytest.raises(OutputError, match="the disk is full"):
        prepared(root, tmp_path / "full", runner=lambda tasks: cluster.run_cluster(tasks, "auto", fail))
    with pytest.raises(InputError, match=r"no Ray cluster at nowhere \(no answer in time\)"):
        list(cluster.run_cluster([], "nowhere"))
