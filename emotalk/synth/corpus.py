"""Build the puppet corpus: pairs of faces for `neutral2emotion`, of mouths for `refinement`, with the truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from ..config import Neutral2EmotionConfig, RefinementConfig
from ..emotions import EMOTIONS, MAX_INTENSITY, Emotion, condition_vector
from ..errors import InputError
from ..image import read_image
from ..landmarks import CROP_SIZE, LOWER_FACE, LOWER_WINDOW, crop_transform, transform_points
from .expressions import EMOTION_SHAPES, MOUTH_SHAPES, strength
from .puppet import Move, Pose3, Puppet
from .rig import Rig
from .speech import speech_bank

DRAWING = 2  # raise when the same settings draw other pairs: expressions, rig, teeth, light
MAX_WEIGHT = 1.7
MAX_YAW = 25.0  # degrees
BLINK_WEIGHT = 1.4  # closes the lids of every person
OPENING_SHAPES = ("jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthFunnel", "mouthStretch")
MAX_FIT_ERROR = 0.014  # of the head width; above it the landmarks or the fit are wrong
SMALL = Neutral2EmotionConfig().size
WINDOW = RefinementConfig().size
ARRAYS: dict[str, tuple[tuple[int, ...], str]] = {
    # whole face, for neutral2emotion
    "face": ((SMALL, SMALL, 3), "u1"), "face_points": ((68, 2), "f4"), "face_flow": ((SMALL, SMALL, 2), "f2"),
    "face_gain": ((SMALL, SMALL), "f2"), "face_mask": ((SMALL, SMALL), "u1"), "face_colour": ((SMALL, SMALL, 3), "u1"),
    "face_inside": ((SMALL, SMALL), "u1"), "condition": ((12,), "f4"),
    # lower window, for refinement
    "mouth": ((WINDOW, WINDOW, 3), "u1"), "mouth_resting": ((37, 2), "f4"), "mouth_wanted": ((37, 2), "f4"),
    "mouth_flow": ((WINDOW, WINDOW, 2), "f2"), "mouth_gain": ((WINDOW, WINDOW), "f2"),
    "mouth_mask": ((WINDOW, WINDOW), "u1"), "mouth_colour": ((WINDOW, WINDOW, 3), "u1"),
    "mouth_inside": ((WINDOW, WINDOW), "u1"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class PuppetConfig:
    """What the puppet corpus holds."""

    faces: int = 800  # photographs at most; colour first
    per_face: int = 12  # pairs per photograph
    seed: int = 0


@dataclass(frozen=True)
class Photo:
    """One annotated photograph of the `faces/` folder."""

    file: str
    landmarks: np.ndarray
    prior: dict[str, float]
    grey: bool


def read_photos(data: Path, limit: int) -> list[Photo]:
    """The photographs of `data/faces` fit for puppets: permitted, near-frontal, eyes open; colour first.

    Raises:
        InputError: if the folder or its annotations are missing.
    """
    index, notes = data / "faces" / "index.csv", data / "faces" / "annotations.npz"
    if not index.is_file() or not notes.is_file():
        raise InputError(f"no face photographs in {data}; it must hold faces/index.csv and faces/annotations.npz")
    with index.open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    photos = []
    with np.load(notes, allow_pickle=False) as file_:
        names = [str(n) for n in file_["blendshape_names"]]
        for name, landmarks, scores in zip(file_["files"], file_["landmarks68"], file_["blendshapes"], strict=True):
            row = rows.get(str(name))
            if row is None:
                raise InputError(f"{index} has no row for {name}, which {notes.name} describes")
            prior = rig_names(dict(zip(names, scores.tolist(), strict=True)))
            blink = max(prior.get("eyeBlink_L", 0), prior.get("eyeBlink_R", 0))
            if row["train_shipped_weights"] == "yes" and abs(float(row["yaw_deg"])) < MAX_YAW and blink < 0.5:
                photos.append(Photo(str(name), landmarks.astype(np.float64), prior, row["grey"] == "1"))
    photos.sort(key=lambda photo: photo.grey)  # stable: colour first, else in the order of the index
    return photos[:limit]


def read_clip_names(data: Path) -> set[str]:
    """Names of the talking clips of `data/grid` that are for training.

    Raises:
        InputError: if the list or the clips' landmarks are missing.
    """
    split = data / "grid" / "split.csv"
    if not split.is_file() or not (data / "grid" / "landmarks.npz").is_file():
        raise InputError(f"no talking clips in {data}; it must hold grid/split.csv and grid/landmarks.npz")
    with split.open(newline="") as file:
        return {row["clip"] for row in csv.DictReader(file) if row["split"] == "train"}


def rig_names(scores: dict[str, float]) -> dict[str, float]:
    """Blendshape scores by ARKit name -> by rig name."""
    out = {}
    for name, value in scores.items():
        if name == "browInnerUp":
            out["browInnerUp_L"] = out["browInnerUp_R"] = value
        elif name not in ("mouthLeft", "mouthRight", "jawLeft", "jawRight"):
            out[name.replace("Left", "_L").replace("Right", "_R")] = value
    return out


def canonical_crop(image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the canonical crop out of a picture.

    Shape:
        returns: crop (256, 256, 3) uint8, landmarks in it (68, 2), inside (256, 256) uint8: 1 where the picture is.
    """
    matrix = crop_transform(landmarks)
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if zoom < 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.45 / zoom)
    size = (CROP_SIZE, CROP_SIZE)
    crop = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(image.shape[:2], np.uint8), matrix, size, flags=cv2.INTER_NEAREST)
    return crop, transform_points(matrix, landmarks), inside


class PuppetMaker:
    """Draws the pairs of one photograph; everything random comes from (seed, file name order)."""

    def __init__(self, rig: Rig, bank: np.ndarray) -> None:
        self.rig = rig
        self.bank = bank
        self.emotions = {e: rig.weights(EMOTION_SHAPES[e]) for e in EMOTIONS}
        self.visemes = np.stack([rig.weights(shape) for shape in MOUTH_SHAPES.values()])
        self.opening = np.zeros(len(rig.names), bool)
        self.opening[[i for i, n in enumerate(rig.names) if n.startswith(OPENING_SHAPES)]] = True
        self.blink = rig.weights({"eyeBlink": BLINK_WEIGHT})
        self.jaw = rig.names.index("jawOpen")
        self.lids = rig.weights({"eyeSquint": 1.0, "eyeWide": 1.0}) > 0

    def feeling(self, puppet: Puppet, emotion: Emotion, intensity: float, blink: float = 0.0) -> np.ndarray:
        """Rig weights (E,) of this person with this feeling, eyelids closed by `blink`."""
        weights = puppet.rest + strength(intensity) * self.emotions[emotion]
        weights = np.where(self.lids, weights * (1 - blink), weights) + blink * self.blink
        return np.clip(weights, 0, MAX_WEIGHT).astype(np.float32)

    def talking(self, felt: np.ndarray, mouth: np.ndarray) -> np.ndarray:
        """Speech on top of a feeling: the feeling's own opening counts only as far as speech opens the mouth."""
        open_share = np.clip((mouth[self.jaw] + 0.4 * mouth[self.opening].sum()) / 0.25, 0, 1)
        kept = np.where(self.opening, felt * open_share, felt)
        return np.clip(kept + mouth, 0, MAX_WEIGHT).astype(np.float32)

    def mouth(self, rng: np.random.Generator) -> np.ndarray:
        """One mouth shape (E,): real speech, a viseme, or closed."""
        kind = rng.random()
        if kind < 0.12:
            return np.zeros(len(self.rig.names), np.float32)
        if kind < 0.72:
            return self.bank[rng.integers(len(self.bank))] * np.float32(rng.uniform(0.6, 1.4))
        return self.visemes[rng.integers(len(self.visemes))] * np.float32(rng.uniform(0.2, 1.2))

    def wish(self, rng: np.random.Generator) -> tuple[Emotion, float]:
        """A random emotion and intensity; half of them at whole levels."""
        emotion = EMOTIONS[rng.integers(len(EMOTIONS))]
        return emotion, float(rng.integers(1, 4)) if rng.random() < 0.5 else float(rng.uniform(0, MAX_INTENSITY))

    def samples(
        self, puppet: Puppet, grey: bool, inside: np.ndarray, count: int, seed: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """`count` pairs of one puppet as rows of `ARRAYS`."""
        rng = np.random.default_rng(seed)
        shown = puppet.pose(None)
        start, start_image = shown, puppet.image
        for number in range(count):
            if number % 3 == 0:  # a new starting face: the photograph itself, or one with another expression
                if rng.random() < 0.55:
                    start, start_image = shown, puppet.image
                else:
                    other = self.feeling(puppet, *self.wish(rng))
                    other = self.talking(other, self.mouth(rng)) if rng.random() < 0.6 else other
                    start = puppet.pose(other)
                    start_image = _grey(puppet.move(shown, start), grey).apply(puppet.image)
            emotion, intensity = self.wish(rng)
            blink = float(rng.choice([1.0, rng.random()])) if rng.random() < 0.15 else 0.0
            felt = puppet.pose(self.feeling(puppet, emotion, intensity, blink))
            move = _grey(puppet.move(start, felt), grey)
            row = _face_row(start_image, puppet.points68(start), move, inside)
            row["condition"] = np.append(condition_vector(emotion, intensity), np.float32(blink))
            felt_image = move.apply(start_image)
            feeling = self.feeling(puppet, emotion, intensity)
            talk = puppet.pose(self.talking(feeling, self.mouth(rng)))
            row |= _mouth_row(puppet, felt_image, felt, talk, _grey(puppet.move(felt, talk), grey), inside)
            yield row


def _grey(move: Move, grey: bool) -> Move:
    """A grey photograph has a grey mouth."""
    if not grey:
        return move
    value = move.colour @ np.array([0.299, 0.587, 0.114], np.float32)
    return Move(move.flow, move.gain, move.mask, np.repeat(value[..., None], 3, axis=2))


def _face_row(image: np.ndarray, points: np.ndarray, move: Move, inside: np.ndarray) -> dict[str, np.ndarray]:
    step = CROP_SIZE // SMALL

    def small(array: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(array, (0, 0), 0.8)[::step, ::step]

    return {
        "face": small(image), "face_points": (points / step).astype(np.float32),
        "face_flow": (small(move.flow) / step).astype(np.float16), "face_gain": small(move.gain).astype(np.float16),
        "face_mask": _bytes(small(move.mask)), "face_colour": _bytes(small(move.colour)),
        "face_inside": inside[::step, ::step],
    }  # fmt: skip


def _mouth_row(
    puppet: Puppet, image: np.ndarray, resting: Pose3, wanted: Pose3, move: Move, inside: np.ndarray
) -> dict[str, np.ndarray]:
    left, top, side = LOWER_WINDOW
    cut = (slice(top, top + side), slice(left, left + side))
    corner = np.array([left, top])
    return {
        "mouth": image[cut], "mouth_flow": move.flow[cut].astype(np.float16),
        "mouth_gain": move.gain[cut].astype(np.float16), "mouth_inside": inside[cut],
        "mouth_mask": _bytes(move.mask[cut]), "mouth_colour": _bytes(move.colour[cut]),
        "mouth_resting": (puppet.points68(resting)[LOWER_FACE] - corner).astype(np.float32),
        "mouth_wanted": (puppet.points68(wanted)[LOWER_FACE] - corner).astype(np.float32),
    }  # fmt: skip


def _bytes(share: np.ndarray) -> np.ndarray:
    return np.clip(share * 255 + 0.5, 0, 255).astype(np.uint8)


class PuppetCorpus:
    """The corpus on disk: one memory-mapped array per column, rows grouped by photograph, finished ones marked.

    Rows of photograph k are `k * per_face` to `(k + 1) * per_face - 1`; `done[k]` is 1 when they are written, 2 when
    the photograph was unfit.
    """

    def __init__(self, folder: Path, photos: list[Photo], config: PuppetConfig, *, write: bool = False) -> None:
        self.folder = folder
        self.photos = photos
        self.config = config
        rows = len(photos) * config.per_face
        self.arrays = {
            name: _open(folder / f"{name}.npy", (rows, *shape), kind, write) for name, (shape, kind) in ARRAYS.items()
        }
        self.done = _open(folder / "done.npy", (len(photos),), "u1", write)

    @property
    def finished(self) -> np.ndarray:
        """Numbers of the photographs whose rows are written."""
        return np.flatnonzero(np.asarray(self.done) == 1)


def _open(path: Path, shape: tuple[int, ...], kind: str, write: bool) -> np.ndarray:
    if write and not path.exists():
        np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(kind), shape=shape).flush()
    array = np.load(path, mmap_mode="r+" if write else "r", allow_pickle=False)
    if array.shape != shape:
        raise InputError(f"{path} holds {array.shape} values, expected {shape}; remove the folder to build it again")
    return array  # type: ignore[no-any-return]


def open_corpus(data: Path, folder: Path, config: PuppetConfig, *, write: bool = False) -> PuppetCorpus:
    """The corpus in `folder`, made for `config`; created empty when `write` and absent.

    Raises:
        InputError: if the data are missing or the folder holds another corpus.
    """
    photos = read_photos(data, config.faces)
    if write:
        folder.mkdir(parents=True, exist_ok=True)
    about = folder / "corpus.json"
    made_for = asdict(config) | {"drawing": DRAWING}
    if about.is_file():
        if json.loads(about.read_text()) != made_for:
            raise InputError(f"{folder} holds a puppet corpus with other settings; remove it or choose another folder")
    elif write:
        about.write_text(json.dumps(made_for))
    else:
        raise InputError(f"no puppet corpus in {folder}")
    return PuppetCorpus(folder, photos, config, write=write)


def build_corpus(
    data: Path,
    folder: Path,
    config: PuppetConfig,
    *,
    part: int = 0,
    parts: int = 1,
    on_photo: Callable[[], None] | None = None,
) -> PuppetCorpus:
    """Draw what is missing of the corpus; can be stopped and run again, and shared among `parts` processes.

    Args:
        data: folder with faces/, facekit/ and grid/.
        folder: where the arrays go.
        on_photo: called after each photograph.

    Raises:
        InputError: if the data are missing or the folder holds another corpus.
    """
    cv2.setNumThreads(1)
    rig = Rig.load(data / "facekit")
    clips = read_clip_names(data)
    corpus = open_corpus(data, folder, config, write=True)
    maker = PuppetMaker(rig, speech_bank(rig, data / "grid" / "landmarks.npz", clips, config.seed))
    for number, photo in enumerate(corpus.photos):
        if number % parts == part and not corpus.done[number]:
            corpus.done[number] = 1 if _write_photo(corpus, maker, number, photo, data) else 2
        if on_photo is not None:
            on_photo()
    return corpus


def _write_photo(corpus: PuppetCorpus, maker: PuppetMaker, number: int, photo: Photo, data: Path) -> bool:
    crop, points, inside = canonical_crop(read_image(data / "faces" / photo.file), photo.landmarks)
    puppet = Puppet(maker.rig, crop, points, photo.prior)
    if puppet.fit.error > MAX_FIT_ERROR:
        return False
    first = number * corpus.config.per_face
    seed = corpus.config.seed * 1_000_003 + number
    for offset, row in enumerate(maker.samples(puppet, photo.grey, inside, corpus.config.per_face, seed)):
        for name, values in row.items():
            corpus.arrays[name][first + offset] = values
    return True
