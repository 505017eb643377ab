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

import numpy as np
import pytest
import typer
from test_start import README_COMMANDS
from typer.testing import CliRunner

from emotalk import __version__
from emotalk.commands import app
from emotalk.commands.generate import wish_name
from emotalk.commands.interpolate_intensity import label
from emotalk.conditions import Feeling
from emotalk.emotions import EMOTIONS, Emotion, parse_wish
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
from emotalk.image import read_image
from emotalk.tracks import read_track

KEYS = {
    "output", "face", "speech", "emotion", "lower_emotion", "intensity", "track", "fps", "frames", "duration", "width",
    "height", "seconds",
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

    def compare(self, face: Path, speech: Path, feelings: Any, labels: Any, **options: Any) -> Fake:
        return self.generate(face, speech, feelings=feelings, labels=labels, **options)

    def emotional_faces(self, face: Path, feelings: Any, **options: Any) -> Any:
        return iter([np.zeros((48, 64, 3), np.uint8)] * len(feelings))

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
        "face": Path("face.jpg"), "speech": Path("speech.wav"), "emotion": {Emotion.SAD: 1.0}, "intensity": 3.0,
        "lower_emotion": None, "track": None, "still": False, "fps": 25.0, "face_index": 1,
    }  # fmt: skip
    assert fake.made == {"device": "auto", "weights": "shipped", "landmarks": "auto", "offline": False, "seed": 0}


def test_every_option_arrives(fake: Fake) -> None:
    result = generate(
        *shlex.split("--emotion disgust --intensity 1.25 --fps 30 --face 2 --landmarks shipped --seed 7 --still"),
        *shlex.split("--device cpu --weights shipped --offline --output out.MP4 --quiet"),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert fake.asked["emotion"] == {Emotion.DISGUSTED: 1.0}
    assert fake.asked["still"] is True
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
    ("emotion", "intensity", "lower", "name"),
    [
        ("sad", 3.0, None, "sad3"),
        ("happy", 1.5, "happy", "happy1.5"),
        ("neutral", 2.0, None, "neutral"),
        ("neutral", 2.0, "sad", "neutral-over-sad2"),
        ("happy=3,surprised=2", 2.0, None, "happy60-surprised40_2"),
    ],
)
def test_the_default_name_says_what_is_inside(emotion: str, intensity: float, lower: str | None, name: str) -> None:
    assert wish_name(parse_wish(emotion), intensity, None if lower is None else parse_wish(lower)) == name


def test_a_blend_is_named_and_scaled_aloud(fake: Fake) -> None:
    result = generate("-e", "happy=3,surprised=2", "--json")
    assert fake.asked["emotion"] == pytest.approx({Emotion.HAPPY: 0.6, Emotion.SURPRISED: 0.4})
    assert "sum to 5; taken as happy=0.6,surprised=0.4" in result.stderr
    facts = json.loads(result.stdout)
    assert facts["emotion"] == "happy=0.6,surprised=0.4"
    assert facts["output"] == "face_speech_happy60-surprised40_2.mp4"
    assert "sum to" not in generate("-e", "happy=0.6,surprised=0.4", "--overwrite").stderr


def test_upper_and_lower_face(fake: Fake) -> None:
    facts = json.loads(generate("--upper-emotion", "sad", "--lower-emotion", "happy", "--json").stdout)
    assert (facts["emotion"], facts["lower_emotion"]) == ("sad", "happy")
    assert fake.asked["lower_emotion"] == {Emotion.HAPPY: 1.0}
    assert facts["output"] == "face_speech_sad-over-happy2.mp4"
    generate("-e", "angry", "--lower-emotion", "happy", "-o", "a.mp4")
    assert (fake.asked["emotion"], fake.asked["lower_emotion"]) == ({Emotion.ANGRY: 1.0}, {Emotion.HAPPY: 1.0})
    generate("-e", "angry", "--upper-emotion", "happy", "-o", "b.mp4")
    assert (fake.asked["emotion"], fake.asked["lower_emotion"]) == ({Emotion.HAPPY: 1.0}, {Emotion.ANGRY: 1.0})


def test_a_track_says_what_is_felt(fake: Fake) -> None:
    Path("mood.csv").write_text("time,emotion,intensity\n0,sad,1\n2,happy,3\n")
    facts = json.loads(generate("--track", "mood.csv", "--json").stdout)
    assert (facts["emotion"], facts["intensity"], facts["track"]) == (None, None, "mood.csv")
    assert facts["output"] == "face_speech_mood.mp4"
    assert [key.time for key in fake.asked["track"].keys] == [0, 2]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--track", "mood.csv", "-e", "sad"], 2, "--track says what is felt"),
        (["--track", "mood.csv", "-i", "3"], 2, "--track says what is felt"),
        (["--track", "mood.csv", "--lower-emotion", "sad"], 2, "--track says what is felt"),
        (["--track", "none.csv"], 3, "the track none.csv does not exist"),
        (["--track", "bad.csv"], 3, "bad.csv, row 2: time 1 is not after 2"),
        (["--upper-emotion", "hapy"], 3, "did you mean happy"),
        (["-e", "happy=0,sad=0"], 3, "all zero"),
        (["-e", "happy=x"], 3, "weight of happy is 'x'"),
    ],
)
def test_wrong_feelings_are_one_line_before_anything_loads(
    fake: Fake, words: list[str], code: int, message: str
) -> None:
    Path("mood.csv").write_text("0,sad,1\n")
    Path("bad.csv").write_text("2,sad,1\n1,sad,2\n")
    one_line(generate(*words), code, message)
    assert fake.made == {}


def interpolate(*words: str) -> Any:
    return invoke("interpolate-intensity", "face.jpg", "speech.wav", *words)


RAMP_KEYS = {
    "output", "face", "speech", "emotion", "from", "to", "to_emotion", "ease", "layout", "track", "width", "height",
    "frames", "duration", "fps", "seconds",
}  # fmt: skip


def test_a_ramp_is_asked_for(fake: Fake) -> None:
    result = interpolate("--json", "-e", "angry", "--from", "3", "--to-emotion", "sad", "--to", "2", "--ease", "smooth")
    facts = json.loads(result.stdout)
    assert set(facts) == RAMP_KEYS
    assert facts["output"] == "face_speech_angry3-sad2.mp4"
    ramp = fake.asked["track"]
    assert (ramp.start, ramp.end) == (Feeling.of("angry", 3), Feeling.of("sad", 2))
    assert ramp.ease.value == facts["ease"] == "smooth"
    manual = (Path(__file__).parent.parent / "man" / "emotalk-interpolate-intensity.1").read_text("utf-8")
    section = manual.split("\\-\\-json", 1)[1].split(".TP")[0]
    assert all(key in section for key in RAMP_KEYS)
    assert interpolate().stdout == "face_speech_happy0-3.mp4\n"


def test_a_grid_has_the_levels_side_by_side(fake: Fake) -> None:
    assert interpolate("--layout", "grid", "--steps", "3", "--still").exit_code == 0
    assert [level.intensity for level in fake.asked["feelings"]] == [0, 1.5, 3]
    assert fake.asked["labels"] == ["neutral", "happy 1.5", "happy 3"]
    assert fake.asked["still"] is True


def test_a_strip_is_a_picture(fake: Fake) -> None:
    result = interpolate("--layout", "frames", "--from", "2", "--to", "2", "--json")
    facts = json.loads(result.stdout)
    assert (facts["output"], facts["frames"], facts["duration"]) == ("face_speech_happy2-2.png", 4, None)
    assert read_image("face_speech_happy2-2.png").shape == (facts["height"], facts["width"], 3)
    assert interpolate("--layout", "frames", "-o", "strip.jpg").exit_code == 0


def test_the_ramp_is_written_as_a_track(fake: Fake, sample_speech: Path) -> None:
    result = invoke("interpolate-intensity", "face.jpg", str(sample_speech), "--write-track", "mood.csv", "-o", "a.mp4")
    assert result.exit_code == 0, result.stderr
    assert [key.feeling.intensity for key in read_track("mood.csv").keys] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--from", "-1"], 3, "intensity is -1"),
        (["--to", "4"], 3, "intensity is 4"),
        (["--to-emotion", "hapy"], 3, "did you mean happy"),
        (["--steps", "1"], 3, "--steps is 1; it must be between 2 and 16"),
        (["--steps", "1000"], 3, "--steps is 1000"),
        (["--layout", "frames", "-o", "out.mp4"], 2, "must end in .png or .jpg"),
        (["--layout", "grid", "-o", "out.png"], 2, "must end in .mp4"),
        (["--write-track", "mood.txt"], 2, "must end in .csv or .json"),
        (["--write-track", "old.csv"], 3, "old.csv exists"),
        (["--write-track", "no/mood.csv"], 3, "no does not exist"),
        (["--fps", "0"], 3, "--fps is 0"),
    ],
)
def test_wrong_ramps_are_one_line_before_anything_loads(fake: Fake, words: list[str], code: int, message: str) -> None:
    Path("old.csv").write_text("0,sad,1\n")
    one_line(interpolate(*words), code, message)
    assert fake.made == {}
    assert sorted(p.name for p in Path().iterdir()) == ["face.jpg", "old.csv", "speech.wav"]


def test_labels() -> None:
    assert label(Feeling.of("happy", 1.25)) == "happy 1.25"
    assert label(Feeling.of("happy=0.5,sad=0.5", 2)) == "happy 50% sad 50% 2"
    assert label(Feeling.of("happy", 0)) == "neutral"


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


@pytest.mark.parametrize("name", [None, "generate", "interpolate-intensity"])
def test_help_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", 80)
    result = invoke(*([name] if name else []), "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


# What evaluates needs a real video of a line above it; the real test of the page runs all lines in a row.
@pytest.mark.parametrize("line", [line for line in README_COMMANDS if not line.startswith("emotalk evaluate")])
def test_the_readme_commands_are_accepted(
    fake: Fake, line: str, sample_face: Path, sample_speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "emotalk").mkdir()
    (tmp_path / "emotalk" / "assets").symlink_to(sample_face.parent)
    result = invoke(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.stderr
