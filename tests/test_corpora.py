"""Corpora are recognised by words of their paths, whatever folders lie between, and shared out without overlap."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotalk.corpora import (
    MEAD_TEST_ACTORS,
    Clip,
    Files,
    Filter,
    SplitRule,
    check_split,
    counts,
    missing,
    readable,
    recognise,
    scan,
    slug,
    split_clips,
)
from emotalk.emotions import Emotion
from emotalk.errors import ConfigError, InputError

HERE = Path("corpus")


def listed(*paths: str, sounds: tuple[str, ...] = ()) -> Files:
    folders = {parent for p in (*paths, *sounds) for parent in ("/".join(p.split("/")[:i]) for i in range(1, 9))}
    return Files(tuple(sorted(paths)), tuple(sorted(sounds)), tuple(sorted(folders - {*paths, *sounds})), 0, ())


def one(path: str, corpus: str = "auto") -> Clip:
    found = recognise(listed(path), HERE, corpus)
    assert not found.rejected, found.rejected
    return found.clips[0]


@pytest.mark.parametrize(
    ("path", "corpus", "actor", "emotion", "intensity", "view", "name"),
    [
        ("M003/video/front/angry/level_1/001.mp4", "mead", "M003", "angry", 1, "front", "M003_front_angry_1_001"),
        ("M003/video/video/left_30/1/sad/level_3/030.mp4", "mead", "M003", "sad", 3, "left_30",
         "M003_left_30_sad_3_030"),
        ("x/2/W017/video/down/surprised/level_2/7.MP4", "mead", "W017", "surprised", 2, "down",
         "W017_down_surprised_2_007"),
        ("M003_ang_3_026.mp4", "mead", "M003", "angry", 3, "front", "M003_front_angry_3_026"),
        ("M030_front_angry_level3_001.mp4", "mead", "M030", "angry", 3, "front", "M030_front_angry_3_001"),
        ("M030_sad_3_001.mp4", "mead", "M030", "sad", 3, "front", "M030_front_sad_3_001"),
        ("M030/video/front/neutral/level_1/040.mp4", "mead", "M030", "neutral", 1, "front", "M030_front_neutral_1_040"),
        ("Actor_12/01-01-05-02-01-01-12.mp4", "ravdess", "12", "angry", 3, "front", "01-05-02-01-01-12"),
        ("Actor_01/sub/01-01-02-01-02-02-01.mp4", "ravdess", "01", "neutral", 1.5, "front", "01-02-01-02-02-01"),
        ("VideoFlash/1001_DFA_ANG_XX.flv", "crema-d", "1001", "angry", None, "front", "1001_DFA_ANG_XX"),
        ("1040_ITH_SAD_X.flv", "crema-d", "1040", "sad", None, "front", "1040_ITH_SAD_X"),
        ("1091_WSI_HAP_HI.flv", "crema-d", "1091", "happy", 3, "front", "1091_WSI_HAP_HI"),
        ("DC/a01.avi", "savee", "DC", "angry", None, "front", "DC_a01"),
        ("AudioVisualClip/KL/su15.avi", "savee", "KL", "surprised", None, "front", "KL_su15"),
        ("JE_sa03.avi", "savee", "JE", "sad", None, "front", "JE_sa03"),
        ("s1/bbaf2n.mpg", "grid", "s1", "neutral", None, "front", "s1_bbaf2n"),
        ("s34/video/swwz9s.mpg", "grid", "s34", "neutral", None, "front", "s34_swwz9s"),
    ],
)  # fmt: skip
def test_names_of_each_corpus_are_read(
    path: str, corpus: str, actor: str, emotion: str, intensity: float | None, view: str, name: str
) -> None:
    clip = one(path)
    assert (clip.corpus, clip.name, clip.video) == (corpus, name, path)
    labels = clip.labels
    assert (labels.actor, labels.emotion, labels.view) == (actor, Emotion(emotion), view)
    assert labels.intensity == intensity


def test_every_ravdess_and_crema_emotion_has_its_word() -> None:
    table = ["neutral", "neutral", "happy", "sad", "angry", "fear", "disgusted", "surprised"]
    for number, word in enumerate(table, 1):
        assert one(f"Actor_03/01-01-{number:02d}-01-01-01-03.mp4").labels.emotion is Emotion(word)
    assert one("Actor_03/01-01-02-01-01-01-03.mp4").labels.notes == ("calm",)
    for code, word in {"ANG": "angry", "DIS": "disgusted", "FEA": "fear", "HAP": "happy", "NEU": "neutral",
                       "SAD": "sad"}.items():  # fmt: skip
        assert one(f"1001_DFA_{code}_LO.flv").labels.emotion is Emotion(word)
    for letters, word in {"a": "angry", "d": "disgusted", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad",
                          "su": "surprised"}.items():  # fmt: skip
        assert one(f"JK/{letters}07.avi").labels.emotion is Emotion(word)


@given(
    st.lists(st.sampled_from(["video", "1", "2", "x", "part_one", "Data"]), max_size=3),
    st.lists(st.sampled_from(["video", "1", "2", "y"]), max_size=3),
)
def test_extra_folders_change_nothing(before: list[str], between: list[str]) -> None:
    path = "/".join([*before, "W009", "video", *between, "right_60", *between, "happy", "level_2", *between, "013.mp4"])
    clip = one(path)
    assert clip.name == "W009_right_60_happy_2_013"


def test_the_root_itself_may_name_the_actor_and_more() -> None:
    found = recognise(listed("front/angry/level_1/001.mp4"), Path("/data/M003/video"))
    assert found.clips[0].name == "M003_front_angry_1_001"
    found = recognise(listed("001.mp4", "002.mp4"), Path("/data/M003/video/top/sad/level_2"))
    assert [clip.name for clip in found.clips] == ["M003_top_sad_2_001", "M003_top_sad_2_002"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("M003/video/front/angry/level_1/M003_front_happy_level1_001.mp4", "angry and happy"),
        ("M003/video/front/angry/level_1/W009_front_angry_level1_001.mp4", "M003 and W009"),
        ("M003/video/front/neutral/level_2/001.mp4", "level 2 of neutral"),
        ("M003/video/front/sad/level_4/001.mp4", "level 4"),
        ("Actor_03/01-01-05-02-01-01-12.mp4", "03 and 12"),
        ("Actor_03/01-01-09-02-01-01-03.mp4", "does not have"),
        ("1001_DFA_JOY_LO.flv", "JOY"),
        ("DC/KL_a01.avi", "DC and KL"),
    ],
)
def test_a_path_that_contradicts_itself_is_reported_not_guessed(path: str, words: str) -> None:
    found = recognise(listed(path), HERE)
    assert not found.clips
    assert [(r.path, r.reason) for r in found.rejected] == [(path, "label")]
    assert words in found.rejected[0].detail


def test_sound_files_find_their_videos() -> None:
    files = listed(
        "M003/video/front/sad/level_1/001.mp4", "M003/video/top/sad/level_1/001.mp4",
        "M003/video/front/sad/level_1/002.mp4",
        sounds=("M003/audio/sad/level_1/001.m4a", "M003/audio/1/sad/level_2/002.m4a"),
    )  # fmt: skip
    sounds = {clip.name: clip.sound for clip in recognise(files, HERE).clips}
    assert sounds == {
        "M003_front_sad_1_001": "M003/audio/sad/level_1/001.m4a",
        "M003_top_sad_1_001": "M003/audio/sad/level_1/001.m4a",
        "M003_front_sad_1_002": None,
    }
    crema = recognise(listed("VideoFlash/1001_DFA_ANG_XX.flv", sounds=("AudioWAV/1001_DFA_ANG_XX.wav",)), HERE)
    assert crema.clips[0].sound == "AudioWAV/1001_DFA_ANG_XX.wav"


def test_ravdess_copies_without_sound_and_songs_are_left_out() -> None:
    found = recognise(
        listed("a/01-01-05-02-01-01-12.mp4", "b/02-01-05-02-01-01-12.mp4", "a/02-01-05-02-01-02-12.mp4",
               "a/01-02-05-02-01-01-12.mp4", sounds=("a/03-01-05-02-01-02-12.wav",)), HERE,
    )  # fmt: skip
    assert [clip.video for clip in found.clips] == ["a/01-01-05-02-01-01-12.mp4", "a/02-01-05-02-01-02-12.mp4"]
    assert [clip.sound for clip in found.clips] == [None, "a/03-01-05-02-01-02-12.wav"]
    assert found.left_out == {"copy without sound": 1, "song, not speech": 1}


def test_two_files_of_one_clip_are_named() -> None:
    found = recognise(listed("M003/video/front/sad/level_1/001.mp4", "M003/video/1/front/sad/level_1/001.mp4"), HERE)
    assert len(found.clips) == 1
    assert [(r.reason, r.detail) for r in found.rejected] == [
        ("duplicate", "the same clip as M003/video/1/front/sad/level_1/001.mp4")
    ]


def test_the_plain_folder_takes_everything_and_reads_what_is_said() -> None:
    found = recognise(
        listed("anna/happy/level_2/hello.mp4", "anna/hello.mp4", "b c.mp4", "Bob_sad.mov"), HERE, "folder"
    )
    rows = {c.video: (c.labels.actor, c.labels.emotion, c.labels.intensity) for c in found.clips}
    assert rows == {
        "anna/happy/level_2/hello.mp4": ("anna", Emotion.HAPPY, 2.0),
        "anna/hello.mp4": ("anna", None, None),
        "b c.mp4": ("unknown", None, None),
        "Bob_sad.mov": ("unknown", Emotion.SAD, None),
    }
    assert len({clip.name for clip in found.clips}) == 4


def test_an_unknown_layout_says_what_was_looked_for() -> None:
    with pytest.raises(
        InputError, match=r"2 videos such as a/x.mp4; looked for mead \(M003/.*grid \(s1/.*--corpus folder"
    ):
        recognise(listed("a/x.mp4", "y.mp4"), HERE)
    with pytest.raises(InputError, match="holds no video"):
        recognise(Files((), (), (), 3, ()), HERE)


@pytest.mark.parametrize(
    ("kind", "message"), [("missing", "does not exist"), ("file", "is a file"), ("empty", "holds no video")]
)
def test_a_root_that_is_none_is_one_line(tmp_path: Path, kind: str, message: str) -> None:
    root = tmp_path / "root"
    if kind == "file":
        root.touch()
    if kind == "empty":
        root.mkdir()
    with pytest.raises(InputError, match=message):
        scan(root)


def test_a_closed_root_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"cannot be read .Permission denied"):
        scan(tmp_path)


def test_odd_trees_are_walked_to_their_end(tmp_path: Path) -> None:
    folder = tmp_path / "M003" / "video" / "front" / "sad" / "level_1"
    folder.mkdir(parents=True)
    for name in ("001.mp4", "._001.mp4", "notes.txt", "002\n.mp4"):
        (folder / name).touch()
    (folder / os.fsdecode(b"00\xff3.mp4")).touch()
    (folder / "loop").symlink_to(tmp_path)
    (folder / "self").symlink_to("self")
    (folder / "004.mp4").symlink_to("nowhere")
    os.mkfifo(folder / "005.mp4")
    (tmp_path / "W011" / "video").mkdir(parents=True)
    found = scan(tmp_path)
    assert [clip.name for clip in found.clips] == [f"M003_front_sad_1_00{n}" for n in (1, 2, 3)]
    shown = [readable(clip.video).rpartition("/")[2] for clip in found.clips]
    assert shown == ["001.mp4", "002\\n.mp4", "00\\xff3.mp4"]
    assert sorted((r.path.rpartition("/")[2], r.reason) for r in found.rejected) == [
        ("004.mp4", "unreachable"), ("005.mp4", "unreachable"), ("W011", "no video"), ("self", "unreachable"),
    ]  # fmt: skip


@given(st.text(st.characters(blacklist_categories=()), min_size=1))
def test_every_name_can_be_printed_and_becomes_a_file_name(text: str) -> None:
    assert readable(text).isprintable()
    assert readable(text).encode("utf-8")
    assert set(slug(text)) <= {*string.ascii_letters, *string.digits, "-", "_"} and slug(text)


def mead(actors: tuple[str, ...] = ("M003", "W011"), views: tuple[str, ...] = ("front",)) -> list[Clip]:
    """Complete actors."""
    paths = []
    for actor in actors:
        for view in views:
            for emotion in Emotion:
                neutral = emotion is Emotion.NEUTRAL
                for level in (1,) if neutral else (1, 2, 3):
                    paths += [
                        f"{actor}/video/{view}/{emotion.value}/level_{level}/{n:03d}.mp4"
                        for n in range(1, 41 if neutral else 31)
                    ]
    return list(recognise(listed(*paths), HERE).clips)


def test_a_complete_actor_has_670_clips_and_nothing_is_missing() -> None:
    found = recognise(listed(*(clip.video for clip in mead(("M003",)))), HERE)
    assert len(found.clips) == 670
    assert counts(found.clips)["M003", "neutral", "1"] == 40
    assert counts(found.clips)["M003", "sad", "3"] == 30
    assert missing(found) == ["M003: 670 clips without a sound file"]


def test_what_is_missing_is_named() -> None:
    paths = [c.video for c in mead(("M011", "W017"), ("front", "down"))]
    paths = [p for p in paths if not (p.startswith("M011") and "contempt" in p)]
    paths = [p for p in paths if not (p.startswith("W017") and "front" in p)]
    paths.remove("M011/video/front/sad/level_2/013.mp4")
    lines = missing(recognise(listed(*paths), HERE))
    assert "M011: no clips of contempt" in lines
    assert "W017: no view front" in lines
    assert "M011 front sad level 2: 29 of 30 clips" in lines
    assert len(lines) == 5  # and the sounds of both


def test_the_mead_split_is_the_repository_s() -> None:
    clips = mead()
    sides = split_clips(clips, SplitRule(dev_fraction=0))
    for actor in ("M003", "W011"):
        assert sum(sides[c.name] == "test" for c in clips if c.labels.actor == actor) == 136
    assert sides["M003_front_neutral_1_031"] == "test" and sides["M003_front_neutral_1_030"] == "train"
    assert sides["M003_front_sad_2_025"] == "test" and sides["M003_front_sad_2_024"] == "train"
    with_dev = split_clips(clips, SplitRule())
    assert {n for n, s in with_dev.items() if s == "test"} == {n for n, s in sides.items() if s == "test"}
    assert 0.02 < sum(s == "dev" for s in with_dev.values()) / len(clips) < 0.1


def test_a_level_that_lacks_sentences_does_not_put_one_on_both_sides() -> None:
    clips = [c for c in mead(("M003",)) if not (c.labels.level == "3" and c.labels.sentence > "sad-024")]
    sides = split_clips(clips, SplitRule())
    check_split(((c.labels.actor, c.labels.sentence, sides[c.name]) for c in clips), by_identity=False)
    assert sides["M003_front_sad_3_024"] != "test"


def test_the_identity_split_keeps_people_apart() -> None:
    clips = mead(("M003", "M030", "W009", "W015", "W011", "M005", "M007"))
    sides = split_clips(clips, SplitRule(kind="identity"))
    assert {c.labels.actor for c in clips if sides[c.name] == "test"} == set(MEAD_TEST_ACTORS)
    assert len({c.labels.actor for c in clips if sides[c.name] == "dev"}) == 1
    chosen = split_clips(clips, SplitRule(kind="identity", test_actors=("M005",)))
    assert {c.labels.actor for c in clips if chosen[c.name] == "test"} == {"M005"}


@given(st.integers(0, 5), st.floats(0.01, 0.5), st.floats(0, 0.4))
def test_the_fraction_split_is_clean_and_depends_on_the_seed_only(seed: int, test: float, dev: float) -> None:
    paths = [
        f"Actor_{a:02d}/01-01-{e:02d}-01-{s:02d}-{r:02d}-{a:02d}.mp4"
        for a in (1, 2) for e in (3, 4) for s in range(1, 11) for r in (1, 2)
    ]  # fmt: skip
    clips = recognise(listed(*paths), HERE).clips
    rule = SplitRule(kind="fraction", test_fraction=test, dev_fraction=dev, seed=seed)
    sides = split_clips(clips, rule)
    assert sides == split_clips(tuple(reversed(clips)), rule)
    check_split(((c.labels.actor, c.labels.sentence, sides[c.name]) for c in clips), by_identity=False)
    assert abs(sum(s == "test" for s in sides.values()) / len(clips) - test) <= 0.1
    assert "train" in sides.values()


def test_the_check_finds_an_overlap() -> None:
    with pytest.raises(ConfigError, match="sentence x of A is in train and in test"):
        check_split([("A", "x", "train"), ("B", "x", "test"), ("A", "x", "test")], by_identity=False)
    with pytest.raises(ConfigError, match="actor A is in train and in test"):
        check_split([("A", "x", "train"), ("A", "y", "test")], by_identity=True)


def test_split_rules_that_make_no_sense_are_refused() -> None:
    for wrong in ({"kind": "half"}, {"test_fraction": 1.0}, {"dev_fraction": -0.1}, {"test_actors": ("M003",)},
                  {"test_fraction": 0.6, "dev_fraction": 0.5}):  # fmt: skip
        with pytest.raises(ConfigError):
            SplitRule(**wrong)  # type: ignore[arg-type]
    grid = recognise(listed("s1/bbaf2n.mpg", "s1/bbaf3s.mpg"), HERE).clips
    with pytest.raises(ConfigError, match="does not fit grid"):
        split_clips(grid, SplitRule(kind="mead"))
    with pytest.raises(ConfigError, match=r"no actor 'Z'|no clip has actor 'Z'"):
        split_clips(grid, SplitRule(kind="identity", test_actors=("Z",)))


def test_filters_choose_and_refuse() -> None:
    clips = mead(("M003", "W011"))
    chosen = Filter(actors=("W011",), emotions=(Emotion.SAD,), levels=("2", "3")).apply(clips)
    assert len(chosen) == 60
    assert len(Filter(limit=7).apply(clips)) == 7
    assert {c.labels.actor for c in Filter(limit=7).apply(clips)} == {"M003", "W011"}
    with pytest.raises(ConfigError, match=r"no clip has actor 'M999' .there are: M003, W011"):
        Filter(actors=("M999",)).apply(clips)
    with pytest.raises(ConfigError, match="no clip has view 'behind'"):
        Filter(views=("behind",)).apply(clips)
