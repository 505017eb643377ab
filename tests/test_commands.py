"""`emotalk generate` through the real program, with a pipeline that only remembers what it was asked."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from test_start import README_COMMANDS
from typer.testing import CliRunner

from emotalk import __version__
from emotalk.commands import app
from emotalk.commands.generate import default_name
from emotalk.emotions import EMOTIONS, Emotion
from emotalk.errors import (
    AudioError,
    ConfigError,
    DeviceError,
    EmotalkError,
    FaceError,
    InputError,
    OutputError,
    UsageError,
    WeightsError,
)

KEYS = {
    "output", "face", "speech", "emotion", "intensity", "fps", "frames", "duration", "width", "height", "seconds",
}  # fmt: skip


@dataclass
class Fake:
    """Stands in for `emotalk.pipeline`; `error` is raised where the real one would fail."""

    made: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    error_while_saving: BaseException | None = None

    size: tuple[int, int] = (64, 48)
    fps: float = 25.0
    frame_count: int = 5
    duration: float = 0.2

    def pipeline(self, **options: Any) -> Fake:
        self.made = options
        return self

    def generate(self, face: Path, speech: Path, **options: Any) -> Fake:
        if self.error:
            raise self.error
        self.asked = {"face": face, "speech": speech, **options}
        return self

    def save(self, path: Path, overwrite: bool = False, on_frame: Callable[[int], object] | None = None) -> Path:
        for done in range(self.frame_count):
            assert on_frame is not None
            on_frame(done + 1)
            if self.error_while_saving:
                raise self.error_while_saving
        path.write_bytes(b"video")
        return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """The fake pipeline, and a folder to work in that holds face.jpg and speech.wav."""
    fake = Fake()
    module = ModuleType("emotalk.pipeline")
    module.Pipeline = fake.pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "emotalk.pipeline", module)
    monkeypatch.chdir(tmp_path)
    Path("face.jpg").write_bytes(b"picture")
    Path("speech.wav").write_bytes(b"sound")
    return fake


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def generate(*words: str) -> Any:
    return invoke("generate", "face.jpg", "speech.wav", *words)


def one_line(result: Any, code: int, message: str) -> None:
    """The result failed with `code`, nothing on stdout, one line on stderr that matches."""
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("emotalk: ") and result.stderr.count("\n") == 1, result.stderr
    assert re.search(message, result.stderr), result.stderr


def test_success_prints_the_path_and_nothing_else(fake: Fake) -> None:
    result = generate("-e", "sad", "-i", "3")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "face_speech_sad3.mp4\n"
    assert Path("face_speech_sad3.mp4").read_bytes() == b"video"
    assert "5 frames of 64x48" in result.stderr
    assert fake.asked == {
        "face": Path("face.jpg"), "speech": Path("speech.wav"), "emotion": Emotion.SAD, "intensity": 3.0, "fps": 25.0,
        "face_index": 1,
    }  # fmt: skip
    assert fake.made == {"device": "auto", "weights": "shipped", "landmarks": "auto", "offline": False, "seed": 0}


def test_every_option_arrives(fake: Fake) -> None:
    result = generate(
        *shlex.split("--emotion disgust --intensity 1.25 --fps 30 --face 2 --landmarks shipped --seed 7"),
        *shlex.split("--device cpu --weights shipped --offline --output out.MP4 --quiet"),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert fake.asked["emotion"] is Emotion.DISGUSTED
    assert (fake.asked["intensity"], fake.asked["fps"], fake.asked["face_index"]) == (1.25, 30.0, 2)
    assert fake.made == {"device": "cpu", "weights": "shipped", "landmarks": "shipped", "offline": True, "seed": 7}
    assert Path("out.MP4").exists()


def test_json_is_one_object_with_the_documented_keys(fake: Fake) -> None:
    result = generate("--json", "-e", "happy")
    facts = json.loads(result.stdout)
    assert set(facts) == KEYS
    assert facts["output"] == "face_speech_happy2.mp4"
    assert (facts["emotion"], facts["frames"], facts["width"], facts["height"]) == ("happy", 5, 64, 48)
    manual = (Path(__file__).parent.parent / "man" / "emotalk-generate.1").read_text("utf-8")
    section = manual.split("\\-\\-json", 1)[1].split(".TP")[0]
    assert all(key in section for key in KEYS)


@pytest.mark.parametrize(
    ("emotion", "intensity", "name"),
    [
        ("sad", 3.0, "a b_talk_sad3.mp4"),
        ("happy", 1.5, "a b_talk_happy1.5.mp4"),
        ("neutral", 2.0, "a b_talk_neutral.mp4"),
    ],
)
def test_the_default_name_says_what_is_inside(emotion: str, intensity: float, name: str) -> None:
    assert default_name(Path("x/a b.tar.png"), Path("/y/talk.wav"), Emotion(emotion), intensity) == name.replace(
        "a b", "a b.tar"
    )


def test_an_output_folder_gets_the_default_name(fake: Fake) -> None:
    Path("videos").mkdir()
    assert generate("-o", "videos").stdout == f"{Path('videos/face_speech_neutral.mp4')}\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-e", "hapy"], 3, "unknown emotion 'hapy'; did you mean happy.*" + ".*".join(e.value for e in EMOTIONS)),
        (["-i", "7"], 3, "intensity is 7; it must be between 0"),
        (["-i", "nan"], 3, "intensity is nan"),
        (["--fps", "0"], 3, "--fps is 0; it must be between 1 and 120"),
        (["--fps", "nan"], 3, "--fps is nan"),
        (["--face", "0"], 3, "--face is 0; 1 is the largest"),
        (["--device", "gpu"], 5, "unknown device 'gpu'"),
        (["--weights", "nowhere"], 4, "no weights 'nowhere'"),
        (["-o", "out.avi"], 2, "must end in .mp4"),
        (["-o", "no/out.mp4"], 3, "no does not exist"),
        (["-o", "face.jpg/out.mp4"], 3, "face.jpg is not a folder"),
        (["-o", "old.mp4"], 3, "old.mp4 exists; add --overwrite"),
        (["-o", "x" * 300 + ".mp4"], 3, "cannot write.*[Nn]ame too long"),
    ],
)
def test_wrong_options_are_one_line_before_anything_loads(
    fake: Fake, words: list[str], code: int, message: str
) -> None:
    Path("old.mp4").write_bytes(b"old")
    one_line(generate(*words), code, message)
    assert fake.made == {}
    assert sorted(p.name for p in Path().iterdir()) == ["face.jpg", "old.mp4", "speech.wav"]


@pytest.mark.parametrize(
    ("face", "speech", "message"),
    [
        ("none.jpg", "speech.wav", "the photograph none.jpg does not exist"),
        ("face.jpg", "none.wav", "the recording none.wav does not exist"),
        (".", "speech.wav", "the photograph . is a folder"),
        ("face.jpg", "empty", "the recording empty is empty"),
        ("x" * 300, "speech.wav", "cannot be opened"),
    ],
)
def test_wrong_inputs_are_one_line_before_anything_loads(fake: Fake, face: str, speech: str, message: str) -> None:
    Path("empty").touch()
    one_line(invoke("generate", face, speech), 3, message)
    assert fake.made == {}


def test_overwrite_replaces(fake: Fake) -> None:
    Path("old.mp4").write_bytes(b"old")
    assert generate("-o", "old.mp4", "--overwrite").exit_code == 0
    assert Path("old.mp4").read_bytes() == b"video"


def test_an_input_is_never_overwritten(fake: Fake) -> None:
    Path("talk.mp4").write_bytes(b"sound track")
    result = invoke("generate", "face.jpg", "talk.mp4", "-o", "./talk.mp4", "--overwrite")
    one_line(result, 3, "also an input")
    assert Path("talk.mp4").read_bytes() == b"sound track"


def test_a_closed_folder_is_named(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("closed").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "closed")  # root may write anywhere
    one_line(generate("-o", "closed/out.mp4"), 3, "no permission to write in closed")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EmotalkError("odd"), 1),
        (UsageError("odd"), 2),
        (ConfigError("odd"), 3),
        (InputError("odd"), 3),
        (FaceError("odd"), 3),
        (AudioError("odd"), 3),
        (OutputError("odd"), 3),
        (WeightsError("odd\nin two lines"), 4),
        (DeviceError("odd"), 5),
    ],
)
def test_each_known_error_has_its_code_and_is_one_line(fake: Fake, error: EmotalkError, code: int) -> None:
    fake.error = error
    one_line(generate(), code, "^emotalk: odd")
    fake.error, fake.error_while_saving = None, error
    one_line(generate(), code, "^emotalk: odd")


def test_ctrl_c_is_130_and_one_line(fake: Fake) -> None:
    fake.error_while_saving = KeyboardInterrupt()
    one_line(generate(), 130, "interrupted")


def test_memory_that_runs_out_is_5(fake: Fake) -> None:
    fake.error = MemoryError()
    one_line(generate(), 5, "out of memory")


@pytest.mark.parametrize("error", [ValueError("bug"), RuntimeError("bug"), TypeError("bug")])
def test_a_bug_keeps_its_traceback(fake: Fake, error: Exception) -> None:
    fake.error = error
    assert generate().exception is error


def test_unknown_options_are_usage_errors(fake: Fake) -> None:
    for words in (["--foo"], ["--landmarks", "magic"], ["-i", "much"], ["third.wav"]):
        result = generate(*words)
        assert result.exit_code == 2
        assert result.stdout == ""


def test_version() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize("name", [None, "generate"])
def test_help_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", 80)
    result = invoke(*([name] if name else []), "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("line", README_COMMANDS)
def test_the_readme_commands_are_accepted(
    fake: Fake, line: str, sample_face: Path, sample_speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "emotalk").mkdir()
    (tmp_path / "emotalk" / "assets").symlink_to(sample_face.parent)
    result = invoke(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.stderr
