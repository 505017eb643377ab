"""The test side of a prepared corpus is generated and set beside its own recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotalk.data import Row
from emotalk.emotions import EMOTIONS, Emotion
from emotalk.errors import FaceError, InputError
from emotalk.evaluation.benchmark import choose, make_benchmark
from emotalk.image import read_image
from emotalk.video import probe, read_frames


def row(name: str, emotion: Emotion | None = Emotion.SAD, level: float | None = 2.0, **more: Any) -> Row:
    facts = {"fps": "25", "view": "front", "clip": name}
    split, actor = more.get("split", "test"), more.get("actor", "M003")
    return Row(name, f"clips/{name}.npz", actor, emotion, level, split, 10, facts)


class FakeClip:
    """Ten frames, brighter with time; the mouth is most closed in frame 4; frame 0 shows no face."""

    path = Path("x.npz")
    frames = 10

    def __init__(self, silent: bool) -> None:
        self.samples = np.zeros(0 if silent else 6400, np.int16) + np.int16(50)
        self.valid = np.arange(10) > 0
        self.opening = np.abs(np.arange(10) - 4) / 10

    def frame(self, index: int) -> np.ndarray:
        assert self.valid[index]
        return np.full((64, 64, 3), 20 * index, np.uint8)

    def __enter__(self) -> FakeClip:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class FakeCorpus:
    rows: list[Row]
    folder: Path = Path("prepared")

    def select(self, split: str | None = None, emotions: Any = (), actors: Any = ()) -> list[Row]:
        return [
            r
            for r in self.rows
            if split in (None, r.split)
            and (not emotions or r.emotion in emotions)
            and (not actors or r.actor in actors)
        ]

    def open(self, row: Row) -> FakeClip:
        return FakeClip("silent" in row.clip)


@dataclass
class FakePipeline:
    asked: list[dict[str, Any]] = field(default_factory=list)

    def generate(self, face: Path, speech: Any, **options: Any) -> FakePipeline:
        if options["emotion"] is Emotion.FEAR:
            raise FaceError("no face found")
        self.asked.append({"face": face, "speech": speech, **options})
        return self

    def save(self, path: Path, overwrite: bool) -> None:
        path.write_bytes(b"video")


def test_clips_are_chosen_over_emotions_and_intensities() -> None:
    rows = [
        row(f"{emotion.value}{level}{take}", emotion, float(level))
        for emotion in EMOTIONS for level in (1, 2, 3) for take in range(5)
    ]  # fmt: skip
    chosen = choose([*rows, row("unknown", None)])
    assert len(chosen) == 8 * 6
    sad = [one.intensity for one in chosen if one.emotion is Emotion.SAD]
    assert sad == [1, 2, 3, 1, 2, 3]
    assert len(choose([row("a"), row("b", actor="W009")])) == 2


def test_everything_is_set_beside_its_recording(tmp_path: Path) -> None:
    corpus = FakeCorpus([
        row("a"), row("b", level=None), row("silent"), row("afraid", Emotion.FEAR), row("trained", split="train"),
        row("calm", Emotion.NEUTRAL, 1.0, split="train"), row("lonely", actor="W009"),
    ])  # fmt: skip
    pipeline = FakePipeline()
    told: list[tuple[str, int, int]] = []
    plan = make_benchmark(corpus, tmp_path, pipeline, lambda *words: told.append(words))  # type: ignore[arg-type]
    found = {item.video.stem: item for item in plan.items}
    assert set(found) == {"a", "b", "silent", "afraid", "lonely"} and len(told) == 5
    assert "no sound to speak" in str(found["silent"].problem) and "no face found" in str(found["afraid"].problem)
    a = found["a"]
    assert (a.emotion, a.intensity, a.problem) == ("sad", 2.0, None) and found["b"].intensity == 2.0
    assert a.source == tmp_path / "M003_front_neutral.png" == found["b"].source
    assert read_image(a.source).mean() == 80  # the most closed mouth
    assert found["lonely"].source == tmp_path / "lonely.png"  # no neutral picture of that actor
    assert a.reference is not None
    info = probe(a.reference)
    assert info.has_sound and (info.width, info.height, info.fps) == (64, 64, 25)
    brightness = [frame.mean() for frame in read_frames(a.reference)]
    assert len(brightness) == 10 and abs(brightness[0] - brightness[1]) < 2 < brightness[5]
    assert pipeline.asked[0]["speech"][1] == 16_000 and pipeline.asked[0]["fps"] == 25
    assert not list(tmp_path.glob("*.wav"))


def test_a_corpus_without_a_test_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clips for test"):
        make_benchmark(FakeCorpus([row("a", split="train")]), tmp_path, FakePipeline())  # type: ignore[arg-type]
