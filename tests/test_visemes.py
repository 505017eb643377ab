"""Phonemes to motion: features, closures and alignment; with espeak-ng where it is installed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from emotalk.errors import InputError
from emotalk.landmarks import LOWER_POINTS, Basis
from emotalk.synth import visemes, voices
from emotalk.synth.voices import FEATURES, Segment

needs_espeak = pytest.mark.skipif(not voices.is_available(), reason="espeak-ng is not installed")


def column(name: str) -> int:
    return FEATURES.index(name)


def test_what_is_seen_of_phonemes() -> None:
    assert voices.visible_features("m")[0, column("bilabial")] == 1
    assert voices.visible_features("f")[0, column("labiodental")] == 1
    assert voices.visible_features("")[0, column("pause")] == 1
    assert voices.visible_features("uː")[0, column("rounding")] == 1
    assert voices.visible_features("w")[0, column("rounding")] == 1
    assert voices.visible_features("aɪ").shape == (2, len(FEATURES))
    opening = [voices.visible_features(v)[0, column("openness")] for v in "iɛa"]
    assert opening == sorted(opening)
    assert voices.visible_features("ɮ").shape == (1, len(FEATURES))  # unknown: hidden, not an error


def test_track_is_the_share_of_each_phoneme_in_a_frame() -> None:
    track = voices.feature_track([Segment("m", 0.04, 0.10), Segment("a", 0.10, 0.16)], 5, 25.0)
    assert track[:, column("bilabial")].tolist() == [0, 1, 0.5, 0, 0]
    assert track[:, column("pause")].tolist() == [1, 0, 0, 0, 1]


def test_plosives_shut_before_their_burst() -> None:
    shut = visemes.with_closures([Segment("a", 0.0, 0.2), Segment("p", 0.2, 0.25), Segment("a", 0.25, 0.4)])
    assert [s.phoneme for s in shut] == ["a", "p", "h", "a"]
    assert shut[1].start == pytest.approx(0.2 - visemes.CLOSURE)
    assert shut[0].end == shut[1].start
    assert shut[1].end < 0.22
    inside = [Segment("a", 0.0, 0.2), Segment("b", 0.2, 0.29)]  # a long voiced one holds its own closure
    assert visemes.with_closures(inside) == inside


def test_alignment_follows_a_change_of_tempo() -> None:
    generator = np.random.default_rng(0)
    source = generator.normal(size=(50, 14)).cumsum(0).astype(np.float32)
    target = source[np.minimum(np.arange(75) * 2 // 3, 49)]
    moved = visemes.align([Segment("a", 0.2, 0.5), Segment("b", 0.5, 0.8)], source, target, offset=1.0)
    assert moved[0].start == pytest.approx(1.3, abs=0.05)
    assert moved[1].end == pytest.approx(2.2, abs=0.05)


def test_lips_meet_at_bilabials_whatever_the_network_says() -> None:
    rows = np.random.default_rng(0).normal(size=(60, LOWER_POINTS, 2)) * 0.01
    rows[:, [34, 35, 36], 1] += 0.2
    basis = Basis.fit(rows, 4)
    torch.manual_seed(0)
    network = visemes.VisemeNet(4).eval()
    motion = visemes.motion_of(network, basis, [Segment("a", 0.0, 0.4), Segment("m", 0.4, 0.6)], 25)
    gap = (motion[:, [36, 35, 34], 1] - motion[:, [30, 31, 32], 1]).mean(1)
    assert gap[4] > 0.1
    assert gap[12] == pytest.approx(0, abs=1e-3)


@needs_espeak
def test_speech_comes_with_its_phonemes() -> None:
    samples, rate, segments = voices.speak("papa", "en+f2")
    assert rate >= 16_000
    assert np.abs(samples).max() > 0.05
    spoken = [s.phoneme for s in segments if s.phoneme]
    assert [p[0] for p in spoken].count("p") == 2
    assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(segments))


@needs_espeak
def test_unknown_voice_is_one_line() -> None:
    with pytest.raises(InputError, match="no voice 'klingonese'"):
        voices.speak("a", "klingonese")


@needs_espeak
def test_every_language_of_the_texts_speaks() -> None:
    for language, sentences in visemes.TEXTS.items():
        samples, rate, segments = voices.speak(sentences[0], f"{language}+m3")
        assert len(samples) > 1.5 * rate, language
        unknown = [s.phoneme for s in segments if s.phoneme.startswith("(")]
        assert not unknown, f"{language}: read as another language {unknown}"
