"""Recognise recordings of talking-face corpora by the words in their paths, and share them out to train, dev and test.

Archives are unpacked in many ways, so folders are never counted: actor, view, emotion, level and sentence are looked
for anywhere in a path. What says two things at once (a folder `angry`, a file `happy`) is reported, not guessed.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .emotions import EMOTIONS, Emotion
from .errors import ConfigError, InputError

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".flv", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp", ".ogv"]
)  # fmt: skip
SOUND_SUFFIXES = frozenset([".wav", ".m4a", ".aac", ".mp3", ".flac", ".ogg", ".opus"])
PICTURE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"])
VIEWS = ("front", "down", "top", "left_30", "left_60", "right_30", "right_60")
SPLITS = ("train", "dev", "test")
MEAD_TEST_ACTORS = ("M003", "M030", "W009", "W015")  # EAT (Gan et al., ICCV 2023)
MEAD_TEST_NEUTRAL, MEAD_TEST_OTHER = 10, 6  # last sentences of the MEAD repository's test set
MEAD_COMMON = 3  # the first sentences are the same words in all emotions
CONTEXT = 6  # folders above the given one that may say what the path below does not


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What the path of one file says."""

    actor: str
    emotion: Emotion | None
    sentence: str  # equal for one actor only where the words are the same
    intensity: float | None = None
    level: str = ""  # as the corpus writes it
    view: str = "front"
    take: str = ""
    notes: tuple[str, ...] = ()
    name: str = ""  # unique within the corpus, fit for a file name
    sound_key: str = ""  # equal for a picture and the sound file that belongs to it
    sound_only: bool = False
    picture_only: bool = False  # a copy without sound


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One recording: a video, and its sound when that is a file of its own."""

    corpus: str
    name: str
    video: str  # below the root
    labels: Labels
    sound: str | None = None  # below the root


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file or folder that did not become a clip, and why."""

    path: str
    reason: str  # a key of `REASONS`
    detail: str


# What can be wrong with a clip, and what a person can do about it.
REASONS: Mapping[str, str] = {
    "label": "path that contradicts itself",
    "duplicate": "second copy of a clip",
    "unreachable": "folder or file that cannot be opened",
    "no video": "actor folder without video",
    "empty": "file of zero bytes",
    "unreadable": "video that cannot be decoded",
    "truncated": "video that ends early",
    "too long": "longer than --longest",
    "too short": "shorter than a quarter of a second",
    "no sound": "no sound track and no sound file",
    "length": "sound and picture of different length",
    "no face": "no face in too many frames",
    "small face": "face of too few pixels",
    "two faces": "more than one person",
    "rig": "portrait that the face rig does not fit",
    "crash": "stopped the program that read it",
}


class LabelError(Exception):
    """A path that says two things at once."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one corpus names its files."""

    name: str
    example: str
    read: Callable[[Sequence[str]], Labels | None]  # folders, then the stem; LabelError on a contradiction
    emotions: tuple[Emotion, ...]
    actor_folder: re.Pattern[str]


def _word(choices: str) -> re.Pattern[str]:
    """A word of a path part, between separators."""
    return re.compile(rf"(?:^|(?<=[_\-. ]))(?:{choices})(?=$|[_\-. ])", re.I)


def _one(kind: str, found: Iterable[str]) -> str | None:
    values = sorted(set(found))
    if len(values) > 1:
        raise LabelError(f"the path says {kind} {' and '.join(values)}")
    return values[0] if values else None


_MEAD_WORDS: Mapping[str, Emotion] = {
    **{e.value: e for e in EMOTIONS},
    **{e.value[:3]: e for e in EMOTIONS},
    "anger": Emotion.ANGRY, "disgust": Emotion.DISGUSTED, "surprise": Emotion.SURPRISED, "fearful": Emotion.FEAR,
}  # fmt: skip
_MEAD_ACTOR = _word(r"([mw]\d{3})")
_MEAD_VIEW = _word(r"(front|down|top|left_?30|left_?60|right_?30|right_?60)")
_MEAD_LEVEL = _word(r"level[_-]?(\d+)")
_MEAD_EMOTION = _word("(" + "|".join(_MEAD_WORDS) + ")")


def _read_mead(parts: Sequence[str]) -> Labels | None:
    """`M003/video/front/angry/level_1/001` with any folders between, or `M003_front_angry_level1_001`."""
    actor = _one("actor", (m.upper() for part in parts for m in _MEAD_ACTOR.findall(part)))
    emotion_word = _one(
        "emotion", (_MEAD_WORDS[m.lower()].value for part in parts for m in _MEAD_EMOTION.findall(part))
    )
    if actor is None or emotion_word is None:
        return None
    emotion = Emotion(emotion_word)
    view = _one("view", (m.lower().replace("_", "") for part in parts for m in _MEAD_VIEW.findall(part)))
    level = _one("level", (m for part in parts for m in _MEAD_LEVEL.findall(part)))
    stem = parts[-1]
    for pattern in (_MEAD_ACTOR, _MEAD_VIEW, _MEAD_LEVEL, _MEAD_EMOTION):
        stem = pattern.sub(" ", stem)
    numbers = re.findall(r"(?<!\w)\d+(?!\w)", re.sub(r"[_\-.]", " ", stem))
    if level is None and len(numbers) >= 2 and len(numbers[0]) == 1:
        level = numbers[0]  # M003_ang_3_026
        numbers = numbers[1:]
    if not numbers or level is None:
        return None
    if level not in ("1", "2", "3") or (emotion is Emotion.NEUTRAL and level != "1"):
        raise LabelError(f"the path says level {level} of {emotion.value}, which MEAD does not have")
    number = int(numbers[-1])
    view = next((v for v in VIEWS if v.replace("_", "") == view), "front")
    sentence = f"common-{number:03d}" if 1 <= number <= MEAD_COMMON else f"{emotion.value}-{number:03d}"
    key = f"{actor}_{emotion.value}_{level}_{number:03d}"
    return Labels(
        actor=actor, emotion=emotion, intensity=float(level), level=level, view=view, sentence=sentence,
        name=f"{actor}_{view}_{emotion.value}_{level}_{number:03d}", sound_key=key,
    )  # fmt: skip


_RAVDESS = re.compile(r"(\d{2})-(\d{2})-(\d{2})-(\d{2})-(\d{2})-(\d{2})-(\d{2})")
_RAVDESS_EMOTIONS = {
    "01": Emotion.NEUTRAL, "02": Emotion.NEUTRAL, "03": Emotion.HAPPY, "04": Emotion.SAD, "05": Emotion.ANGRY,
    "06": Emotion.FEAR, "07": Emotion.DISGUSTED, "08": Emotion.SURPRISED,
}  # fmt: skip
_RAVDESS_LEVELS = {"01": 1.5, "02": 3.0}
_RAVDESS_FOLDER = re.compile(r"actor_(\d{2})", re.I)


def _read_ravdess(parts: Sequence[str]) -> Labels | None:
    """`01-01-05-02-01-01-12`: modality, channel, emotion, intensity, statement, repetition, actor."""
    found = _RAVDESS.fullmatch(parts[-1])
    if found is None:
        return None
    modality, channel, emotion, level, statement, repetition, actor = found.groups()
    if emotion not in _RAVDESS_EMOTIONS or level not in _RAVDESS_LEVELS or modality not in ("01", "02", "03"):
        raise LabelError(f"the name has a number that RAVDESS does not have ({parts[-1]})")
    folders = [m[1] for part in parts[:-1] if (m := _RAVDESS_FOLDER.fullmatch(part))]
    _one("actor", [actor, *folders])
    notes = [note for note, wanted in (("calm", emotion == "02"), ("song", channel == "02")) if wanted]
    name = "-".join(found.groups()[1:])
    return Labels(
        actor=actor, emotion=_RAVDESS_EMOTIONS[emotion], intensity=_RAVDESS_LEVELS[level], level=level,
        sentence=f"{'song' if channel == '02' else 'speech'}-{statement}", take=repetition, notes=tuple(notes),
        name=name, sound_key=name, sound_only=modality == "03", picture_only=modality == "02",
    )  # fmt: skip


_CREMA = re.compile(r"(1\d{3})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)", re.I)
_CREMA_EMOTIONS = {
    "ANG": Emotion.ANGRY, "DIS": Emotion.DISGUSTED, "FEA": Emotion.FEAR, "HAP": Emotion.HAPPY, "SAD": Emotion.SAD,
    "NEU": Emotion.NEUTRAL,
}  # fmt: skip
_CREMA_LEVELS = {"LO": 1.0, "MD": 2.0, "HI": 3.0}


def _read_crema(parts: Sequence[str]) -> Labels | None:
    """`1001_DFA_ANG_XX`: actor, sentence, emotion, level."""
    found = _CREMA.fullmatch(parts[-1])
    if found is None:
        return None
    actor, sentence, emotion, level = (word.upper() for word in found.groups())
    if emotion not in _CREMA_EMOTIONS:
        raise LabelError(f"the name says emotion {emotion}, which CREMA-D does not have")
    return Labels(
        actor=actor, emotion=_CREMA_EMOTIONS[emotion], intensity=_CREMA_LEVELS.get(level), level=level,
        sentence=sentence, name=f"{actor}_{sentence}_{emotion}_{level}", sound_key=parts[-1].upper(),
    )  # fmt: skip


_SAVEE_EMOTIONS = {
    "a": Emotion.ANGRY, "d": Emotion.DISGUSTED, "f": Emotion.FEAR, "h": Emotion.HAPPY, "n": Emotion.NEUTRAL,
    "sa": Emotion.SAD, "su": Emotion.SURPRISED,
}  # fmt: skip
_SAVEE_SPEAKER = re.compile(r"DC|JE|JK|KL")
_SAVEE = re.compile(r"(?:(DC|JE|JK|KL)_)?(sa|su|a|d|f|h|n)(\d{2})")


def _read_savee(parts: Sequence[str]) -> Labels | None:
    """`DC/a01` or `DC_a01`: speaker, emotion, sentence."""
    found = _SAVEE.fullmatch(parts[-1])
    if found is None:
        return None
    speaker = _one("speaker", [p for p in (*parts[:-1], found[1] or "") if _SAVEE_SPEAKER.fullmatch(p)])
    if speaker is None:
        return None
    name = f"{speaker}_{found[2]}{found[3]}"
    return Labels(
        actor=speaker, emotion=_SAVEE_EMOTIONS[found[2]], sentence=f"{found[2]}{found[3]}", name=name, sound_key=name
    )


_GRID = re.compile(r"[blps][bgrw][abiw][a-z][0-9z][anps]")
_GRID_SPEAKER = re.compile(r"s([1-9]|[12]\d|3[0-4])", re.I)


def _read_grid(parts: Sequence[str]) -> Labels | None:
    """`s1/bbaf2n`: speaker, and a sentence by its initials; read speech, so neutral."""
    if not _GRID.fullmatch(parts[-1]):
        return None
    speaker = _one("speaker", [p.lower() for p in parts[:-1] if _GRID_SPEAKER.fullmatch(p)])
    notes = () if speaker else ("no speaker folder, taken for s1",)
    speaker = speaker or "s1"
    name = f"{speaker}_{parts[-1]}"
    return Labels(actor=speaker, emotion=Emotion.NEUTRAL, sentence=parts[-1], notes=notes, name=name, sound_key=name)


_FOLDER_WORDS: Mapping[str, Emotion] = {
    **_MEAD_WORDS, "angry": Emotion.ANGRY, "sadness": Emotion.SAD, "happiness": Emotion.HAPPY, "joy": Emotion.HAPPY,
    "calm": Emotion.NEUTRAL, "contemptuous": Emotion.CONTEMPT, "surprised": Emotion.SURPRISED,
}  # fmt: skip
_FOLDER_EMOTION = _word("(" + "|".join(sorted(_FOLDER_WORDS, key=len, reverse=True)) + ")")


def _read_folder(parts: Sequence[str]) -> Labels | None:
    """Any video: person = first folder that is no label, emotion and level where the path names them."""
    emotion = _one("emotion", (_FOLDER_WORDS[m.lower()].value for part in parts for m in _FOLDER_EMOTION.findall(part)))
    view = _one("view", (m.lower().replace("_", "") for part in parts for m in _MEAD_VIEW.findall(part)))
    level = _one("level", (m for part in parts for m in _MEAD_LEVEL.findall(part)))
    intensity = float(level) if level in ("1", "2", "3") else None
    labels = (_FOLDER_EMOTION, _MEAD_VIEW, _MEAD_LEVEL)
    people = [
        p for p in parts[:-1] if not any(pattern.fullmatch(p) for pattern in labels) and p not in ("video", "audio")
    ]
    name = slug("_".join(p for p in parts if p not in ("video", "audio")))
    return Labels(
        actor=slug(people[0]) if people else "unknown", emotion=Emotion(emotion) if emotion else None,
        intensity=intensity, level=level or "", view=next((v for v in VIEWS if v.replace("_", "") == view), "front"),
        sentence=slug(parts[-1]), name=name, sound_key=name,
    )  # fmt: skip


_NO_FOLDER = re.compile(r"(?!)")
LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("mead", "M003/video/front/angry/level_1/001.mp4", _read_mead, EMOTIONS, re.compile(r"[MWmw]\d{3}")),
        Layout("ravdess", "Actor_12/01-01-05-02-01-01-12.mp4", _read_ravdess,
               tuple(e for e in EMOTIONS if e is not Emotion.CONTEMPT), _RAVDESS_FOLDER),
        Layout("crema-d", "VideoFlash/1001_DFA_ANG_XX.flv", _read_crema,
               tuple(e for e in EMOTIONS if e in _CREMA_EMOTIONS.values()), _NO_FOLDER),
        Layout("savee", "DC/a01.avi", _read_savee, tuple(e for e in EMOTIONS if e is not Emotion.CONTEMPT),
               _SAVEE_SPEAKER),
        Layout("grid", "s1/bbaf2n.mpg", _read_grid, (Emotion.NEUTRAL,), _GRID_SPEAKER),
        Layout("folder", "anna/happy/level_2/hello.mp4", _read_folder, (), _NO_FOLDER),
    )
}  # fmt: skip
CORPORA = ("auto", *LAYOUTS, "puppet")


@dataclass(frozen=True, slots=True)
class Files:
    """Everything below a root, as paths below it."""

    videos: tuple[str, ...]
    sounds: tuple[str, ...]
    folders: tuple[str, ...]
    others: int  # files that are neither
    unreachable: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """What was recognised below a root."""

    corpus: str
    root: Path
    clips: tuple[Clip, ...]  # by name
    rejected: tuple[Rejected, ...]
    strangers: tuple[str, ...]  # videos whose names say nothing to this corpus
    left_out: Mapping[str, int]  # files left out on purpose, by why
    others: int


def readable(text: str) -> str:
    """A path as one printable line: what is not text (line breaks, bytes that are no UTF-8) becomes an escape."""
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in plain)


def slug(text: str) -> str:
    """A name of letters, digits, `-` and `_` that no file system minds; a changed text carries its hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:80]
    if plain == text:
        return plain
    return f"{plain or 'clip'}-{hashlib.sha1(text.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"


def list_files(root: Path) -> Files:
    """All files below `root`; links are followed once, so loops end.

    Raises:
        InputError: if the root is missing, no folder, or may not be read.
    """
    if not root.is_dir():
        state = "is a file; give a folder" if root.exists() else "does not exist; check the name"
        raise InputError(f"the corpus {root} {state}")
    videos: list[str] = []
    sounds: list[str] = []
    folders: list[str] = []
    bad: list[Rejected] = []
    others = 0
    seen: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(root / folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise InputError(
                    f"the corpus {root} cannot be read ({error.strerror}); check its permissions"
                ) from None
            bad.append(Rejected(folder, "unreachable", str(error.strerror)))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):  # also the shadows that macOS writes beside files
                continue
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  # names that are no UTF-8
            try:
                if entry.is_dir():
                    folders.append(path)
                    waiting.append(path)
                elif not entry.is_file():
                    kind = "broken link" if entry.is_symlink() else "neither file nor folder"
                    bad.append(Rejected(path, "unreachable", kind))
                elif suffix in VIDEO_SUFFIXES:
                    videos.append(path)
                elif suffix in SOUND_SUFFIXES:
                    sounds.append(path)
                else:
                    others += 1
            except OSError as error:  # a link that leads to itself
                bad.append(Rejected(path, "unreachable", str(error.strerror)))
    return Files(tuple(sorted(videos)), tuple(sorted(sounds)), tuple(sorted(folders)), others, tuple(bad))


def scan(root: Path, corpus: str = "auto") -> Scan:
    """Find the clips of a corpus.

    Raises:
        ConfigError: if the corpus is unknown.
        InputError: if the root cannot be read, holds no video, or nothing in it is recognised.
    """
    if corpus not in CORPORA or corpus == "puppet":
        raise ConfigError(f"unknown corpus {corpus!r} (known: {', '.join(CORPORA)})")
    files = list_files(root)
    return recognise(files, root, corpus)


def recognise(files: Files, root: Path, corpus: str = "auto") -> Scan:
    """Find the clips among listed files; only names are looked at."""
    context = Path(os.path.abspath(root)).parts[1:][-CONTEXT:]  # noqa: PTH100  # links keep the names they were given
    if not files.videos:
        raise InputError(f"{root} holds no video ({len(files.sounds)} sounds, {files.others} other files)")
    if corpus == "auto":
        corpus = _guess(files, root, context)
    layout = LAYOUTS[corpus]
    sounds: dict[str, str] = {}
    for path in files.sounds:
        try:
            labels = _read(layout, path, context)
        except LabelError:
            continue
        if labels is not None:
            sounds.setdefault(labels.sound_key, path)
    rejected = list(files.unreachable)
    strangers: list[str] = []
    left_out: Counter[str] = Counter()
    best: dict[str, tuple[str, Labels]] = {}
    for path in files.videos:
        try:
            labels = _read(layout, path, context)
        except LabelError as error:
            rejected.append(Rejected(path, "label", str(error)))
            continue
        if labels is None:
            strangers.append(path)
        elif "song" in labels.notes:
            left_out["song, not speech"] += 1
        elif labels.name in best:
            other, known = best[labels.name]
            if labels.picture_only != known.picture_only:
                left_out["copy without sound"] += 1
                if known.picture_only:
                    best[labels.name] = path, labels
            else:
                rejected.append(Rejected(path, "duplicate", f"the same clip as {other}"))
        else:
            best[labels.name] = path, labels
    clips = [
        Clip(corpus=corpus, name=name, video=path, labels=labels, sound=sounds.get(labels.sound_key))
        for name, (path, labels) in sorted(best.items())
    ]
    used = [clip.video for clip in clips]
    rejected += _actors_without_video(layout, files, used)
    return Scan(corpus, root, tuple(clips), tuple(rejected), tuple(strangers), dict(left_out), files.others)


def _read(layout: Layout, path: str, context: Sequence[str]) -> Labels | None:
    """Labels of a path; the folders above the root may say what it does not."""
    parts = path.split("/")
    parts[-1] = parts[-1].rpartition(".")[0]
    labels = layout.read(parts)
    if labels is None and layout.name != "folder":
        labels = layout.read([*context, *parts])
    return labels


def _guess(files: Files, root: Path, context: Sequence[str]) -> str:
    counts: Counter[str] = Counter()
    for layout in LAYOUTS.values():
        if layout.name == "folder":
            continue
        for path in files.videos:
            try:
                counts[layout.name] += _read(layout, path, context) is not None
            except LabelError:
                counts[layout.name] += 1
    name, count = counts.most_common(1)[0]
    if count == 0:
        looked = ", ".join(
            f"{layout.name} ({layout.example})" for layout in LAYOUTS.values() if layout.name != "folder"
        )
        raise InputError(
            f"{root} is no corpus that is known: {len(files.videos)} videos such as {readable(files.videos[0])}; "
            f"looked for {looked}; --corpus folder takes videos as they are"
        )
    return name


def _actors_without_video(layout: Layout, files: Files, used: Sequence[str]) -> Iterator[Rejected]:
    actors = [f for f in files.folders if layout.actor_folder.fullmatch(f.rpartition("/")[2])]
    for folder in actors:
        if not any(path.startswith(f"{folder}/") for path in files.videos):
            named = folder.rpartition("/")[2]
            if not any(named in path.split("/") for path in used):  # sound and video may lie in two trees
                yield Rejected(folder, "no video", "a folder of an actor that holds no video")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which clips are wanted; empty means all."""

    actors: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    emotions: tuple[Emotion, ...] = ()
    levels: tuple[str, ...] = ()
    limit: int | None = None  # clips, spread over the corpus

    def apply(self, clips: Sequence[Clip]) -> list[Clip]:
        """The wanted clips, in order.

        Raises:
            ConfigError: if a wanted actor, view or level does not occur.
        """
        for kind, wanted, known in (
            ("actor", self.actors, {c.labels.actor for c in clips}),
            ("view", self.views, {c.labels.view for c in clips}),
            ("level", self.levels, {c.labels.level for c in clips}),
        ):
            for value in wanted:
                if value not in known:
                    raise ConfigError(f"no clip has {kind} {value!r} (there are: {', '.join(sorted(known)) or 'none'})")
        chosen = [
            clip
            for clip in clips
            if (not self.actors or clip.labels.actor in self.actors)
            and (not self.views or clip.labels.view in self.views)
            and (not self.emotions or clip.labels.emotion in self.emotions)
            and (not self.levels or clip.labels.level in self.levels)
        ]
        if self.limit is None or self.limit >= len(chosen):
            return chosen
        return [chosen[i * len(chosen) // self.limit] for i in range(self.limit)]


def counts(clips: Iterable[Clip]) -> dict[tuple[str, str, str], int]:
    """Clips per actor, emotion and level, in the order of the actors, the eight emotions and the levels."""
    order = {e.value: i for i, e in enumerate(EMOTIONS)}
    found = Counter(
        (c.labels.actor, c.labels.emotion.value if c.labels.emotion else "unknown", c.labels.level or "-")
        for c in clips
    )
    return dict(sorted(found.items(), key=lambda item: (item[0][0], order.get(item[0][1], len(order)), item[0][2])))


def missing(scanned: Scan) -> list[str]:
    """What a complete corpus of this kind has and this one has not, one line each."""
    lines: list[str] = []
    layout = LAYOUTS.get(scanned.corpus)
    if layout is None:  # puppets lack nothing
        return lines
    views: dict[str, set[str]] = defaultdict(set)
    emotions: dict[str, set[Emotion]] = defaultdict(set)
    cells: Counter[tuple[str, str, Emotion, str]] = Counter()
    silent: Counter[str] = Counter()
    for clip in scanned.clips:
        labels = clip.labels
        views[labels.actor].add(labels.view)
        if labels.emotion is not None:
            emotions[labels.actor].add(labels.emotion)
            cells[labels.actor, labels.view, labels.emotion, labels.level] += 1
        silent[labels.actor] += clip.sound is None
    known_views = set().union(*views.values()) if views else set()
    for actor in sorted(views):
        lost = [e.value for e in layout.emotions if e not in emotions[actor]]
        if lost:
            lines.append(f"{actor}: no clips of {', '.join(lost)}")
        if scanned.corpus == "mead":
            lines += [f"{actor}: no view {view}" for view in VIEWS if view in known_views - views[actor]]
    if scanned.corpus == "mead":
        for actor in sorted(views):
            for view in sorted(views[actor]):
                for emotion in (e for e in EMOTIONS if e in emotions[actor]):
                    full = 40 if emotion is Emotion.NEUTRAL else 30
                    for level in ("1",) if emotion is Emotion.NEUTRAL else ("1", "2", "3"):
                        count = cells[actor, view, emotion, level]
                        if count != full:
                            lines.append(f"{actor} {view} {emotion.value} level {level}: {count} of {full} clips")
            if silent[actor]:
                lines.append(f"{actor}: {silent[actor]} clips without a sound file")
    return lines


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """How clips are shared out: by MEAD's list, by person, or by sentence."""

    kind: str = "auto"  # "mead", "identity" or "fraction"; "auto": MEAD's own, people for puppets, else "fraction"
    test_actors: tuple[str, ...] = ()  # for "identity"; EAT's four for MEAD, else chosen by the seed
    test_fraction: float = 0.1
    dev_fraction: float = 0.05  # of the clips, out of what is not for the test
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("auto", "mead", "identity", "fraction"):
            raise ConfigError(f"unknown split {self.kind!r} (known: auto, mead, identity, fraction)")
        for name in ("test_fraction", "dev_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name):g}; it must be at least 0 and below 1")
        if self.test_fraction + self.dev_fraction >= 1:
            raise ConfigError("test_fraction and dev_fraction leave nothing for training")
        if self.test_actors and self.kind != "identity":
            raise ConfigError("test actors are given; that needs the split identity")

    def kind_for(self, corpus: str) -> str:
        """What "auto" means for a corpus."""
        return {"mead": "mead", "puppet": "identity"}.get(corpus, "fraction") if self.kind == "auto" else self.kind


def split_clips(clips: Sequence[Clip], rule: SplitRule) -> dict[str, str]:
    """train, dev or test for each clip by name.

    All clips of one sentence by one actor (all views, levels and takes) are on one side; with "identity" all clips of
    one actor. MEAD's rule takes the last sentences of each emotion, 10 neutral and 6 others, counted over all levels,
    so that a level that lacks some does not put a sentence on both sides; for a complete corpus that is its test set.

    Raises:
        ConfigError: if the rule does not fit the corpus.
    """
    corpus = clips[0].corpus if clips else ""
    kind = rule.kind_for(corpus)
    if kind == "mead" and corpus != "mead":
        raise ConfigError(f"the split mead does not fit {corpus}; use identity or fraction")
    if kind == "identity":
        side = _split_people(clips, rule, corpus)
        sides = {clip.name: side[clip.labels.actor] for clip in clips}
    else:
        unit = _split_sentences(clips, rule, mead=kind == "mead")
        sides = {clip.name: unit[clip.labels.actor, clip.labels.sentence] for clip in clips}
    check_split(((c.labels.actor, c.labels.sentence, sides[c.name]) for c in clips), by_identity=kind == "identity")
    return sides


def check_split(rows: Iterable[tuple[str, str, str]], *, by_identity: bool) -> None:
    """Prove that no sentence of an actor, or no actor, is on two sides.

    Args:
        rows: actor, sentence, side of each clip.

    Raises:
        ConfigError: naming the first that is.
    """
    sides: dict[tuple[str, str], str] = {}
    for actor, sentence, side in rows:
        key = (actor, "" if by_identity else sentence)
        if sides.setdefault(key, side) != side:
            what = f"actor {actor}" if by_identity else f"sentence {sentence} of {actor}"
            raise ConfigError(f"{what} is in {sides[key]} and in {side}; the split is not clean")


def _split_people(clips: Sequence[Clip], rule: SplitRule, corpus: str) -> dict[str, str]:
    people = sorted({clip.labels.actor for clip in clips})
    wanted = rule.test_actors
    unknown = [actor for actor in wanted if actor not in people]
    if unknown:
        raise ConfigError(f"no clip has actor {unknown[0]!r} (there are: {', '.join(people)})")
    if not wanted and corpus == "mead":
        wanted = tuple(actor for actor in MEAD_TEST_ACTORS if actor in people)
    shuffled = people.copy()
    random.Random(rule.seed).shuffle(shuffled)
    if not wanted:
        wanted = tuple(shuffled[: _share(len(people), rule.test_fraction)])
    left = [actor for actor in shuffled if actor not in wanted]
    if not left:
        raise ConfigError(f"the split identity leaves no actor for training ({len(people)} in all); use fraction")
    dev = left[: _share(len(left), rule.dev_fraction / (1 - rule.test_fraction))] if len(left) > 1 else []
    return {actor: "test" if actor in wanted else "dev" if actor in dev else "train" for actor in people}


def _split_sentences(clips: Sequence[Clip], rule: SplitRule, *, mead: bool) -> dict[tuple[str, str], str]:
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)  # actor and emotion (of MEAD) -> sentences
    for clip in clips:
        labels = clip.labels
        emotion = labels.sentence.rpartition("-")[0] if mead else ""
        groups[labels.actor, emotion].add(labels.sentence)
    sides: dict[tuple[str, str], str] = {}
    for (actor, emotion), found in sorted(groups.items()):
        ordered = sorted(found)
        generator = random.Random(f"{rule.seed} {actor} {emotion}")
        if mead:
            last = {"common": 0, Emotion.NEUTRAL.value: MEAD_TEST_NEUTRAL}.get(emotion, MEAD_TEST_OTHER)
            test = ordered[max(len(ordered) - last, 0) :] if last else []
            left = ordered[: len(ordered) - len(test)]
            generator.shuffle(left)
        else:
            left = ordered.copy()
            generator.shuffle(left)
            count = _share(len(left), rule.test_fraction)
            test, left = left[:count], left[count:]
        dev = left[: _share(len(left), rule.dev_fraction / (1 - rule.test_fraction))] if emotion != "common" else []
        for sentence in ordered:
            sides[actor, sentence] = "test" if sentence in test else "dev" if sentence in dev else "train"
    return sides


def _share(count: int, fraction: float) -> int:
    """How many of `count` make the fraction: at least one when there are two or more, and never all."""
    return 0 if fraction == 0 or count < 2 else min(max(1, round(count * fraction)), count - 1)
