"""Tracks: what is read is what was meant, what lies between is continuous, what is wrong is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotalk.conditions import Feeling
from emotalk.emotions import Emotion, condition_vector
from emotalk.errors import ConfigError, InputError, OutputError
from emotalk.tracks import Ease, Key, Ramp, Track, read_track, write_track

HAPPY, SAD = Feeling.of("happy", 3), Feeling.of("sad", 2)


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "track.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "time,emotion,intensity,ease\n0,happy,0,\n2.5,\"happy=0.6,sad=0.4\",3,smooth\n4,sad,1\n",
        "0, happy, 0\n2.5, happy=0.6;sad=0.4, 3, smooth\n\n# a note\n4, unhappy, 1, linear\n",
        "ease,intensity,emotion,time\n,0,joy,0\nsmooth,3,happy=0.6+sad=0.4,2.5\nlinear,1,sad,4\n",
        json.dumps([
            {"time": 0, "emotion": "happy", "intensity": 0},
            {"time": 2.5, "emotion": {"happy": 3, "sad": 2}, "intensity": 3, "ease": "smooth"},
            {"time": 4.0, "emotion": "sad", "intensity": 1, "ease": "linear"},
        ]),
    ],
)  # fmt: skip
def test_the_same_track_in_all_its_forms(tmp_path: Path, text: str) -> None:
    keys = read_track(csv_file(tmp_path, text)).keys
    assert [key.time for key in keys] == [0, 2.5, 4]
    assert [key.feeling.intensity for key in keys] == [0, 3, 1]
    assert [key.ease for key in keys] == [Ease.LINEAR, Ease.SMOOTH, Ease.LINEAR]
    assert keys[1].feeling.weights == pytest.approx({Emotion.HAPPY: 0.6, Emotion.SAD: 0.4})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# only a note\n", "is empty"),
        ("time,emotion,intensity\n", "is empty"),
        ("[]", "is empty"),
        ("time,emotion,intensity\n0,happy,1\n0,sad,2\n", "row 3: time 0 is not after 0"),
        ("0,happy,1\n2,sad,2\n1,sad,2\n", "row 3: time 1 is not after 2"),
        ("-1,happy,1\n", "row 1: time is -1; the recording begins at 0"),
        ("0,hapy,1\n", "row 1: unknown emotion 'hapy'; did you mean happy"),
        ("0,happy,7\n", "row 1: intensity is 7"),
        ("0,happy,nan\n", "row 1: intensity is nan"),
        ("nan,happy,1\n", "row 1: time is nan"),
        ("inf,happy,1\n", "row 1: time is inf"),
        ("soon,happy,1\n", "row 1: time is 'soon'; it must be a number"),
        ("0,happy\n", "row 1: intensity is missing"),
        ("0,happy,1,linear,4\n", "row 1: 5 cells"),
        ("0,happy=0.6,sad=0.4,1\n", "row 1: intensity is 'sad=0.4'"),
        ("0,happy,1,fast\n", "row 1: ease is 'fast'"),
        ("time,mood,intensity\n0,happy,1\n", "row 1: unknown column 'mood'"),
        ("time,time,intensity\n0,happy,1\n", "row 1: a column is named twice"),
        ("time,emotion\n0,happy\n", "row 2: intensity is missing"),
        ("[{", "no valid JSON"),
        ("[1]", "list of objects"),
        ('{"keys": 3}', "list of objects"),
        ('[{"time": 0, "emotion": 3, "intensity": 1}]', "row 1: emotion is 3"),
        ('[{"time": true, "emotion": "sad", "intensity": 1}]', "row 1: time is True"),
        ('[{"time": 0, "emotion": {"sad": 0}, "intensity": 1}]', "row 1: the emotion weights are all zero"),
        ('[{"time": 0, "emotion": {}, "intensity": 1}]', "row 1: the emotion weights are all zero"),
        ('[{"time": NaN, "emotion": "sad", "intensity": 1}]', "row 1: time is nan"),
        ('[{"time": 0, "emotion": "sad", "level": 1}]', "row 1: unknown column 'level'"),
    ],
)
def test_bad_tracks_are_one_line_with_the_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_track(csv_file(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "track.csv" in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    for name, message in (("none.csv", "does not exist"), (".", "folder"), ("binary", "no text")):
        with pytest.raises(InputError, match=message):
            read_track(tmp_path / name)
    with pytest.raises(InputError, match="empty"):
        Track([])


def test_after_the_end() -> None:
    track = Ramp(HAPPY, SAD).over(5)
    assert track.over(5) is track
    track.over(4.97)
    with pytest.raises(InputError, match=r"row 2 of the track: 5 s is after the end \(4.80 s\)"):
        track.over(4.8)


def test_nothing_changes_before_the_first_and_after_the_last_key() -> None:
    track = Track([Key(1, HAPPY), Key(3, SAD)])
    assert track.feeling_at(0) is track.feeling_at(1) is HAPPY
    assert track.feeling_at(3) is track.feeling_at(9) is SAD
    assert Track.constant(SAD).feeling_at(2) is SAD


def test_an_intensity_ramp_is_straight_and_whole_levels_are_whole() -> None:
    track = Ramp(Feeling.of("happy", 0), HAPPY).over(6)
    for level in range(4):
        assert track.feeling_at(2 * level).intensity == pytest.approx(level)
        np.testing.assert_allclose(track.condition_at(2 * level), condition_vector(Emotion.HAPPY, level), atol=1e-6)
    smooth = Ramp(Feeling.of("happy", 0), HAPPY, Ease.SMOOTH).over(6)
    levels = [smooth.feeling_at(t).intensity for t in np.linspace(0, 6, 61)]
    assert (np.diff(levels) > 0).all()
    assert levels[30] == pytest.approx(1.5)
    assert levels[3] < 0.1 * 0.5 * 3


def test_from_and_to_neutral_the_emotion_itself_fades() -> None:
    for track in (Ramp(Feeling.of("neutral", 2), HAPPY).over(2), Ramp(HAPPY, Feeling.of("neutral", 2)).over(2)):
        middle = track.feeling_at(1)
        assert dict(middle.weights) == {Emotion.HAPPY: 1.0}
        assert middle.intensity == pytest.approx(1.5)


def test_from_one_emotion_to_another() -> None:
    middle = Ramp(HAPPY, SAD).over(2).feeling_at(0.5)
    assert middle.weights == pytest.approx({Emotion.HAPPY: 0.75, Emotion.SAD: 0.25})
    assert middle.intensity == pytest.approx(2.75)


@given(st.floats(0, 4), st.floats(0, 0.01), st.sampled_from(Ease))
def test_tracks_do_not_jump(seconds: float, step: float, ease: Ease) -> None:
    feelings = [Feeling.of("neutral", 0), HAPPY, SAD, Feeling.of({Emotion.FEAR: 0.5, Emotion.SAD: 0.5}, 1)]
    track = Track([Key(float(number), feeling, ease) for number, feeling in enumerate(feelings)])
    change = np.abs(track.condition_at(seconds + step) - track.condition_at(seconds)).max()
    assert change <= 5 * step + 1e-5


@pytest.mark.parametrize("name", ["track.csv", "track.json"])
def test_a_written_track_is_read_back(tmp_path: Path, name: str) -> None:
    blend = Feeling.of("happy=0.6,surprised=0.4", 1.25)
    track = Track([Key(0, HAPPY, Ease.SMOOTH), Key(1.25, blend), Key(4.5, SAD)])
    path = write_track(tmp_path / name, track)
    again = read_track(path)
    assert again.keys == track.keys
    with pytest.raises(OutputError, match="exists"):
        write_track(path, track)
    write_track(path, track, overwrite=True)


def test_tracks_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_track(tmp_path / "no" / "track.csv", Track.constant(SAD))
    compound = Feeling(SAD.weights, 2, lower=HAPPY.weights)
    with pytest.raises(OutputError, match="lower face"):
        write_track(tmp_path / "track.csv", Track.constant(compound))


def test_a_ramp_as_a_track_to_edit_is_the_same_ramp() -> None:
    for ease in Ease:
        ramp = Ramp(Feeling.of("happy", 0), Feeling.of("sad", 3), ease)
        plain, edited = ramp.over(4.8), ramp.keys(4.8, 4)
        assert len(edited.keys) == (4 if ease is Ease.LINEAR else 2)
        for time in np.linspace(0, 4.8, 40):
            np.testing.assert_allclose(edited.condition_at(time), plain.condition_at(time), atol=1e-6)


def test_levels_are_equal_steps() -> None:
    ramp = Ramp(Feeling.of("happy", 0), HAPPY)
    assert [level.intensity for level in ramp.levels(4)] == pytest.approx([0, 1, 2, 3])
    assert ramp.levels(2) == [ramp.start, ramp.end]
    with pytest.raises(ConfigError, match="1 steps are too few"):
        ramp.levels(1)
