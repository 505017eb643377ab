"""Sound augmentation: what must change does, what must stay does, and the same draw gives the same sound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotalk import sounds

RATE = sounds.SAMPLE_RATE


def voice(fundamental: float = 120.0, formant: float = 700.0, seconds: float = 1.0) -> np.ndarray:
    """Harmonics under one resonance: a vowel of sorts."""
    time = np.arange(int(seconds * RATE)) / RATE
    harmonics = np.arange(1, int(6000 / fundamental)) * fundamental
    gains = 1 / (1 + ((harmonics - formant) / 150) ** 2)
    wave = (np.sin(2 * np.pi * harmonics[:, None] * time) * gains[:, None]).sum(0)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def fundamental_of(waveform: np.ndarray) -> float:
    middle = waveform[len(waveform) // 4 : len(waveform) // 4 + 8192]
    product = np.fft.irfft(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 16384)) ** 2)
    low, high = RATE // 400, RATE // 60
    return RATE / (low + int(np.argmax(product[low:high])))


def centre_of(waveform: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return float((np.fft.rfftfreq(len(waveform), 1 / RATE) * power).sum() / power.sum())


def test_pitch_moves_and_formants_and_tempo_stay() -> None:
    before = voice()
    after = sounds.change_voice(before, pitch=1.6)
    assert len(after) == len(before)
    assert fundamental_of(after) == pytest.approx(1.6 * fundamental_of(before), rel=0.04)
    assert centre_of(after) == pytest.approx(centre_of(before), rel=0.2)


def test_formants_move_and_pitch_stays() -> None:
    before = voice()
    after = sounds.change_voice(before, formants=1.3)
    assert fundamental_of(after) == pytest.approx(fundamental_of(before), rel=0.03)
    assert centre_of(after) > 1.12 * centre_of(before)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.5, 1.6), st.integers(400, 30_000))
def test_tempo_sets_the_length_to_the_sample(speed: float, samples: int) -> None:
    after = sounds.change_voice(voice(seconds=2)[:samples], speed=speed, pitch=1.2)
    assert len(after) == max(1, round(samples / speed))
    assert np.isfinite(after).all()


def test_neutral_voice_change_returns_the_sound() -> None:
    before = voice()
    np.testing.assert_allclose(sounds.change_voice(before), before, atol=1e-4)  # STFT and back


def test_noise_has_the_asked_ratio() -> None:
    before = voice()
    noise = sounds.coloured_noise(len(before), np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, rel=0.01)
    after = sounds.add_noise(before, noise, 10.0)
    assert 20 * np.log10(sounds.speech_level(before) / (after - before).std()) == pytest.approx(10, abs=0.1)


def test_speech_level_ignores_pauses() -> None:
    before = voice()
    padded = np.concatenate([np.zeros(len(before) // 2, np.float32), before])
    assert sounds.speech_level(padded) == pytest.approx(sounds.speech_level(before), rel=0.1)


def test_telephone_band_keeps_the_middle_only() -> None:
    power = np.abs(np.fft.rfft(sounds.band(sounds.coloured_noise(RATE, np.random.default_rng(0)), 300, 3400))) ** 2
    inside = power[500:3200].mean()
    assert power[:140].mean() < 1e-3 * inside
    assert power[4400:].mean() < 1e-3 * inside


def test_room_adds_a_tail_but_no_delay() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 1
    wet = sounds.room(click, np.random.default_rng(0))
    assert np.abs(wet[:100]).max() < 1e-6
    assert wet[100] == pytest.approx(1, abs=1e-5)
    assert np.abs(wet[200:1600]).max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        lambda x, g: sounds.room(x, g),
        lambda x, g: sounds.equalise(x, g),
        lambda x, g: sounds.compress(x, g),
        lambda x, g: sounds.babble(len(x), [x, x[::-1]], g),
        lambda x, g: sounds.change_channel(x, g, [x]),
    ],
    ids=["room", "equalise", "compress", "babble", "channel"],
)
def test_same_draw_same_sound(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
    before = voice()
    for seed in range(6):
        one = change(before, np.random.default_rng(seed))
        assert np.array_equal(one, change(before, np.random.default_rng(seed)))
        assert one.dtype == np.float32
        assert one.shape == before.shape
        assert np.isfinite(one).all()
    assert not np.array_equal(one, change(before, np.random.default_rng(99)))


def test_silence_survives_every_channel() -> None:
    for seed in range(10):
        assert np.isfinite(sounds.change_channel(np.zeros(8000, np.float32), np.random.default_rng(seed))).all()
