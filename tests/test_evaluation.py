"""What is compared with what, and whether videos changed by a known amount get the numbers they must."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_metrics import drawn_face

from emotalk.emotions import EMOTIONS, Emotion
from emotalk.errors import ConfigError, InputError, WeightsError
from emotalk.evaluation import measure
from emotalk.evaluation.clip import Clip
from emotalk.evaluation.items import Item, Plan, match, plan, read_manifest, wish_of_name
from emotalk.evaluation.judge import HSEmotion
from emotalk.evaluation.measure import Evaluator, Measured
from emotalk.evaluation.summary import CSV_COLUMNS, Evaluation, csv_rows, intensity_order
from emotalk.face import Face, bounding_box
from emotalk.image import read_image
from emotalk.metrics import METRICS
from emotalk.result import write_sound
from emotalk.video import VideoWriter, read_frames

RATE = 16_000


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(b"x")
    return paths


@pytest.mark.parametrize(
    ("stem", "wish"),
    [
        ("sample_face_sample_speech_sad3", (Emotion.SAD, 3.0)),
        ("mead_W009_disgusted_L2", (Emotion.DISGUSTED, 2.0)),
        ("M030_front_angry_level3_001", (Emotion.ANGRY, 3.0)),
        ("anna_happy1.5", (Emotion.HAPPY, 1.5)),
        ("happy_talk_neutral", (Emotion.NEUTRAL, None)),
        ("confidence_2", None),
        ("none", (Emotion.NEUTRAL, None)),
        ("clip_001", None),
    ],
)
def test_the_name_may_say_the_wish(stem: str, wish: tuple[Emotion, float | None] | None) -> None:
    assert wish_of_name(stem) == wish


def test_partners_are_found_by_name(tmp_path: Path) -> None:
    videos = touch(tmp_path / "ours", "anna_sad3.mp4", "joanna_sad3.mp4", "W009_01_happy.mp4", "lonely.mp4")
    real = touch(tmp_path / "real", "anna.mp4", "W009.mp4", "W009_01.mp4", "lonely2.mp4")
    assert match(videos, real, one_for_all=False) == [real[0], None, real[2], None]
    assert match(videos[:1], real[1:2], one_for_all=False) == [real[1]]
    assert match(videos, real[1:2], one_for_all=True) == [real[1]] * 4


def test_a_plan_lists_every_name_without_partner(tmp_path: Path) -> None:
    touch(tmp_path / "ours", "a.mp4", "b.mp4", "notes.txt")
    touch(tmp_path / "real", "a.mp4", "c.mp4")
    touch(tmp_path / "photos", "b.png", "a.jpg")
    made = plan([tmp_path / "ours"], [tmp_path / "real"], [tmp_path / "photos"], "joy", 2)
    assert [item.video.name for item in made.items] == ["a.mp4", "b.mp4"]
    assert made.items[0].reference == tmp_path / "real" / "a.mp4"
    assert made.items[1].reference is None
    assert [item.source.name for item in made.items if item.source] == ["a.jpg", "b.png"]
    assert {item.emotion for item in made.items} == {"happy"}
    assert len(made.unmatched) == 2
    assert "no reference has the name of" in made.unmatched[0] and "b.mp4" in made.unmatched[0]
    assert "c.mp4 belongs to no video" in made.unmatched[1]


def test_plans_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no video"):
        plan([tmp_path])
    with pytest.raises(InputError, match="no video was given"):
        plan([])
    with pytest.raises(ConfigError, match="unknown emotion"):
        plan([tmp_path / "a.mp4"], emotion="bored")
    with pytest.raises(ConfigError, match="between 0"):
        plan([tmp_path / "a.mp4"], intensity=4)


def test_manifests_of_both_kinds(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "face.jpg")
    table = tmp_path / "batch.csv"
    table.write_text(
        "output,face,emotion,intensity,seconds\na.mp4,face.jpg,anger,2,1.5\nb_sad1.mp4,,,,\nc.mp4,,x,2,\n,,,,\n"
    )
    items = read_manifest(table).items
    assert items[0] == Item(tmp_path / "a.mp4", source=tmp_path / "face.jpg", emotion="angry", intensity=2.0)
    assert items[1] == Item(Path("b_sad1.mp4"), emotion="sad", intensity=1.0)
    assert "line 4: unknown emotion 'x'" in str(items[2].problem)
    assert "line 5 names no video" in str(items[3].problem)
    lines = tmp_path / "batch.jsonl"
    lines.write_text(json.dumps({"output": "a.mp4", "emotion": "fear", "intensity": 3}) + "\n\n{broken\n")
    items = read_manifest(lines).items
    assert items[0].emotion == "fear" and items[0].video == tmp_path / "a.mp4"
    assert "line 3 is no JSON object" in str(items[1].problem)


@pytest.mark.parametrize("text", ["", "name,emotion\nx,sad\n", "video\n"])
def test_manifests_without_videos_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match="manifest"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"video\n\xff\xfe\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_manifest(tmp_path / "m.csv")


@pytest.fixture
def face() -> np.ndarray:
    return drawn_face()


class FakeFinder:
    """Knows where the face is: the picture's upper left pixel tells the frame's number and the opening of the mouth."""

    def __init__(self, face: np.ndarray) -> None:
        self.face = face

    def _face(self, frame: np.ndarray) -> Face | None:
        if frame[4, 4].max() < 8:  # a black picture shows nobody
            return None
        opening = float(frame[4, 4, 0]) / 8
        points = self.face.copy()
        points[[55, 56, 57, 58, 59, 65, 66, 67], 1] += opening
        return Face(points, bounding_box(points), 1.0)

    def track(self, frames: Iterable[np.ndarray]) -> Iterator[Face | None]:
        yield from map(self._face, frames)

    def one(self, picture: np.ndarray, index: int = 1, name: str = "") -> Face:
        return Face(self.face, bounding_box(self.face), 1.0)


class FakeListener:
    """Expects what the marker pixel of `expected` frames says."""

    def __init__(self, levels: np.ndarray) -> None:
        self.levels = levels

    def opening(self, clip: Clip) -> np.ndarray:
        return np.resize(self.levels, clip.frames)


@pytest.fixture
def levels() -> np.ndarray:
    smooth = np.convolve(np.random.default_rng(3).random(36), [0.25, 0.5, 0.25], "same")
    return (20 + 220 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


@pytest.fixture
def film(tmp_path: Path, sample_face: Path, levels: np.ndarray) -> Callable[..., Path]:
    """Write a video of the sample portrait whose marker moves with `levels`, changed as asked."""
    portrait = cv2.resize(read_image(sample_face), (256, 256), interpolation=cv2.INTER_AREA)

    def write(
        name: str, late: int = 0, fps: float = 25, sound: bool = False, black: bool = False,
        change: Callable[[np.ndarray], np.ndarray] = lambda picture: picture, frames: int = 36,
    ) -> Path:  # fmt: skip
        path = tmp_path / name
        speech = tmp_path / "speech.wav"
        if sound:
            times = np.arange(int(RATE * frames / fps))
            write_sound(speech, np.sin(times / 8) * np.repeat(levels, RATE)[: len(times)] / 512, RATE)
        first = change(portrait)
        height, width = first.shape[:2]
        with VideoWriter(path, width, height, fps, speech if sound else None) as writer:
            for index in range(frames):
                picture = change(portrait.copy())
                picture[:12, :12] = levels[(index - late) % len(levels)]
                writer.write(np.zeros_like(picture) if black else picture)
        return path

    return write


@pytest.fixture
def evaluator(face: np.ndarray, levels: np.ndarray) -> Evaluator:
    made = Evaluator.__new__(Evaluator)
    made._finder = FakeFinder(face)  # type: ignore[assignment]
    made._listener = FakeListener(levels.astype(float))  # type: ignore[assignment]
    made.judge = None
    made.landmarks = "shipped"
    made._sources, made._real = {}, {}
    return made


def measured(evaluator: Evaluator, item: Item) -> Measured:
    video, _ = evaluator.measure(item)
    assert video.error is None
    return video


def test_a_video_against_itself_is_perfect(evaluator: Evaluator, film: Callable[..., Path]) -> None:
    path = film("a.mp4", frames=12)
    values = measured(evaluator, Item(path, path)).values
    assert values["psnr"] == values["psnr_full"] == measure.IDENTICAL_DB
    assert values["ssim"] == values["ssim_full"] == 1.0
    for key in ("m_lmd", "f_lmd", "lvd", "m_lmd_scaled", "f_lmd_scaled", "lvd_scaled", "length_difference"):
        assert values[key] == 0
    for key in ("jitter_ratio", "sharpness_ratio", "opening_correlation"):
        assert values[key] == pytest.approx(1)


def test_blur_shift_and_delay_are_seen_by_what_should_see_them(evaluator: Evaluator, film: Callable[..., Path]) -> None:
    real = film("real.mp4", frames=12)
    soft = measured(
        evaluator, Item(film("b.mp4", frames=12, change=lambda p: cv2.GaussianBlur(p, (0, 0), 2)), real)
    ).values
    assert soft["psnr"] < 40 and soft["ssim"] < 0.95 and soft["sharpness_ratio"] < 0.5
    assert soft["m_lmd"] < 0.1
    late = [measured(evaluator, Item(film(f"d{k}.mp4", late=k, frames=12), real)).values for k in (1, 3)]
    assert all(one["m_lmd"] > 0.3 and one["lvd"] > 0.1 for one in late)
    assert late[0]["opening_correlation"] > late[1]["opening_correlation"]
    shifted = measured(evaluator, Item(film("s.mp4", frames=12, change=lambda p: np.roll(p, 6, 1)), real)).values
    assert shifted["psnr_full"] < 25 and shifted["ssim_full"] < 0.9


def test_sizes_lengths_and_rates_may_differ(evaluator: Evaluator, film: Callable[..., Path]) -> None:
    real = film("real.mp4", fps=50)
    video = measured(evaluator, Item(film("a.mp4", frames=20, change=lambda p: p[:200]), real))
    assert "psnr_full" in video.missing and "256x200, 256x256" in video.missing["psnr_full"]
    assert video.values["length_difference"] == pytest.approx(0.8 - 0.72, abs=0.05)
    assert "m_lmd" in video.values and "psnr" in video.values


def test_the_true_track_beats_every_shifted_one(evaluator: Evaluator, film: Callable[..., Path]) -> None:
    found = [measured(evaluator, Item(film(f"{k}.mp4", late=k, sound=True))).values for k in range(4)]
    assert all(found[0]["sync_correlation"] > other["sync_correlation"] for other in found[1:])
    assert [one["sync_lag"] for one in found] == [0, 40, 80, 120]
    assert found[0]["sound_difference"] == pytest.approx(0, abs=0.08)


def test_what_is_missing_says_why(evaluator: Evaluator, film: Callable[..., Path], sample_face: Path) -> None:
    video = measured(evaluator, Item(film("a.mp4")))
    assert set(video.values) | set(video.missing) | {"intensity_order", "emotion_accuracy"} == set(METRICS)
    assert not set(video.values) & set(video.missing)
    assert video.missing["psnr"] == measure.NO_REFERENCE
    assert video.missing["sync_lag"] == "no sound track"
    assert video.missing["strength"] == measure.NO_SOURCE
    video = measured(evaluator, Item(film("a.mp4"), source=sample_face))
    assert video.values["strength"] == pytest.approx(0, abs=3) and "sharpness_ratio" in video.values
    assert "drift" in measured(evaluator, Item(film("b.mp4", sound=True))).missing


def test_one_broken_file_does_not_stop_the_rest(
    evaluator: Evaluator, film: Callable[..., Path], tmp_path: Path
) -> None:
    good, black = film("good.mp4"), film("black.mp4", black=True)
    (broken,) = touch(tmp_path, "broken.mp4")
    items = [
        Item(good),
        Item(broken),
        Item(black),
        Item(tmp_path / "absent.mp4"),
        Item(good, broken),
        Item(good, source=broken),
        Item(Path("m.csv, line 3"), problem="m.csv, line 3 names no video"),
    ]
    pairs = [evaluator.measure(item) for item in items]
    result = Evaluation(Plan(items), [video for video, _ in pairs], [r for _, r in pairs if r], None, "shipped")
    errors = [video.error for video, _ in pairs]
    assert errors[0] is None and errors[4] is None
    assert "no picture that can be decoded" in str(errors[1])
    assert "shows no face in any of its 36 frames" in str(errors[2])
    assert "does not exist" in str(errors[3])
    assert errors[5] is not None and "names no video" in str(errors[6])
    assert len(result.measured) == 2 and len(result.failures) == 6
    assert "the reference cannot be used" in pairs[4][0].missing["psnr"]
    facts = json.loads(json.dumps(result.as_facts(), allow_nan=False))
    assert facts["total"]["faces"]["count"] == 2 and facts["total"]["psnr"]["mean"] is None
    assert facts["total"]["psnr"]["missing"] and facts["not_computed"]["fid"]["reason"]
    assert len(facts["failures"]) == 6
    rows = csv_rows(result)
    assert len(rows) == 8 and all(set(row) <= set(CSV_COLUMNS) for row in rows)


def test_real_videos_have_a_row_of_their_own(evaluator: Evaluator, film: Callable[..., Path]) -> None:
    path, real = film("a.mp4", late=2, frames=12), film("real.mp4", frames=12)
    video, beside = evaluator.measure(Item(path, real, emotion="sad", intensity=2.0))
    assert beside is not None
    again = evaluator.measure(Item(path, real))[1]
    assert again is beside  # read once
    result = Evaluation(Plan([video.item]), [video], [beside], None, "shipped")
    facts = result.as_facts()
    assert facts["total"]["jitter"]["real"] > 0 and facts["total"]["jitter"]["real_count"] == 1
    assert list(result.by_emotion()) == ["sad"]


def test_photographs_do_not_pile_up(evaluator: Evaluator, sample_face: Path, tmp_path: Path) -> None:
    for number in range(measure.MOST_SOURCES + 3):
        (tmp_path / f"{number}.jpg").write_bytes(sample_face.read_bytes())
        evaluator._source(tmp_path / f"{number}.jpg")
    assert len(evaluator._sources) == measure.MOST_SOURCES


def test_background_is_held_against_the_photograph(
    evaluator: Evaluator,
    film: Callable[..., Path],
    face: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = face / 4 + (96, 150)  # room around the head
    monkeypatch.setattr(evaluator, "_finder", FakeFinder(small))
    still = measured(evaluator, Item(film("a.mp4"))).values["background"]
    assert still < 3  # the marker, and nothing else

    def noisy(picture: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(int(picture.sum() + noisy.calls)).integers(0, 120, (64, 64, 3))  # type: ignore[attr-defined]
        noisy.calls += 1  # type: ignore[attr-defined]
        return cv2.add(picture, cv2.resize(noise.astype(np.uint8), (256, 256)))

    noisy.calls = 0  # type: ignore[attr-defined]
    assert measured(evaluator, Item(film("n.mp4", change=noisy))).values["background"] > 30


class FakeJudge:
    name = "fake"

    def __init__(self, said: Emotion) -> None:
        self.said = said

    def __call__(self, faces: list[np.ndarray]) -> np.ndarray:
        return np.eye(len(EMOTIONS))[[self.said.index] * len(faces)]


def test_a_judge_fills_accuracy_and_confusion(evaluator: Evaluator, film: Callable[..., Path]) -> None:
    videos = []
    for wished, said in ((Emotion.SAD, Emotion.SAD), (Emotion.FEAR, Emotion.SURPRISED)):
        evaluator.judge = FakeJudge(said)
        videos.append(measured(evaluator, Item(film("a.mp4", frames=8), emotion=wished.value)))
    result = Evaluation(Plan([]), videos, [], "fake", "shipped")
    assert result.totals()["emotion_accuracy"].mean == 50
    matrix = result.confusion()
    assert matrix is not None and matrix.sum() == 2
    assert matrix[Emotion.FEAR.index, Emotion.SURPRISED.index] == 1
    assert "emotion_accuracy" not in result.reasons()


def test_intensity_order_compares_only_what_is_comparable() -> None:
    def video(strength: float, emotion: str, intensity: float | None, source: str = "a.jpg") -> Measured:
        item = Item(Path("v.mp4"), source=Path(source), emotion=emotion, intensity=intensity)
        return Measured(item, item.video, {"strength": strength})

    assert intensity_order([video(1, "sad", 1), video(2, "sad", 2), video(1.5, "sad", 3)]) == (2, 3)
    assert intensity_order([video(1, "sad", 1), video(2, "happy", 2), video(3, "sad", 2, "b.jpg")]) == (0, 0)
    assert intensity_order([video(1, "sad", None), video(2, "sad", 2)]) == (0, 0)


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer."""

    def varint(rest: int) -> bytes:
        return bytes([rest]) if rest < 128 else bytes([rest & 127 | 128]) + varint(rest >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_network(classes: int) -> bytes:
    """Mean colour -> logits: red for class 0, green for class 4, blue for class 6, in HSEmotion's order."""

    def tensor(name: str, array: np.ndarray) -> bytes:
        dims = b"".join(field(1, size) for size in array.shape)
        return dims + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())

    def node(kind: str, inputs: list[str], output: str) -> bytes:
        return b"".join(field(1, name) for name in inputs) + field(2, output) + field(3, output) + field(4, kind)

    def value(name: str, *shape: int) -> bytes:
        dims = b"".join(field(1, field(1, size)) for size in shape)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    weights = np.zeros((3, classes))
    weights[[0, 1, 2], [0, 4, 6]] = 1
    nodes = [
        node("GlobalAveragePool", ["x"], "pooled"),
        node("Flatten", ["pooled"], "flat"),
        node("Gemm", ["flat", "w", "b"], "y"),
    ]
    graph = b"".join(field(1, one) for one in nodes) + field(2, "g")
    graph += field(5, tensor("w", weights)) + field(5, tensor("b", np.zeros(classes)))
    graph += field(11, value("x", 1, 3, 224, 224)) + field(12, value("y", 1, classes))
    return field(1, 7) + field(7, graph) + field(8, field(2, 11))


@pytest.mark.parametrize("classes", [8, 10])
def test_the_emotion_network_is_asked_in_its_own_order(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "enet.onnx"
    path.write_bytes(onnx_network(classes))
    judge = HSEmotion(path)
    assert judge.name.startswith("enet.onnx as HSEmotion, sha256 ")
    faces = [np.eye(3, dtype=np.uint8)[[[channel] * 50] * 40] * 255 for channel in range(3)]
    logits = judge(faces)
    assert logits.shape == (3, 8)
    assert [EMOTIONS[k] for k in logits.argmax(1)] == [Emotion.ANGRY, Emotion.HAPPY, Emotion.SAD]
    red = (1 - 0.485) / 0.229
    assert logits[0, Emotion.ANGRY.index] == pytest.approx(red, rel=1e-3)


def test_a_network_of_other_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seven.onnx"
    path.write_bytes(onnx_network(7))
    with pytest.raises(WeightsError, match="eight emotions"):
        HSEmotion(path)


def test_a_file_that_is_no_emotion_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        HSEmotion(tmp_path / "absent.onnx")
    (path,) = touch(tmp_path, "x.onnx")
    with pytest.raises(WeightsError, match="no ONNX network"):
        HSEmotion(path)


def test_a_file_cut_short_is_warned_about(
    evaluator: Evaluator, film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film("a.mp4")
    probe = measure.read_clip

    def long(*words: object, **options: object) -> Clip:
        clip = probe(*words, **options)  # type: ignore[arg-type]
        return replace(clip, info=replace(clip.info, duration=9.0))

    monkeypatch.setattr(measure, "read_clip", long)
    assert "cut short" in measured(evaluator, Item(path)).warnings[0]
    assert sum(1 for _ in read_frames(path)) == 36
