"""`emotalk evaluate` through the real program, with an evaluator that only pretends to look."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from emotalk.commands import app
from emotalk.evaluation import measure
from emotalk.evaluation.items import Item
from emotalk.evaluation.measure import NO_REFERENCE, Measured
from emotalk.metrics import METRICS, NOT_COMPUTED


class FakeEvaluator:
    """Measures every video whose name does not say `bad`."""

    made: tuple[object, ...] = ()

    def __init__(self, *words: object) -> None:
        FakeEvaluator.made = words
        self.landmarks = "shipped"

    def measure(self, item: Item, on_frame: Callable[[], object]) -> tuple[Measured, Measured | None]:
        on_frame()
        video = Measured(item, item.video, fps=25.0)
        if item.problem or "bad" in item.video.name:
            video.error = item.problem or f"{item.video} shows no face"
            return video, None
        video.facts = {"width": 64, "height": 48, "fps": 25.0, "frames": 5, "duration": 0.2, "read_at_fps": 25.0,
                       "background_against": "first frame"}  # fmt: skip
        video.values = {"jitter": 1.5, "sync_correlation": 0.5}
        video.curves = {"opening": np.linspace(0, 0.2, 5)}
        video.sheet = [np.full((8, 8, 3), 90, np.uint8)]
        if item.reference is None:
            video.lack(NO_REFERENCE, "psnr", "ssim")
            return video, None
        video.values |= {"psnr": 21.5, "ssim": 0.7}
        real = Measured(item, item.reference, {"jitter": 1.0}, facts=dict(video.facts), fps=25.0)
        return video, real


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(measure, "Evaluator", FakeEvaluator)
    monkeypatch.chdir(tmp_path)
    for name in ("a_sad3.mp4", "b_happy1.mp4", "bad.mp4", "real/a_sad3.mp4", "face.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"x")
    return tmp_path


def evaluate(*words: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", *words])


def test_the_table_names_every_metric_and_every_reason() -> None:
    result = evaluate("a_sad3.mp4", "--reference", "real/a_sad3.mp4")
    assert result.exit_code == 0, result.stderr
    for metric in METRICS.values():
        assert metric.title in result.stdout
    for title, why in NOT_COMPUTED.values():
        assert title in result.stdout
        assert why[:40] in result.stdout
    text = " ".join(result.stdout.split())
    assert re.search(r"PSNR, dB 21\.50 1 - 21\.79 higher", text)
    assert re.search(r"jitter, % of eye distance 1\.50 1 1\.00 near real", text)  # the real video beside it
    assert "86.26 (86.29)" in text and "EAT on MEAD" in text and "MEAD paper" in text
    assert "real: a_sad3.mp4" in text
    assert result.stderr == ""


def test_the_arguments_arrive() -> None:
    result = evaluate("a_sad3.mp4", "--landmarks", "shipped", "--device", "cpu", "--offline")
    assert result.exit_code == 0, result.stderr
    assert FakeEvaluator.made == ("shipped", "shipped", "cpu", True, None)


def test_json_is_one_object_of_the_documented_schema() -> None:
    result = evaluate("a_sad3.mp4", "b_happy1.mp4", "--reference", "real", "--json", "--quiet")
    assert result.exit_code == 1  # one has no reference
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert facts["format"] == "emotalk-evaluation/1"
    assert facts["total"]["jitter"] == {
        "mean": 1.5, "deviation": 0.0, "count": 2, "real": 1.0, "real_count": 1, "missing": None,
    }  # fmt: skip
    assert facts["total"]["psnr"]["missing"] == f"1 without: {NO_REFERENCE}"
    assert facts["videos"][0]["emotion"] == "sad" and facts["videos"][1]["intensity"] == 1.0
    assert facts["unmatched"] and facts["paper"]["fid"]["mean"] == 33.84
    manual = (Path(__file__).parent.parent / "man" / "emotalk-evaluate.1").read_text("utf-8").replace("\\-", "-")
    section = manual.split(".B --json", 1)[1].split(".TP")[0]
    assert all(key in section for key in (*facts, *facts["videos"][0], *facts["total"]["psnr"]))


def test_csv_has_a_row_for_every_file_and_is_not_overwritten_by_accident() -> None:
    result = evaluate("a_sad3.mp4", "bad.mp4", "--reference", "real", "--csv", "out.csv")
    assert result.exit_code == 1
    with Path("out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["video"], row["psnr"]) for row in rows] == [
        ("video", "a_sad3.mp4", "21.5"), ("video", "bad.mp4", ""), ("real", str(Path("real/a_sad3.mp4")), ""),
    ]  # fmt: skip
    assert "shows no face" in rows[1]["error"]
    again = evaluate("a_sad3.mp4", "--csv", "out.csv")
    assert again.exit_code == 3 and "add --overwrite" in again.stderr and again.stdout == ""
    assert evaluate("a_sad3.mp4", "--csv", "out.csv", "--overwrite").exit_code == 0


def test_a_broken_file_is_in_the_table_and_in_the_exit_code() -> None:
    result = evaluate("a_sad3.mp4", "bad.mp4")
    assert result.exit_code == 1
    assert "1 of 2 videos evaluated" in result.stdout and "bad.mp4: bad.mp4 shows no face" in result.stdout
    assert result.stderr == "emotalk: not evaluated: bad.mp4 shows no face\n"
    nothing = evaluate("bad.mp4")
    assert nothing.exit_code == 3 and "0 of 1 videos" in nothing.stdout


def test_names_without_partner_are_listed() -> None:
    result = evaluate("a_sad3.mp4", "b_happy1.mp4", "--reference", "real")
    assert result.exit_code == 1
    assert result.stderr == "emotalk: no reference has the name of b_happy1.mp4\n"


def test_a_manifest_says_everything() -> None:
    Path("batch.jsonl").write_text(json.dumps({"output": "a_sad3.mp4", "face": "face.jpg", "emotion": "fear"}) + "\n")
    facts = json.loads(evaluate("--manifest", "batch.jsonl", "--json").stdout)
    assert facts["videos"][0]["source"] == "face.jpg" and facts["videos"][0]["emotion"] == "fear"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "at least one video"),
        (["a_sad3.mp4", "--manifest", "x.csv"], 2, "give no videos"),
        (["a_sad3.mp4", "--benchmark", "x"], 2, "give no videos"),
        (["--benchmark", "x", "--manifest", "y"], 2, "say everything"),
        (["--benchmark", "x", "--study", "y"], 2, "generate them first"),
        (["--benchmark", "real"], 3, "holds no prepared corpus"),
        (["--manifest", "absent.csv"], 3, "does not exist"),
        (["a_sad3.mp4", "--emotion", "bored"], 3, "unknown emotion"),
        (["a_sad3.mp4", "--intensity", "7"], 3, "between 0"),
        (["a_sad3.mp4", "--weights", "nowhere"], 4, "no weights"),
        (["a_sad3.mp4", "--emotion-network", "absent.onnx"], 4, "cannot be read"),
        (["a_sad3.mp4", "--csv", "no/such/folder.csv"], 3, "does not exist"),
        (["a_sad3.mp4", "--csv", "real"], 3, "is a folder"),
    ],
)
def test_what_makes_no_sense_is_one_line(words: list[str], code: int, message: str) -> None:
    result = evaluate(*words)
    assert result.exit_code == code, result.stderr
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
