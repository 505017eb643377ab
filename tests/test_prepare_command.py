"""`emotalk prepare` through the real program, with work that only remembers what it was asked."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.rich_utils
from typer.testing import CliRunner

from emotalk.commands import app
from emotalk.data import COLUMNS
from emotalk.emotions import Emotion
from emotalk.prepare import run
from emotalk.prepare.clip import Outcome

MANUAL = (Path(__file__).parent.parent / "man" / "emotalk-prepare.1").read_text("utf-8").replace("\\-", "-")
KEYS = {
    "output", "corpus", "clips", "prepared", "kept", "quarantined", "reasons", "splits", "frames", "hours", "seconds",
}  # fmt: skip
DRY_KEYS = {
    "corpus", "clips", "splits", "counts", "with_sound_file", "missing", "rejected", "strangers", "left_out",
}  # fmt: skip


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, ["prepare", *words])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the work was asked; a folder MEAD with four clips to work in."""
    seen: dict[str, Any] = {"bad": 0}

    def fake(scanned: Any, output: Path, **options: Any) -> run.Result:
        seen.update(options, scanned=scanned, output=output)
        if options["on_clip"]:
            options["on_clip"](run.Progress(done=1, total=1, frames=5, seconds=1.0, outcome=Outcome("a", "", "", 5)))
        return run.Result(
            output=str(output), corpus=scanned.corpus, clips=4, prepared=3, kept=1, quarantined=seen["bad"],
            reasons={"no face": seen["bad"]} if seen["bad"] else {}, splits={"train": 4}, frames=100, hours=0.01,
            seconds=2.5,
        )  # fmt: skip

    monkeypatch.setattr(run, "prepare", fake)
    monkeypatch.chdir(tmp_path)
    for name in ("happy/level_1/001", "happy/level_2/001", "sad/level_3/020", "neutral/level_1/002"):
        path = Path(f"MEAD/M003/video/front/{name}.mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
    return seen


def one_line(result: Any, code: int, message: str) -> None:
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("emotalk: ") and result.stderr.count("\n") == 1, result.stderr
    assert re.search(message, result.stderr), result.stderr


def test_success_prints_the_folder(asked: dict[str, Any]) -> None:
    result = invoke("MEAD", "out")
    assert (result.exit_code, result.stdout) == (0, "out\n")
    assert "4 clips of a mead corpus recognised" in result.stderr
    assert "4 clips (1 from before), 100 frames" in result.stderr


def test_clips_in_quarantine_are_told_and_end_with_1(asked: dict[str, Any]) -> None:
    asked["bad"] = 2
    result = invoke("MEAD", "out")
    assert (result.exit_code, result.stdout) == (1, "out\n")
    assert "2 in quarantine: 2 no face; see out/report.txt" in result.stderr


def test_json_is_one_object_with_the_documented_keys(asked: dict[str, Any]) -> None:
    facts = json.loads(invoke("MEAD", "out", "--json").stdout)
    assert set(facts) == KEYS
    dry = json.loads(invoke("MEAD", "--dry-run", "--json").stdout)
    assert set(dry) == DRY_KEYS
    section = MANUAL.split("\n.B --json", 1)[1].split(".TP")[0]
    assert all(key in section for key in KEYS | DRY_KEYS)


def test_the_manual_knows_every_column_and_every_file() -> None:
    section = MANUAL.split(".SH FILES", 1)[1]
    assert all(re.search(rf"\b{name}\b", section) for name in COLUMNS)
    assert all(name in section for name in ("manifest.csv", "basis.npz", "quarantine.csv", "statistics.json"))


def test_every_option_arrives(asked: dict[str, Any]) -> None:
    result = invoke(
        "MEAD", "out",
        *shlex.split("--corpus mead --actors M003 --views front --emotions happy,sadness --levels 1,3 --limit 2"),
        *shlex.split("--fps 30 --size 128 --quality 80 --missing 20 --longest 60 --silent --landmarks shipped"),
        *shlex.split("--split identity --test-actors M003 --test-fraction 0.2 --dev-fraction 0.1 --seed 4"),
        *shlex.split("--jobs 3 --quiet"),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    wanted, rule, config = asked["wanted"], asked["rule"], asked["config"]
    assert (wanted.actors, wanted.views, wanted.levels, wanted.limit) == (("M003",), ("front",), ("1", "3"), 2)
    assert wanted.emotions == (Emotion.HAPPY, Emotion.SAD)
    assert (config.fps, config.size, config.quality, config.most_missing) == (30, 128, 80, 0.2)
    assert (config.longest, config.silent) == (60, True)
    assert (rule.kind, rule.test_actors, rule.test_fraction, rule.dev_fraction, rule.seed) == (
        "identity", ("M003",), 0.2, 0.1, 4,
    )  # fmt: skip
    assert (asked["jobs"], asked["landmarks"], asked["output"]) == (3, "shipped", Path("out"))


def test_a_dry_run_says_what_is_there_and_what_is_missing(asked: dict[str, Any]) -> None:
    Path("MEAD/M003/video/front/happy/level_1/M003_sad_1_007.mp4").write_bytes(b"video")
    result = invoke("MEAD", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith("mead: 4 clips (")
    assert re.search(r"actor +happy/1 happy/2 sad/3 neutral/1\nM003 +1 +1 +1 +1\n", result.stdout)
    assert "M003: no clips of angry, disgusted, contempt, fear, surprised" in result.stdout
    assert "M003 front happy level 2: 1 of 30 clips" in result.stdout
    assert "M003_sad_1_007.mp4: label, the path says emotion happy and sad" in result.stdout
    assert not Path("out").exists() and "output" not in asked


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("", 2, "give the folder with the recordings and the folder for the prepared"),
        ("MEAD", 2, "and the folder for the prepared corpus"),
        ("none out", 3, "none does not exist"),
        ("MEAD/M003/video/front/sad/level_3/020.mp4 out", 3, "is a file; give a folder"),
        ("MEAD out --corpus medd", 3, r"unknown corpus 'medd' .known: auto, mead"),
        ("MEAD out --emotions hapy", 3, "did you mean happy"),
        ("MEAD --dry-run --actors M004", 3, r"no clip has actor 'M004' .there are: M003"),
        ("MEAD out --fps 0", 3, "fps is 0"),
        ("MEAD out --size 7", 3, "size is 7"),
        ("MEAD out --missing 100", 3, "most_missing is 1"),
        ("MEAD out --limit 0", 3, "--limit is 0"),
        ("MEAD out --jobs 0", 3, "--jobs is 0"),
        ("MEAD out --split half", 3, "unknown split 'half'"),
        ("MEAD out --test-actors M003", 3, "needs the split identity"),
        ("MEAD out --jobs 2 --cluster auto", 2, "exclude each other"),
        ("MEAD out --rig kit", 2, "belong to --corpus puppet"),
        ("MEAD out --corpus puppet", 2, "puppets need --rig"),
        ("MEAD out --corpus puppet --rig none", 3, r"no face rig at .*none"),
        ("MEAD out --inspect", 2, "--inspect takes one folder"),
        ("MEAD --inspect", 3, r"MEAD holds no prepared corpus .about.json is missing"),
    ],
)
def test_wrong_words_are_one_line(asked: dict[str, Any], words: str, code: int, message: str) -> None:
    one_line(invoke(*shlex.split(words)), code, message)
    assert "output" not in asked


def test_a_cluster_without_ray_names_what_to_install(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    one_line(invoke("MEAD", "out", "--cluster", "auto"), 3, r"needs Ray; pip install 'emotalk\[cluster\]'")


def test_an_empty_corpus_is_one_line(asked: dict[str, Any]) -> None:
    Path("empty").mkdir()
    one_line(invoke("empty", "out"), 3, "empty holds no video")


def test_help_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", 80)
    result = invoke("--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
