"""From photograph and recording to frames, with tiny networks of random weights and a face that is given."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import tiny
import torch

from emotalk import landmarks
from emotalk.conditions import Feeling
from emotalk.config import Audio2LandmarkConfig, PipelineConfig
from emotalk.emotions import Emotion
from emotalk.errors import AudioError, ConfigError, DeviceError, FaceError, InputError, OutputError, WeightsError
from emotalk.expression import Photograph
from emotalk.life import Life
from emotalk.nets.audio2landmark import Audio2Landmark
from emotalk.pipeline import Pipeline
from emotalk.scene import CloseUp, Scene
from emotalk.tracks import Key, Ramp, Track
from emotalk.weights import save_network

HEIGHT, WIDTH = 220, 300


def canonical_face() -> np.ndarray:
    """68 plausible points in the canonical crop, mouth closed."""
    points = np.zeros((68, 2))
    angle = np.linspace(np.pi, 0, 17)
    points[0:17] = np.c_[128 + 72 * np.cos(angle), 95 + 118 * np.sin(angle)]
    points[17:27] = np.c_[np.r_[np.linspace(78, 114, 5), np.linspace(142, 178, 5)], np.full(10, 76.0)]
    points[27:36] = np.r_[
        np.c_[np.full(4, 128.0), np.linspace(92, 132, 4)], np.c_[np.linspace(114, 142, 5), np.full(5, 143.0)]
    ]
    for first, centre in ((36, 96.0), (42, 160.0)):
        turn = np.pi - np.arange(6) * np.pi / 3
        points[first : first + 6] = np.c_[centre + 14 * np.cos(turn), 96 - 6 * np.sin(turn)]
    top, bottom = np.linspace(np.pi, 0, 7), np.linspace(0, np.pi, 7)[1:-1]
    points[48:55] = np.c_[128 + 26 * np.cos(top), 166 - 8 * np.sin(top)]
    points[55:60] = np.c_[128 + 26 * np.cos(bottom), 166 + 12 * np.sin(bottom)]
    points[60:68] = np.c_[[104, 116, 128, 140, 152, 140, 128, 116], np.full(8, 166.0)]
    return points


def placed_face(scale: float = 0.6, degrees: float = 8.0) -> np.ndarray:
    """The same face somewhere in a photograph of 300x220."""
    turn = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (canonical_face() - (128, 140)) @ linear.T + (160, 105)


def photograph() -> np.ndarray:
    noise = np.random.default_rng(0).random((HEIGHT, WIDTH, 3))
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)


def speech(seconds: float = 1.2, rate: int = 16_000) -> tuple[np.ndarray, int]:
    """Bursts of a buzzing tone: something like syllables."""
    at = np.arange(round(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * 140 * k * at) / k for k in range(1, 12))
    return (0.2 * voice * (np.sin(2 * np.pi * 3 * at) > 0)).astype(np.float32), rate


def randomise(module: torch.nn.Module, seed: int, strength: float) -> torch.nn.Module:
    """Weights that say something loud: an untrained head would start as the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith(("head", "lstm")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * strength)
    return module


def any_basis(seed: int) -> landmarks.Basis:
    """Three directions of motion that no face has, each of all 37 points."""
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(74, 3)))[0].T
    return landmarks.Basis(np.zeros(74, np.float32), directions.astype(np.float32), np.full(3, 10.0, np.float32))


def write_weights(folder: Path, seed: int = 0, strength: float = 0.3) -> Path:
    for name in ("neutral2emotion", "audio2landmark", "refinement"):
        config = Audio2LandmarkConfig(components=3, channels=(4, 4), embedding=6, units=5)
        config = config if name == "audio2landmark" else tiny.CONFIGS[name]
        module = randomise(tiny.network(name, seed, config), seed, strength)
        if isinstance(module, Audio2Landmark):
            module.set_basis(any_basis(seed))
        save_network(folder / f"{name}.safetensors", module, config)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def pipe(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setattr(Pipeline, "find_landmarks", lambda self, picture, face_index, name: placed_face())
    return Pipeline("cpu", weights=weights)


def test_a_video_has_the_length_of_the_speech(pipe: Pipeline) -> None:
    for seconds, fps in ((0.8, 25), (0.5, 30), (0.7, 12.5), (0.11, 60)):
        result = pipe.generate(photograph(), speech(seconds), emotion="sad", intensity=3, fps=fps)
        assert result.frame_count == max(1, round(seconds * fps))
        assert result.duration == pytest.approx(result.frame_count / fps)
        assert result.size == (WIDTH, HEIGHT)
        frames = list(result.frames())
        assert len(frames) == result.frame_count
        assert all(frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8 for frame in frames)


def test_whole_levels_of_a_ramp_are_the_plain_command(pipe: Pipeline) -> None:
    """A track that holds happy 2 and passes it is, frame by frame, what happy 2 alone gives."""
    plain = list(pipe.generate(photograph(), speech(1.2), emotion="happy", intensity=2, still=True).frames())
    hold = Track([Key(0.0, Feeling.of("happy", 0)), Key(0.4, Feeling.of("happy", 2)), Key(0.8, Feeling.of("happy", 2))])
    held = list(pipe.generate(photograph(), speech(1.2), track=hold, still=True).frames())
    assert all(np.array_equal(a, b) for a, b in zip(plain[10:], held[10:], strict=True))
    assert not np.array_equal(plain[0], held[0])
    ramp = Track([Key(0.02, Feeling.of("happy", 0)), Key(0.62, Feeling.of("happy", 3)), Key(1.0, Feeling.of("sad", 1))])
    ramped = list(pipe.generate(photograph(), speech(1.2), track=ramp, still=True).frames())
    assert np.array_equal(ramped[10], plain[10])  # 0.42 s
    sad = list(pipe.generate(photograph(), speech(1.2), emotion="sad", intensity=1, still=True).frames())
    assert np.array_equal(ramped[-1], sad[-1])


def test_seeds_decide_what_is_alive(pipe: Pipeline, weights: Path) -> None:
    def frames(seed: int, still: bool = False) -> np.ndarray:
        pipe.seed = seed
        return np.stack(list(pipe.generate(photograph(), speech(2.6), emotion="sad", still=still).frames()))

    first, again, other = frames(3), frames(3), frames(4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(frames(3, still=True), frames(4, still=True))
    assert not np.array_equal(first, frames(3, still=True))


def test_upper_and_lower_face_may_differ(pipe: Pipeline) -> None:
    both = pipe.emotional_face(photograph(), "sad", 3, lower_emotion="happy")
    assert not np.array_equal(both, pipe.emotional_face(photograph(), "sad", 3))
    assert not np.array_equal(both, pipe.emotional_face(photograph(), "happy", 3))
    assert np.array_equal(
        pipe.emotional_face(photograph(), "sad", 3, lower_emotion="sad"), pipe.emotional_face(photograph(), "sad", 3)
    )


def test_every_reading_of_the_frames_starts_anew_and_gives_the_same(pipe: Pipeline) -> None:
    result = pipe.generate(photograph(), speech(0.4))
    first, second = list(result.frames()), list(result.frames())
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({id(frame) for frame in first}) == len(first)


def test_batches_do_not_change_the_frames(pipe: Pipeline, weights: Path) -> None:
    other = Pipeline("cpu", weights=weights, config=PipelineConfig(batch=3))
    ours, theirs = (one.generate(photograph(), speech(0.4), emotion="happy").frames() for one in (pipe, other))
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_no_stage_is_a_formula_in_disguise(pipe: Pipeline, tmp_path: Path) -> None:
    """Replace the weights of one network by others: the video must change, whichever network it is."""
    wish = {"emotion": "happy", "intensity": 3}
    before = np.stack(list(pipe.generate(photograph(), speech(0.4), **wish).frames())).astype(int)
    assert np.abs(before - photograph()).mean() > 1  # random weights are visibly wrong
    other = write_weights(tmp_path, seed=1)
    for name in ("neutral2emotion", "audio2landmark", "refinement"):
        mixed = Pipeline("cpu", weights=other / f"{name}.safetensors")
        for rest in {"neutral2emotion", "audio2landmark", "refinement"} - {name}:
            mixed._networks[rest] = pipe.network(rest)
        after = np.stack(list(mixed.generate(photograph(), speech(0.4), **wish).frames())).astype(int)
        assert np.abs(after - before).max() > 20, name


def test_pixels_away_from_the_head_are_those_of_the_photograph(pipe: Pipeline) -> None:
    picture = photograph()
    crop = landmarks.crop_transform(placed_face())
    inside = cv2.warpAffine(np.ones((256, 256), np.uint8), crop, (WIDTH, HEIGHT), flags=cv2.WARP_INVERSE_MAP)
    assert 0.05 < (inside == 0).mean() < 0.9
    for frame in pipe.generate(picture, speech(0.4), emotion="angry", intensity=3, still=True).frames():
        assert np.array_equal(frame[inside == 0], picture[inside == 0])
    head = CloseUp(pipe.find(picture)).head
    inside[head.rows, head.columns] = 1
    assert (inside == 0).mean() > 0.05
    for frame in pipe.generate(picture, speech(0.4), emotion="angry", intensity=3).frames():
        assert np.array_equal(frame[inside == 0], picture[inside == 0])


def test_speech_and_emotion_and_intensity_reach_the_frames(pipe: Pipeline) -> None:
    picture = photograph()
    faces = {e: pipe.emotional_face(picture, e, 3).astype(int) for e in (Emotion.SAD, Emotion.HAPPY)}
    assert np.abs(faces[Emotion.SAD] - faces[Emotion.HAPPY]).max() > 2
    assert np.abs(faces[Emotion.SAD] - pipe.emotional_face(picture, "sad", 1.5)).max() > 2
    assert np.array_equal(faces[Emotion.SAD], pipe.emotional_face(picture, "unhappy", 3.0))
    assert np.array_equal(pipe.emotional_face(picture, "sad", 0), pipe.emotional_face(picture, "neutral", 2))
    frames = np.stack(list(pipe.generate(picture, speech(0.8), emotion="sad").frames())).astype(int)
    assert np.ptp(frames, axis=0).max() > 10


def test_the_network_sees_what_it_was_trained_on(pipe: Pipeline) -> None:
    """The lower window with its own lines: a line drawn on the photograph's jaw lies under the drawn jaw."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    jaw = (placed_face()[:17] * 16).round().astype(np.int32)
    cv2.polylines(picture, [jaw.reshape(-1, 1, 2)], False, (255, 255, 255), 2, cv2.LINE_AA, 4)
    found = pipe.find(picture)
    assert np.allclose(found.points, canonical_face(), atol=6)  # the alignment is a least-squares fit
    face = pipe.expressions(found).prepare(picture, found.points)
    size = face.window.shape[-1]
    x, y = ((found.points[3:14] - (48, 96)) * (size / 160)).round().astype(int).T
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    assert inside.sum() >= 9
    assert face.window[0, y[inside], x[inside]].mean() > -0.2
    assert face.window[0].mean() < -0.8
    assert face.resting[0, y[inside], x[inside]].mean() > 0.2


@pytest.mark.parametrize("form", ["wav", "stereo", "int16", "44100"])
def test_sound_as_array_or_file(pipe: Pipeline, tmp_path: Path, form: str) -> None:
    samples, rate = speech(0.6, 44_100 if form == "44100" else 16_000)
    source: Any = (samples, rate)
    if form == "wav":
        source = tmp_path / "speech.wav"
        soundfile.write(source, samples, rate)
    elif form == "stereo":
        source = (np.stack([samples, samples], 1), rate)
    elif form == "int16":
        source = ((samples * 32767).astype(np.int16), rate)
    assert pipe.generate(photograph(), source).frame_count == 15


def test_save_writes_a_video_with_sound(pipe: Pipeline, tmp_path: Path) -> None:
    from emotalk.video import probe, read_frames

    result = pipe.generate(photograph(), speech(0.6), emotion="surprised", intensity=3)
    seen: list[int] = []
    path = result.save(tmp_path / "out.mp4", on_frame=seen.append)
    assert seen == list(range(1, 16))
    info = probe(path)
    assert (info.width, info.height, info.has_sound) == (WIDTH, HEIGHT, True)
    assert abs(info.duration - 0.6) < 1 / 25
    for written, made in zip(read_frames(path), result.frames(), strict=True):
        assert np.abs(written.astype(int) - made).mean() < 10  # H.264, and colour at half resolution
    with pytest.raises(OutputError, match="exists"):
        result.save(path)
    result.save(path, overwrite=True)


def test_an_interrupted_save_leaves_nothing(pipe: Pipeline, tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.generate(photograph(), speech(0.6)).save(tmp_path / "out.mp4", on_frame=stop)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_length(pipe: Pipeline) -> None:
    """Frames of many seconds are made with the memory of two seconds: nothing keeps them."""

    def peak(seconds: int) -> int:
        frames = seconds * 25
        life = Life(np.full(frames, 0.6), np.full(frames, 0.6), np.ones((frames, 6)))
        track = Ramp(Feeling.of("happy", 1), Feeling.of("happy", 3)).over(seconds)
        moves = np.zeros((frames, 37, 2))
        scene = Scene(close_up, pipe.expressions(close_up.part), track, moves, life, 25.0)
        gc.collect()
        tracemalloc.start()
        for _ in pipe.animate(scene):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    small = cv2.resize(photograph(), (WIDTH // 2, HEIGHT // 2))
    found = Photograph(small, landmarks.crop_transform(placed_face() / 2), canonical_face())
    close_up = CloseUp(found)
    short = peak(2)
    assert short > small.nbytes
    assert peak(16) < 1.2 * short + 100_000


def test_a_reader_that_stops_early_leaves_no_thread(pipe: Pipeline) -> None:
    import threading

    frames: Iterator[np.ndarray] = pipe.generate(photograph(), speech(1.0)).frames()
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frames")]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"face": np.zeros((80, 80), np.uint8)}, InputError, "uint8 RGB"),
        ({"face": np.zeros((80, 80, 3), np.float32)}, InputError, "float32"),
        ({"face": "missing.jpg"}, InputError, "missing.jpg"),
        ({"speech": "missing.wav"}, AudioError, "missing.wav"),
        ({"speech": (np.zeros(16_000, np.float32), 16_000)}, AudioError, "silent"),
        ({"speech": (np.full(16_000, np.nan, np.float32), 16_000)}, AudioError, "NaN"),
        ({"speech": (np.zeros(0, np.float32), 16_000)}, AudioError, "shape"),
        ({"speech": (np.ones(16_000, np.float32), 0)}, AudioError, "rate"),
        ({"emotion": "hapy"}, ConfigError, "happy"),
        ({"intensity": 7}, ConfigError, "7"),
        ({"fps": 0}, ConfigError, "fps"),
        ({"lower_emotion": "hapy"}, ConfigError, "happy"),
        ({"track": "missing.csv"}, InputError, "missing.csv"),
        ({"track": Track([Key(3.0, Feeling.of("sad", 2))])}, InputError, "after the end"),
    ],
)
def test_bad_input_is_refused_before_any_weights_are_loaded(
    pipe: Pipeline, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    arguments = {"face": photograph(), "speech": speech(0.4), **change}
    with pytest.raises(error, match=text) as caught:
        pipe.generate(arguments.pop("face"), arguments.pop("speech"), **arguments)
    assert "\n" not in str(caught.value)
    assert pipe._networks == {}


def test_bad_pipelines() -> None:
    with pytest.raises(DeviceError, match="gpu"):
        Pipeline("gpu")
    with pytest.raises(WeightsError, match="nowhere"):
        Pipeline(weights="nowhere")
    with pytest.raises(ConfigError, match="landmarks"):
        Pipeline(landmarks="dlib")
    with pytest.raises(ConfigError, match="batch"):
        PipelineConfig(batch=0)


def test_no_face_names_the_picture(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(self: Pipeline, picture: np.ndarray, face_index: int, name: str) -> np.ndarray:
        raise FaceError(f"no face found in {name}")

    monkeypatch.setattr(Pipeline, "find_landmarks", nobody)
    with pytest.raises(FaceError, match="the picture"):
        Pipeline("cpu", weights=weights).generate(photograph(), speech(0.4))


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_runs_out_is_a_device_error(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise problem

    result = pipe.generate(photograph(), speech(0.4))
    monkeypatch.setattr(pipe, "_edits", fail)
    with pytest.raises(DeviceError, match="memory"):
        next(result.frames())
    with pytest.raises(DeviceError, match="memory"):
        pipe.emotional_face(photograph())


def test_a_bug_is_not_hidden_as_lack_of_memory(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(pipe, "_edits", fail)
    with pytest.raises(RuntimeError, match="something else"):
        pipe.emotional_face(photograph())


@pytest.mark.parametrize("name", ["neutral2emotion", "refinement"])
def test_networks_made_faster_say_the_same(name: str) -> None:
    from emotalk.nets.inference import for_inference

    network = randomise(tiny.network(name), 0, 0.3)
    for key, buffer in network.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(1)) + 0.5)
    inputs = tiny.inputs(name, 2)
    with torch.inference_mode():
        before = network(*inputs)
        after = for_inference(network, half=False)(*inputs)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_half_precision_cannot_be_seen(pipe: Pipeline, weights: Path) -> None:
    exact = Pipeline("cpu", weights=weights, config=PipelineConfig(half=False))
    assert not exact.half
    pipe.half = True  # whatever this processor is fast at
    ours, theirs = (one.generate(photograph(), speech(0.3), emotion="happy").frames() for one in (pipe, exact))
    apart = np.abs(np.stack(list(ours)).astype(int) - np.stack(list(theirs)))
    assert apart.max() <= 6
    assert apart.mean() < 0.1
