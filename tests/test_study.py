"""The user study: what the page knows, what a participant's file becomes, and a browser that takes it once."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from emotalk.commands import app
from emotalk.errors import ConfigError, InputError, OutputError
from emotalk.evaluation.items import Item
from emotalk.study import (
    CAPTURED,
    GENERATED,
    Share,
    evaluate_study,
    fleiss_kappa,
    make_study,
    read_answers,
    tables,
    triples,
)
from emotalk.video import VideoWriter


def film(path: Path, sound: Path | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, 64, 48, 25, sound) as writer:
        for level in range(5):
            writer.write(np.full((48, 64, 3), 40 * level, np.uint8))
    return path


@pytest.fixture
def items(tmp_path: Path, sample_speech: Path) -> list[Item]:
    """Sad at three intensities, generated and captured; the captured ones have sound."""
    return [
        Item(
            film(tmp_path / "ours" / f"anna_sad{level}.mp4"),
            film(tmp_path / "real" / f"anna_sad{level}.mp4", sample_speech),
            Path("anna.jpg"), None, "sad", float(level),
        )
        for level in (1, 2, 3)
    ]  # fmt: skip


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="study">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_the_page_does_not_give_the_answers_away(items: list[Item], tmp_path: Path) -> None:
    page, problems = make_study(items, tmp_path / "study")
    assert not problems
    data = data_of(page)
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    assert data["id"] == key["study"]
    assert len(data["category"]) == 6 and set(data["category"]) == set(key["clips"]) == set(data["real"])
    assert len(data["sounding"]) == 3
    assert {p.name for p in page.parent.rglob("*") if p.is_file()} == {
        "index.html", *(f"{name}.mp4" for name in key["clips"]),
    }  # fmt: skip
    text = page.read_text("utf-8")
    assert "anna" not in text and "captured" not in text and "http" not in text
    levels = [[key["clips"][name]["intensity"] for name in triple] for triple in data["order"]]
    assert levels == [[1, 2, 3], [1, 2, 3]]


def test_what_cannot_be_shown_is_named(items: list[Item], tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"x")
    more = [Item(tmp_path / "bad.mp4", emotion="fear"), Item(tmp_path / "wish.mp4"), Item(Path("m"), problem="line 3")]
    _, problems = make_study([*items, *more], tmp_path / "study")
    assert len(problems) == 3 and any("no single emotion" in line for line in problems)
    with pytest.raises(OutputError, match="not empty"):
        make_study(items, tmp_path / "study")
    with pytest.raises(ConfigError, match="known emotion"):
        make_study(more[1:], tmp_path / "other")
    with pytest.raises(InputError, match="none of the 1 videos"):
        make_study(more[:1], tmp_path / "third")


def clip(kind: str, emotion: str, intensity: float | None = None, person: str = "anna") -> dict[str, Any]:
    return {"kind": kind, "emotion": emotion, "intensity": intensity, "person": person, "sound": True}


CLIPS = {
    "a": clip(GENERATED, "sad", 1.0), "b": clip(GENERATED, "sad", 2.0), "c": clip(GENERATED, "sad", 3.0),
    "d": clip(CAPTURED, "happy", 2.0), "e": clip(GENERATED, "sad", 2.5), "f": clip(GENERATED, "sad", 1.0, "joe"),
}  # fmt: skip


def test_triples_are_of_one_person_kind_and_emotion() -> None:
    assert triples(CLIPS) == [["a", "b", "c"]]


def answer(test: str, said: object, rater: str = "x", **more: object) -> dict[str, object]:
    return {"test": test, "answer": said, "rater": rater, **more}


def test_tables_by_hand() -> None:
    answers = [
        answer("category", "sad", clip="a", sound=False),
        answer("category", "sad", "y", clip="a", sound=False),
        answer("category", "fear", "z", clip="a", sound=False),
        answer("category", "happy", clip="d", sound=True),
        answer("order", ["a", "b", "c"]),
        answer("order", ["b", "a", "c"], "y"),
        answer("order", ["c", "a", "b"], "z"),
        answer("order", ["c", "b", "a"], "w"),
        answer("real", "recording", clip="d"),
        answer("real", "computer", clip="a"),
    ]
    result = evaluate_study(CLIPS, answers)
    assert result.raters == 4
    assert result.accuracy[GENERATED, False, "sad"] == Share(2, 3)
    assert result.accuracy[CAPTURED, True, "happy"] == Share(1, 1)
    assert result.mean_accuracy(GENERATED, True).count == 0
    found = {way: result.orders[GENERATED, way].hits for _, way in result.orders if True}
    assert found == {"right": 1, "weak-medium": 1, "medium-strong": 0, "weak-strong": 1, "all wrong": 1}
    assert result.taken_for_real == {CAPTURED: Share(1, 1), GENERATED: Share(0, 1)}
    text = tables(result)
    assert "0.67 [0.21-0.94] of 3" in text and "0.93 / 0.85" in text and "0.13 / 0.35" in text
    json.dumps(result.as_facts(), allow_nan=False)


def test_wilson_intervals_are_the_published_ones() -> None:
    low, high = Share(81, 263).interval  # Newcombe 1998, table I, method 3: 0.2553 to 0.3662
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert Share(0, 0).interval == (0.0, 1.0) and math.isnan(Share(0, 0).value)
    assert Share(0, 20).interval == (0.0, pytest.approx(0.1611, abs=1e-4))


def test_kappa_is_that_of_fleiss() -> None:
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)  # the worked example of the encyclopedias
    assert fleiss_kappa([[3, 0], [0, 3]]) == 1
    assert math.isnan(fleiss_kappa([[1, 0]])) and math.isnan(fleiss_kappa([[3, 0]]))


def test_files_that_are_no_answers_are_named(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(json.dumps({"study": "s", "clips": CLIPS}))
    box = tmp_path / "answers"
    box.mkdir()

    def write(name: str, study: str = "s", rater: str = "x", **more: object) -> None:
        given = [answer("category", "sad", clip="a", sound=False, **more), answer("category", "sad", clip="unknown")]
        said = {"format": "emotalk-study-answers/1", "study": study, "rater": rater, "answers": [*given, None]}
        (box / name).write_text(json.dumps(said))

    write("1.json")
    write("2.json", study="other", rater="y")
    write("3.json")
    (box / "4.json").write_text("[]")
    _, usable, problems = read_answers(tmp_path, [box, tmp_path / "absent.json"])
    assert len(usable) == 1 and usable[0]["rater"] == "x"
    text = "\n".join(problems)
    assert "1 answers name unknown" in text and "another study" in text and "repeats" in text
    assert "4.json holds no answers" in text and "absent.json holds no answers" in text
    with pytest.raises(InputError, match=r"no key\.json"):
        read_answers(box, [box])
    result = CliRunner().invoke(app, ["evaluate", "--study", str(tmp_path), "--study-results", str(box), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["accuracy"]["generated"]["silent"]["sad"]["hits"] == 1
    assert CliRunner().invoke(app, ["evaluate", "--study-results", str(box)]).exit_code == 2


def test_the_command_makes_the_page(items: list[Item], tmp_path: Path) -> None:
    words = ["evaluate", str(tmp_path / "ours"), "-r", str(tmp_path / "real"), "--study", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "out" / "page" / "index.html")
    assert "key.json stays with you" in result.stderr
    assert len(data_of(tmp_path / "out" / "page" / "index.html")["order"]) == 2


@pytest.mark.real
def test_a_browser_takes_the_study_once(items: list[Item], tmp_path: Path) -> None:
    """By the keys alone; its file becomes the tables that its answers imply."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    page, _ = make_study(items, tmp_path / "study")
    robot = """<script>
    const press = key => dispatchEvent(new KeyboardEvent("keydown", {key}));
    press("Enter");
    press("7"); press("Backspace");  // one answer taken back
    for (let i = 0; i < 9; i++) press("6");  // sad, six silent and three with sound
    for (let i = 0; i < 2; i++) for (const id of study.order.find(t => t.includes(questions[place].clips[0])))
      press(String(questions[place].clips.indexOf(id) + 1));
    for (let i = 0; i < 6; i++) press("2");  // made by a computer
    </script></body>"""
    page.write_text(page.read_text("utf-8").replace("</body>", robot), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([browser, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<textarea[^>]*>(.*?)</textarea>", done.stdout, re.S)
    assert found is not None, done.stdout[-800:]
    file = tmp_path / "answers.json"
    file.write_text(found[1].replace("&amp;", "&"), "utf-8")
    clips, answers, problems = read_answers(tmp_path / "study", [file])
    assert not problems and len(answers) == 17
    assert all(one["seconds"] >= 0 for one in answers)
    result = evaluate_study(clips, answers)
    assert result.accuracy[GENERATED, False, "sad"] == Share(3, 3)
    assert result.accuracy[CAPTURED, True, "sad"] == Share(3, 3)
    assert result.orders[GENERATED, "right"] == result.orders[CAPTURED, "right"] == Share(1, 1)
    assert result.taken_for_real[CAPTURED] == Share(0, 3)
