"""Synthetic speech with known phonemes, from espeak-ng: words, languages and voices that no small corpus holds.

Needs the espeak-ng library (Debian `libespeak-ng1`, Homebrew `espeak-ng`). It is used in training only, and a corpus
can be built without it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..errors import InputError

SYNCHRONOUS, PHONEME_EVENTS_IPA = 2, 3
LIST_END, PHONEME = 0, 7
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
UTF8 = 1

VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Alicia", "Andrea", "Annie", "Denis",
    "Diogo", "Gene", "Lee", "Mario", "Michael", "Mike", "adam", "anika", "antonio", "belinda", "benjamin", "boris",
    "david", "ed", "edward", "grandma", "iven", "linda", "marcelo", "max", "pablo", "paul", "quincy", "rob", "shelby",
    "steph", "travis", "victor",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """One phoneme: IPA text, start and end in seconds; the empty text is a pause."""

    phoneme: str
    start: float
    end: float


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int), ("user_data", ctypes.c_void_p), ("id", _Name),
    ]  # fmt: skip


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise InputError("the espeak-ng library is missing; install it (Debian: apt install libespeak-ng1)") from None
    sample_rate = library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS_IPA)
    if sample_rate <= 0:
        raise InputError("espeak-ng finds no voices; install its data (Debian: apt install espeak-ng-data)")
    return library, sample_rate


def is_available() -> bool:
    """Whether espeak-ng can be used here."""
    try:
        _library()
    except InputError:
        return False
    return True


def speak(
    text: str, voice: str = "en", *, words_per_minute: int = 175, pitch: int = 50, liveliness: int = 50
) -> tuple[np.ndarray, int, list[Segment]]:
    """Say `text`; returns samples (n,) float32, their rate, and the phonemes.

    Args:
        voice: language and variant, "de+f2".
        pitch: 0 to 99.
        liveliness: range of the pitch, 0 to 99.

    Raises:
        InputError: if espeak-ng is missing or does not know the voice.
    """
    library, sample_rate = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InputError(f"espeak-ng has no voice {voice!r}")
    for parameter, value in ((RATE, words_per_minute), (PITCH, pitch), (RANGE, liveliness)):
        library.espeak_SetParameter(parameter, value, 0)
    pieces: list[np.ndarray] = []
    marks: list[tuple[float, str]] = []

    def receive(samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if count > 0 and samples:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != LIST_END:
            if events[index].type == PHONEME:
                name = bytes(events[index].id.string).decode("utf-8", "ignore")
                marks.append((events[index].audio_position / 1000, name))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.concatenate(pieces).astype(np.float32) / 32768 if pieces else np.zeros(0, np.float32)
    duration = len(samples) / sample_rate
    segments = [
        Segment("" if name.startswith("_") else name, start, end)
        for (start, name), end in zip(marks, [start for start, _ in marks[1:]] + [duration], strict=True)
        if end > start
    ]
    return samples, sample_rate, segments


# What a viewer sees of a phoneme. Columns of `FEATURES`; vowels as (openness, rounding, spreading).
FEATURES = ("pause", "bilabial", "labiodental", "dental", "alveolar", "sibilant", "postalveolar", "hidden", "vowel",
            "openness", "rounding", "spreading")  # fmt: skip
VOWELS: Mapping[str, tuple[float, float, float]] = {
    "i": (0.2, 0, 1), "ɪ": (0.35, 0, 0.7), "e": (0.45, 0, 0.8), "ɛ": (0.6, 0, 0.6), "æ": (0.85, 0, 0.6),
    "a": (0.95, 0, 0.4), "ɑ": (1.0, 0, 0.1), "ɐ": (0.75, 0, 0.3), "ʌ": (0.7, 0, 0.2), "ə": (0.45, 0, 0.3),
    "ɚ": (0.45, 0.2, 0.2), "ɜ": (0.5, 0.1, 0.2), "ɝ": (0.5, 0.2, 0.2), "ᵻ": (0.35, 0, 0.5), "ɘ": (0.4, 0, 0.4),
    "ɵ": (0.4, 0.6, 0.1), "ɒ": (0.85, 0.4, 0), "ɔ": (0.7, 0.6, 0), "o": (0.5, 0.8, 0), "ʊ": (0.35, 0.7, 0),
    "u": (0.25, 1, 0), "y": (0.2, 1, 0.2), "ʏ": (0.3, 0.8, 0.2), "ø": (0.4, 0.8, 0.2), "œ": (0.6, 0.6, 0.2),
    "ɨ": (0.25, 0, 0.6), "ʉ": (0.25, 0.9, 0), "ɯ": (0.25, 0, 0.5), "ɤ": (0.5, 0, 0.3),
}  # fmt: skip
CONSONANTS: Mapping[str, str] = {
    **dict.fromkeys("pbmɓʙ", "bilabial"),
    **dict.fromkeys("fvɱʋβɸ", "labiodental"),
    **dict.fromkeys("θðt̪", "dental"),
    **dict.fromkeys("tdnlrɾɹɫɖʈɳɭɻ", "alveolar"),
    **dict.fromkeys("sz", "sibilant"),
    **dict.fromkeys("ʃʒɕʑʂʐʧʤ", "postalveolar"),
    **dict.fromkeys("kgɡŋhɦxɣχʁʔcɟçjɲʎqʀħʕɰ", "hidden"),
}
ROUNDED = {"w": 1.0, "ʍ": 1.0, "ɥ": 1.0, "ɹ": 0.3, "ɻ": 0.3, "ʃ": 0.5, "ʒ": 0.5, "ʧ": 0.5, "ʤ": 0.5}


def visible_features(phoneme: str) -> np.ndarray:
    """What is seen of one IPA phoneme, (n, 12): one row, two for a diphthong or an affricate's parts."""
    rows = []
    for letter in phoneme:
        row = np.zeros(len(FEATURES), np.float32)
        if letter in VOWELS:
            row[FEATURES.index("vowel")] = 1
            row[FEATURES.index("openness") :] = VOWELS[letter]
        elif letter in CONSONANTS:
            row[FEATURES.index(CONSONANTS[letter])] = 1
        elif letter not in ROUNDED:
            continue
        if letter in ROUNDED:
            row[FEATURES.index("rounding")] = ROUNDED[letter]
            if letter in "wʍɥ":
                row[FEATURES.index("hidden")] = 1
        rows.append(row)
    if not rows:
        row = np.zeros(len(FEATURES), np.float32)
        row[0 if not phoneme.strip("ˈˌː_ ") else FEATURES.index("hidden")] = 1
        rows.append(row)
    return np.stack(rows)


def feature_track(segments: Sequence[Segment], frames: int, fps: float) -> np.ndarray:
    """Features per video frame, (frames, 12): each frame the mean over its time; pauses outside the segments."""
    fine = 8  # samples per frame
    time = (np.arange(frames * fine) + 0.5) / (fps * fine)
    track = np.zeros((len(time), len(FEATURES)), np.float32)
    track[:, 0] = 1
    for segment in segments:
        rows = visible_features(segment.phoneme)
        edges = segment.start + (segment.end - segment.start) * np.arange(len(rows) + 1) / len(rows)
        for row, first, last in zip(rows, edges[:-1], edges[1:], strict=True):
            track[(time >= first) & (time < last)] = row
    return track.reshape(frames, fine, -1).mean(1)  # type: ignore[no-any-return]
