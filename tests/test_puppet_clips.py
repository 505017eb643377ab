"""Puppets on disk look like people on disk, with the truth about every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from tiny_rig import Person, landmarks_of, paint, save_corpus

from emotalk.audio import SAMPLE_RATE, read_audio
from emotalk.config import PrepareConfig
from emotalk.corpora import Filter, scan
from emotalk.data import Corpus
from emotalk.emotions import Emotion
from emotalk.errors import ConfigError, InputError
from emotalk.face import Face, bounding_box
from emotalk.landmarks import FACE_UNIT, LOWER_FACE
from emotalk.prepare import run, workers
from emotalk.prepare.export import export_mead
from emotalk.prepare.puppets import PuppetRule, scan_portraits
from emotalk.synth.rig import Rig
from emotalk.video import read_frames

SHORT = PrepareConfig(fps=5)


class Finder:
    """Knows where the drawn faces are."""

    def __init__(self, known: dict[tuple[int, ...], np.ndarray]) -> None:
        self.known = known

    def find(self, image: np.ndarray) -> list[Face]:
        points = self.known.get(image.shape[:2])
        return [] if points is None else [Face(points, bounding_box(points), 1.0)]

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[Face | None]:
        raise AssertionError("a portrait is no video")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny rig, a talking clip with its sound, and two portraits and a picture without a face."""
    folder = save_corpus(tmp_path_factory.mktemp("data"), [Person("a.png")])
    (folder / "grid" / "clips").mkdir()
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE * 2) * 0.1
    soundfile.write(folder / "grid" / "clips" / "aaa1a.wav", noise, SAMPLE_RATE)
    return folder


@pytest.fixture
def portraits(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "portraits"
    folder.mkdir()
    rig = Rig.load(data / "facekit")
    known: dict[tuple[int, ...], np.ndarray] = {}
    for number, name in enumerate(("anna", "bert")):
        points = landmarks_of(rig, Person(name, who=(0.5 * number, 0, 0)), 1.25 + 0.05 * number)
        size = 320 + 10 * number
        known[size, size] = points
        cv2.imwrite(str(folder / f"{name}.png"), paint(points, number, size)[..., ::-1])
    cv2.imwrite(str(folder / "wall.png"), np.full((100, 100, 3), 128, np.uint8))
    monkeypatch.setattr(workers, "_finder", Finder(known))
    return folder


def drawn(portraits: Path, output: Path, rule: PuppetRule, **wanted: object) -> run.Result:
    return run.prepare(
        scan_portraits(portraits, rule), output, puppet=rule, config=SHORT, jobs=1, landmarks="shipped",
        wanted=Filter(**wanted),  # type: ignore[arg-type]
    )  # fmt: skip


def test_one_clip_for_each_emotion_and_level(data: Path, portraits: Path) -> None:
    found = scan_portraits(portraits, PuppetRule(rig=str(data / "facekit"), takes=2))
    assert len(found.clips) == 3 * 2 * 22
    assert {clip.labels.actor for clip in found.clips} == {"anna", "bert", "wall"}
    assert {clip.labels.sentence for clip in found.clips} == {"babble"}


def test_puppets_have_the_format_of_people_and_the_truth_besides(data: Path, portraits: Path, tmp_path: Path) -> None:
    rule = PuppetRule(rig=str(data / "facekit"), speech=str(data / "grid"))
    result = drawn(portraits, tmp_path / "out", rule, emotions=(Emotion.HAPPY, Emotion.SAD), levels=("3",))
    assert result.clips == 4 and result.reasons == {"no face": 2}
    corpus = Corpus(tmp_path / "out")
    assert {row.facts["sentence"] for row in corpus.rows} == {"aaa1a"}  # the other clip is for the test
    assert {row.split for row in corpus.rows if row.actor == "anna"} != {
        row.split for row in corpus.rows if row.actor == "bert"
    }
    happy = next(row for row in corpus.rows if row.emotion is Emotion.HAPPY)
    sad = next(row for row in corpus.rows if row.emotion is Emotion.SAD and row.actor == happy.actor)
    assert float(happy.facts["mouthSmile_L"]) > 0.3 > float(sad.facts["mouthSmile_L"])
    with corpus.open(happy) as clip:
        names = clip.about["weight_names"]
        assert clip.weights.shape == (clip.frames, len(names))
        assert np.ptp(clip.weights[:, names.index("jawOpen")]) > 0.05
        assert clip.samples.any() and len(clip.windows()) == clip.frames
        assert clip.valid.all() and clip.frame(0).shape == (256, 256, 3)
        still = clip.weights[:, names.index("jawOpen")].argmin()
        assert np.abs(clip.motion[still]).max() < np.abs(clip.motion).max() / 2
        moved = (clip.landmarks[:, LOWER_FACE] - clip.landmarks[still, LOWER_FACE]) / FACE_UNIT
        assert np.abs(moved - (clip.motion - clip.motion[still])).max() < 0.05


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(data: Path, portraits: Path, tmp_path: Path) -> None:
    kit = str(data / "facekit")
    some = {"actors": ("anna",), "emotions": (Emotion.FEAR,), "levels": ("2",)}
    files = []
    for number, seed in enumerate((1, 1, 2)):
        drawn(portraits, tmp_path / str(number), PuppetRule(rig=kit, seed=seed), **some)
        files.append(next((tmp_path / str(number) / "clips").rglob("*.npz")).read_bytes())
    assert files[0] == files[1] != files[2]


def test_videos_in_mead_s_layout_are_read_as_mead(data: Path, portraits: Path, tmp_path: Path) -> None:
    rule = PuppetRule(rig=str(data / "facekit"), speech=str(data / "grid"))
    drawn(portraits, tmp_path / "out", rule, actors=("anna", "bert"), emotions=(Emotion.SAD,), levels=("1", "2"))
    assert export_mead(tmp_path / "out", tmp_path / "videos") == 4
    found = scan(tmp_path / "videos")
    assert found.corpus == "mead"
    assert [clip.name for clip in found.clips] == [f"M00{a}_front_sad_{level}_001" for a in (1, 2) for level in (1, 2)]
    assert all(clip.sound and clip.sound.endswith(".m4a") for clip in found.clips)
    first = tmp_path / "videos" / found.clips[0].video
    corpus = Corpus(tmp_path / "out")
    with corpus.open(corpus.rows[0]) as clip:
        frames = list(read_frames(first))
        assert len(frames) == clip.frames
        assert np.abs(frames[3].astype(int) - clip.frame(3)).mean() < 4
        assert read_audio(tmp_path / "videos" / str(found.clips[0].sound)).duration == pytest.approx(
            len(clip.samples) / SAMPLE_RATE, abs=0.1
        )


def test_what_is_missing_is_one_line(data: Path, portraits: Path, tmp_path: Path) -> None:
    kit = str(data / "facekit")
    with pytest.raises(InputError, match="no face rig"):
        scan_portraits(portraits, PuppetRule(rig=str(tmp_path)))
    with pytest.raises(InputError, match="holds no pictures"):
        scan_portraits(data / "grid", PuppetRule(rig=kit))
    with pytest.raises(InputError, match="no talking clips at"):
        scan_portraits(portraits, PuppetRule(rig=kit, speech=str(tmp_path)))
    with pytest.raises(ConfigError, match="takes is 0"):
        PuppetRule(rig=kit, takes=0)
