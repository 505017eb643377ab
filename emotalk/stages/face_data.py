"""Photographs and clips with landmarks, and the random pictures that the face networks learn from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from ..errors import InputError
from ..face import MIRROR, eye_distance, fine_transform, five_points, mirror_points
from ..landmarks import LEFT_EYE, MOUTH, RIGHT_EYE, mouth_opening, transform_points
from .split import is_dev

TOP_EYES = 64.0  # pixels between the eyes in the largest stored copy of a picture
COPIES = 4  # stored copies, each half the one before
GUESSED = 0.08  # weight of a point that lies outside the photograph


@dataclass(frozen=True)
class Sample:
    """One annotated picture, in several sizes.

    Shape:
        pictures:  (h, w, 3) uint8 RGB each, halved from one to the next.
        landmarks: (68, 2) pixels of `pictures[0]`.
        weights:   (68,) 1 inside the photograph, `GUESSED` outside.
    """

    name: str
    pictures: tuple[np.ndarray, ...]
    landmarks: np.ndarray
    weights: np.ndarray
    grey: bool
    share: float  # how often it is drawn, relative to others


def shrink(picture: np.ndarray, landmarks: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale a picture down by area averaging, and its landmarks with it; pixel centres lie at integers."""
    height, width = picture.shape[:2]
    size = max(8, round(width * factor)), max(8, round(height * factor))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    scale = np.array(size) / (width, height)
    return small, (landmarks + 0.5) * scale - 0.5


def make_sample(name: str, picture: np.ndarray, landmarks: np.ndarray, *, grey: bool, share: float) -> Sample:
    """Store a picture at `COPIES` sizes, the largest with `TOP_EYES` pixels between the eyes at most."""
    height, width = picture.shape[:2]
    inside = ((landmarks >= 1) & (landmarks <= (width - 2, height - 2))).all(1)
    points = landmarks.astype(np.float64)
    distance = eye_distance(points)
    if distance > TOP_EYES:
        picture, points = shrink(picture, points, TOP_EYES / distance)
    pictures = [picture]
    for _ in range(COPIES - 1):
        pictures.append(shrink(pictures[-1], points, 0.5)[0])
    return Sample(name, tuple(pictures), points, np.where(inside, 1.0, GUESSED), grey, share)


def read_photographs(folder: Path) -> tuple[list[Sample], list[Sample]]:
    """Annotated still pictures of `folder` (index.csv, annotations.npz): those to train on, those kept out.

    Raises:
        InputError: if the folder does not hold what is expected.
    """
    index, annotations = folder / "index.csv", folder / "annotations.npz"
    if not index.is_file() or not annotations.is_file():
        raise InputError(f"{folder} holds no index.csv and annotations.npz; give the folder above faces/")
    with index.open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    with np.load(annotations, allow_pickle=False) as data:
        files, landmarks = data["files"], data["landmarks68"]
    train, dev = [], []
    for name, points in zip(files.tolist(), landmarks, strict=True):
        row = rows[name]
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise InputError(f"{folder / name} cannot be read as a picture")
        grey = row["grey"] == "1"
        share = 12.0 if row["kind"] == "portrait" else 2.0 if not grey else 1.5 if row["chin_inside"] == "yes" else 1.0
        opening = float(mouth_opening(points.astype(np.float64))) / eye_distance(points)
        share *= 1 + 3 * min(1.0, opening / 0.5)  # wide open mouths are rare in photographs and common in speech
        sample = make_sample(name, picture, points, grey=grey, share=share)
        if row["train_shipped_weights"] != "yes" or is_dev(name):
            dev.append(sample)
        else:
            train.append(sample)
    return train, dev


def choose_frames(landmarks: np.ndarray, valid: np.ndarray, count: int) -> list[int]:
    """Frames of a clip with mouths as different as possible, taken where the mouth hardly moves.

    The teacher follows fast motion a little late, so frames in fast motion carry wrong labels.
    """
    speed = np.abs(np.gradient(landmarks[:, MOUTH].astype(np.float64), axis=0)).mean((1, 2))
    usable = np.flatnonzero(valid & np.roll(valid, 1) & np.roll(valid, -1))
    if len(usable) < count:
        return []
    calm = usable[speed[usable] <= np.quantile(speed[usable], 0.6)]
    order = calm[np.argsort(mouth_opening(landmarks[calm].astype(np.float64)))]
    return sorted({int(order[i]) for i in np.linspace(0, len(order) - 1, count).round().astype(int)})


def read_clips(folder: Path, *, frames: int, split: str, limit: int | None = None) -> list[Sample]:
    """A few frames of each talking clip of `folder` (clips/, split.csv, landmarks.npz); empty if there is no folder."""
    if not (folder / "landmarks.npz").is_file():
        return []
    with (folder / "split.csv").open(newline="") as file:
        wanted = [row["clip"] for row in csv.DictReader(file) if row["split"] == split]
    with np.load(folder / "landmarks.npz", allow_pickle=False) as data:
        clips, landmarks, valid = data["clips"].tolist(), data["landmarks68"], data["valid"]
    samples = []
    for name in wanted[:limit]:
        row = clips.index(name)
        chosen = choose_frames(landmarks[row], valid[row], frames)
        video = cv2.VideoCapture(str(folder / "clips" / f"{name}.mp4"))
        for number in range(max(chosen, default=-1) + 1):
            read, frame = video.read()
            if not read:
                break
            if number in chosen:
                picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                points = landmarks[row, number].astype(np.float64)
                samples.append(make_sample(f"{name}/{number}", picture, points, grey=False, share=1.0))
        video.release()
    return samples


def smooth_noise(rng: Generator, height: int, width: int, cells: int, channels: int = 3) -> np.ndarray:
    """Random colours that change over about side / cells pixels: (height, width, channels) float32 in [0, 1]."""
    field = rng.random((cells + 1, cells + 1, channels), dtype=np.float32)
    large = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    field = np.asarray(large, np.float32)
    return field.reshape(height, width, channels)


def draw_backdrop(rng: Generator, side: int) -> np.ndarray:
    """A made-up picture without a face: gradients, noise, stripes, shapes. (side, side, 3) uint8."""
    picture = smooth_noise(rng, side, side, int(rng.integers(1, 4)))
    if rng.random() < 0.7:
        picture = 0.5 * picture + 0.5 * smooth_noise(rng, side, side, int(rng.integers(4, 48)))
    if rng.random() < 0.3:
        x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 60)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
        picture = picture + rng.uniform(0.05, 0.4) * (wave > 0 if rng.random() < 0.5 else wave)[..., None]
    canvas = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 14))):
        colour = [int(v) for v in rng.integers(0, 256, 3)]
        centre = tuple(int(v) for v in rng.integers(0, side, 2))
        axes = tuple(int(v) for v in rng.integers(2, side // 3, 2))
        thickness = -1 if rng.random() < 0.6 else int(rng.integers(1, 6))
        kind = rng.integers(0, 3)
        if kind == 0:
            cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, thickness, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(canvas, centre, (centre[0] + axes[0], centre[1] + axes[1]), colour, thickness)
        else:
            cv2.line(
                canvas, centre, tuple(int(v) for v in rng.integers(0, side, 2)), colour, 1 + axes[0] // 8, cv2.LINE_AA
            )
    if rng.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.7, 6)))
    return np.asarray(canvas)


def faceless_part(rng: Generator, sample: Sample, side: int) -> np.ndarray:
    """A square of a photograph without its face: (side, side, 3) uint8.

    Either a part beside the face, or the face cut into pieces and shuffled, or the head with its features wiped out.
    """
    kind = rng.random()
    if kind < 0.55:
        part = part_beside(rng, sample)
        if part is not None:
            return cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR)
    picture = sample.pictures[0]
    height, width = picture.shape[:2]
    low, high = sample.landmarks.min(0), sample.landmarks.max(0)
    if kind < 0.8:
        pieces = int(rng.integers(3, 6))
        x0, y0 = (int(v) for v in np.clip(low, 0, (width - 16, height - 16)))
        face = picture[y0 : max(y0 + 16, int(high[1])), x0 : max(x0 + 16, int(high[0]))]  # no piece holds a whole face
        square = cv2.resize(face, (side, side), interpolation=cv2.INTER_LINEAR)
        step = side // pieces
        cells = [(row * step, column * step) for row in range(pieces) for column in range(pieces)]
        tiles = [square[y : y + step, x : x + step] for y, x in cells]
        order = rng.permutation(len(tiles))
        rows = [np.hstack([tiles[order[r * pieces + c]] for c in range(pieces)]) for r in range(pieces)]
        return np.asarray(cv2.resize(np.vstack(rows), (side, side), interpolation=cv2.INTER_LINEAR))
    size = float((high - low).max())
    centre = (low + high) / 2 + rng.normal(0, 0.15, 2) * size
    scale = side / (size * rng.uniform(0.9, 3.0))
    matrix = np.array([[scale, 0, side / 2 - scale * centre[0]], [0, scale, side / 2 - scale * centre[1]]])
    head = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    wiped = cv2.GaussianBlur(head, (0, 0), max(1.5, scale * size * rng.uniform(0.14, 0.3)))
    if rng.random() < 0.5:
        return wiped
    points = transform_points(matrix, sample.landmarks)
    mask = np.zeros((side, side), np.uint8)
    outline = cv2.convexHull(np.clip(points, -4096, 4096).astype(np.float32))[:, 0]
    cv2.fillConvexPoly(mask, outline.astype(np.int32), 255)
    alpha = cv2.GaussianBlur(mask, (0, 0), max(1.0, scale * size * 0.03))[..., None].astype(np.float32) / 255
    return (wiped * alpha + head * (1 - alpha)).astype(np.uint8)


def part_beside(rng: Generator, sample: Sample) -> np.ndarray | None:
    """A square beside the face of a photograph; None where the face leaves no room."""
    picture = sample.pictures[0]
    height, width = picture.shape[:2]
    low, high = sample.landmarks.min(0), sample.landmarks.max(0)
    size = (high - low).max()
    parts = [
        (0, 0, width, int(low[1] - 0.5 * size)),
        (0, int(high[1] + 0.1 * size), width, height),
        (0, 0, int(low[0] - 0.1 * size), height),
        (int(high[0] + 0.1 * size), 0, width, height),
    ]
    parts = [part for part in parts if min(part[2] - part[0], part[3] - part[1]) >= 16]
    if not parts:
        return None
    x0, y0, x1, y1 = parts[int(rng.integers(len(parts)))]
    edge = int(rng.integers(16, min(x1 - x0, y1 - y0) + 1))
    x, y = int(rng.integers(x0, x1 - edge + 1)), int(rng.integers(y0, y1 - edge + 1))
    return picture[y : y + edge, x : x + edge]


def recolour(rng: Generator, picture: np.ndarray, *, grey: bool) -> np.ndarray:
    """Another light, another camera, another skin: gamma and gain per channel, contrast, a coloured light field."""
    steps = np.linspace(0, 1, 256, dtype=np.float32)
    gamma = np.exp(rng.normal(0, 0.22)) * np.ones(3)
    gain = np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.06, 3))
    if grey and rng.random() < 0.75:  # skin is reddest in the dark and middle tones
        warmth = rng.uniform(0.05, 0.55)
        gamma = gamma * np.exp(np.array([-warmth, rng.uniform(-0.1, 0.1), warmth * rng.uniform(0.3, 1.0)]))
        if rng.random() < 0.15:
            gamma = gamma[rng.permutation(3)]
    elif rng.random() < 0.4:
        gamma = gamma * np.exp(rng.normal(0, 0.15, 3))
    if rng.random() < 0.2:  # dark skin, dark room
        gain = gain * rng.uniform(0.4, 0.85)
    contrast, middle = np.exp(rng.normal(0, 0.18)), rng.uniform(0.35, 0.6)
    curves = np.stack(
        [(np.power(steps, g) * k - middle) * contrast + middle for g, k in zip(gamma, gain, strict=True)], -1
    )
    picture = cv2.LUT(picture, (np.clip(curves, 0, 1) * 255).astype(np.uint8).reshape(1, 256, 3))
    if not grey and rng.random() < 0.12:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)
    if rng.random() < 0.35:
        height, width = picture.shape[:2]
        light = 1 + rng.uniform(0.1, 0.9) * (smooth_noise(rng, height, width, int(rng.integers(1, 4))) - 0.5)
        if rng.random() < 0.6:
            light = light.mean(-1, keepdims=True)
        picture = np.clip(picture * light, 0, 255).astype(np.uint8)
    return picture


def degrade(rng: Generator, picture: np.ndarray) -> np.ndarray:
    """Blur, noise, JPEG blocks, low resolution."""
    height, width = picture.shape[:2]
    if rng.random() < 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.6)))
    elif rng.random() < 0.2:
        factor = rng.uniform(0.3, 0.9)
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    elif rng.random() < 0.15:
        soft = cv2.GaussianBlur(picture, (0, 0), 1.5)
        picture = cv2.addWeighted(picture, 1.8, soft, -0.8, 0)
    if rng.random() < 0.25:
        noise = rng.standard_normal((height, width, 3 if rng.random() < 0.5 else 1), dtype=np.float32)
        picture = np.clip(picture + noise * rng.uniform(2, 16), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 85))])[1]
        picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return picture


def cover(rng: Generator, picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Glasses over the eyes, or something like a hand, a microphone or a scarf before the face."""
    canvas = picture.copy()
    unit = eye_distance(landmarks)
    colour = [int(v) for v in (rng.integers(0, 256, 3) if rng.random() < 0.4 else rng.integers(0, 90, 3))]
    if rng.random() < 0.45:
        eyes = [landmarks[LEFT_EYE].mean(0), landmarks[RIGHT_EYE].mean(0)]
        axes = unit * rng.uniform(0.28, 0.42), unit * rng.uniform(0.2, 0.36)
        angle = float(np.degrees(np.arctan2(*(eyes[1] - eyes[0])[::-1])))
        width = max(1, round(unit * rng.uniform(0.02, 0.07)))
        shade = rng.random() < 0.25
        layer = canvas.copy()
        for eye in eyes:
            centre, radii = tuple(int(v) for v in eye), tuple(max(2, int(v)) for v in axes)
            if shade:
                cv2.ellipse(layer, centre, radii, angle, 0, 360, colour, -1, cv2.LINE_AA)
            cv2.ellipse(layer, centre, radii, angle, 0, 360, colour, width, cv2.LINE_AA)
        inner = [eyes[0] + (eyes[1] - eyes[0]) * (axes[0] / unit), eyes[1] - (eyes[1] - eyes[0]) * (axes[0] / unit)]
        left, right = ([int(v) for v in point] for point in inner)
        cv2.line(layer, left, right, colour, width, cv2.LINE_AA)
        strength = rng.uniform(0.5, 1.0)
        return cv2.addWeighted(layer, strength, canvas, 1 - strength, 0)
    if rng.random() < 0.6:
        skin = picture[
            np.clip(int(landmarks[30, 1]), 0, len(picture) - 1), np.clip(int(landmarks[30, 0]), 0, picture.shape[1] - 1)
        ]
        colour = [int(v) for v in np.clip(skin * rng.uniform(0.6, 1.2), 0, 255)]
    place = landmarks[int(rng.integers(68))] + rng.normal(0, 0.3, 2) * unit
    for _ in range(int(rng.integers(1, 5))):
        centre = tuple(int(v) for v in place + rng.normal(0, 0.15, 2) * unit)
        radii = tuple(max(2, int(v)) for v in unit * rng.uniform(0.08, 0.5, 2))
        cv2.ellipse(canvas, centre, radii, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return canvas


class FaceData:
    """All annotated pictures, and the random crops and tiles made of them; each a function of the generator given."""

    def __init__(self, train: Sequence[Sample], *, backdrops: int = 300, seed: int = 0) -> None:
        if not train:
            raise InputError("no annotated pictures to train on")
        self.samples = list(train)
        shares = np.array([s.share for s in self.samples])
        self.cumulative = np.cumsum(shares / shares.sum())
        rng = np.random.default_rng(seed)
        self.backdrops = [draw_backdrop(rng, 192) for _ in range(backdrops)]

    @classmethod
    def read(cls, root: Path, *, clip_frames: int, seed: int = 0) -> tuple[FaceData, list[Sample]]:
        """The training pictures of a folder with faces/ and perhaps grid/, and the photographs kept out.

        Args:
            root: the folder.
            clip_frames: frames taken from each clip of grid/.
            seed: of the made-up backgrounds.
        """
        train, dev = read_photographs(root / "faces")
        clips = read_clips(root / "grid", frames=clip_frames, split="train")
        photos = sum(s.share for s in train)
        share = 0.25 / 0.75 * photos / max(1, len(clips))  # one sample in four is a clip frame
        clips = [replace(s, share=share) for s in clips]
        return cls([*train, *clips], seed=seed), dev

    def draw(self, rng: Generator) -> Sample:
        """One sample, by its share."""
        return self.samples[min(int(np.searchsorted(self.cumulative, rng.random())), len(self.samples) - 1)]

    def faceless(self, rng: Generator, side: int) -> np.ndarray:
        """A picture without a whole face: (side, side, 3) uint8."""
        if rng.random() < 0.65:
            return faceless_part(rng, self.draw(rng), side)
        backdrop = self.backdrops[int(rng.integers(len(self.backdrops)))]
        edge = int(rng.integers(48, 193))
        x, y = (int(v) for v in rng.integers(0, 193 - edge, 2))
        part = cv2.resize(backdrop[y : y + edge, x : x + edge], (side, side), interpolation=cv2.INTER_LINEAR)
        return part[:, ::-1] if rng.random() < 0.5 else part

    def crop(self, rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """One training picture of the landmark network.

        Shape:
            returns: picture (size, size, 3) uint8, points (68, 2) pixels, weights (68,), 1.0 for a face else 0.0.
        """
        if rng.random() < 0.15:
            picture = degrade(rng, recolour(rng, self.faceless(rng, size), grey=False))
            return picture, np.zeros((68, 2)), np.zeros(68), 0.0
        sample = self.draw(rng)
        second = rng.random() < 0.5  # the second pass sees a crop made by the points of the first
        turn, zoom, shift = (4.0, 0.04, 0.02) if second else (13.0, 0.12, 0.06)
        misplaced = not second and rng.random() < 0.15  # the finder was wrong here: no face to the network
        matrix, offset = fine_transform(sample.landmarks, size), rng.normal(0, shift, 2) * size
        if misplaced:
            matrix, away = misplace(rng, matrix, size)
            offset = offset + away
        matrix, points = place(rng, matrix, sample.landmarks, size, turn, zoom, offset)
        picture = self.paste(rng, sample, matrix, size, size, None)
        weights = sample.weights
        if rng.random() < 0.5:
            picture, points, weights = picture[:, ::-1], mirror_points(points, size), weights[MIRROR]
        picture = recolour(rng, np.ascontiguousarray(picture), grey=sample.grey)
        if not misplaced and rng.random() < 0.2:
            picture = cover(rng, picture, points)
        picture = degrade(rng, picture)
        inside = ((points > -0.5) & (points < size - 0.5)).all(1)
        return picture, points, weights * inside * (not misplaced), float(not misplaced)

    def paste(
        self, rng: Generator, sample: Sample, matrix: np.ndarray, height: int, width: int, under: np.ndarray | None
    ) -> np.ndarray:
        """Warp a sample into a picture; what lies beyond the photograph becomes `under`, or something random."""
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        level = int(np.clip(np.floor(np.log2(1 / max(scale, 1e-6)) + 0.3), 0, COPIES - 1))
        source = sample.pictures[level]
        factor = np.array(sample.pictures[0].shape[1::-1]) / source.shape[1::-1]
        level_matrix = matrix.copy()  # x0 = (x + 0.5) * factor - 0.5
        level_matrix[:, 2] += matrix[:, :2] @ (0.5 * factor - 0.5)
        level_matrix[:, :2] = matrix[:, :2] * factor
        corners = transform_points(
            cv2.invertAffineTransform(level_matrix), np.array([[0, 0], [width, 0], [width, height], [0, height]])
        )
        whole = (corners >= 0).all() and (corners <= np.array(source.shape[1::-1]) - 1).all()
        if under is None and (whole or rng.random() < 0.35):
            border = cv2.BORDER_REPLICATE if rng.random() < 0.6 else cv2.BORDER_REFLECT
            return cv2.warpAffine(source, level_matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
        if under is None:
            under = (
                self.faceless(rng, width)
                if rng.random() < 0.6
                else np.full((height, width, 3), rng.integers(0, 256, 3))
            )
        result = cv2.warpAffine(source, level_matrix, (width, height), flags=cv2.INTER_LINEAR)
        if rng.random() < 0.4:  # only the head, with a soft edge
            points = transform_points(matrix, sample.landmarks)
            head = np.zeros((height, width), np.uint8)
            outline = cv2.convexHull(points.astype(np.float32))[:, 0]
            middle = points[27]
            outline = middle + (outline - middle) * rng.uniform(1.15, 1.9, 1)
            cv2.fillConvexPoly(head, np.clip(outline, -4096, 4096).astype(np.int32), 255)
            inside = cv2.warpAffine(np.full(source.shape[:2], 255, np.uint8), level_matrix, (width, height))
            blur = max(0.6, float(np.ptp(points[:, 0])) * rng.uniform(0.01, 0.12))
            mask = cv2.GaussianBlur(np.minimum(head, inside), (0, 0), blur)
        else:
            mask = cv2.warpAffine(np.full(source.shape[:2], 255, np.uint8), level_matrix, (width, height))
        alpha = mask[..., None].astype(np.float32) / 255
        return (result * alpha + under * (1 - alpha)).astype(np.uint8)

    def tile(self, rng: Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
        """One training picture of the finder: up to three faces on something without faces.

        Shape:
            returns: picture (side, side, 3) uint8; five points of each face (N, 5, 2) pixels.
        """
        canvas = recolour(rng, np.ascontiguousarray(self.faceless(rng, side)), grey=False)
        faces: list[np.ndarray] = []
        reach: list[tuple[np.ndarray, float]] = []
        count = int(rng.choice([0, 1, 2, 3], p=[0.15, 0.45, 0.25, 0.15]))
        for _ in range(count):
            sample = self.draw(rng)
            unit = float(
                np.exp(rng.uniform(np.log(5.5), np.log(31.0 if not faces else 15.0)))
            )  # pixels between the eyes
            centre = rng.uniform(0.02, 0.98, 2) * side if rng.random() < 0.3 else rng.uniform(0.15, 0.85, 2) * side
            if any(np.linalg.norm(centre - c) < 2.2 * (unit + u) for c, u in reach):
                continue
            turn = np.radians(rng.uniform(-45, 45) if rng.random() < 0.6 else rng.normal(0, 8))
            scale = unit / eye_distance(sample.landmarks)
            stretch = np.exp(rng.normal(0, 0.05))
            linear = (
                scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * (stretch, 1 / stretch)
            )
            middle = five_points(sample.landmarks).mean(0)
            matrix = np.hstack([linear, (centre - linear @ middle)[:, None]])
            points = transform_points(matrix, five_points(sample.landmarks))
            face = self.paste(rng, sample, matrix, side, side, canvas)
            if sample.grey:  # tint the new part alone; a picture that is grey as a whole comes below
                tinted = recolour(rng, face, grey=True)
                face = np.where((face != canvas).any(-1, keepdims=True), tinted, canvas)
            canvas = face
            faces.append(points)
            reach.append((centre, unit))
        if faces and rng.random() < 0.15:
            unit = float(np.linalg.norm(faces[0][1] - faces[0][0]))
            place_ = faces[0].mean(0) + rng.normal(0, 0.8, 2) * unit
            radii = tuple(max(1, int(v)) for v in unit * rng.uniform(0.1, 0.6, 2))
            colour = [int(v) for v in rng.integers(0, 256, 3)]
            cv2.ellipse(canvas, tuple(int(v) for v in place_), radii, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        if rng.random() < 0.5:
            canvas = np.ascontiguousarray(canvas[:, ::-1])
            faces = [((side - 1, 0) + f * (-1, 1))[[1, 0, 2, 4, 3]] for f in faces]
        if rng.random() < 0.15:
            canvas = np.repeat(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)
        canvas = degrade(rng, recolour(rng, canvas, grey=False))
        return canvas, np.array(faces).reshape(-1, 5, 2)


def misplace(rng: Generator, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Spoil a transform into a crop: beside the face, a part of it, a speck of it, or lying on its side."""
    kind = rng.integers(0, 4)
    away, direction = np.zeros(2), rng.uniform(0, 2 * np.pi)
    linear = np.eye(2)
    if kind == 0:
        away = rng.uniform(0.55, 1.2) * size * np.array([np.cos(direction), np.sin(direction)])
    elif kind == 1:
        linear = linear * rng.uniform(2.0, 4.0)
        away = rng.uniform(0, 0.8) * size * np.array([np.cos(direction), np.sin(direction)])
    elif kind == 2:
        linear = linear * rng.uniform(0.2, 0.42)
    else:
        angle = rng.choice([-1, 1]) * np.radians(rng.uniform(80, 180))
        linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([(size - 1) / 2, (size - 1) / 2])
    return np.hstack([linear @ matrix[:, :2], (linear @ (matrix[:, 2] - centre) + centre)[:, None]]), away


def place(
    rng: Generator, matrix: np.ndarray, landmarks: np.ndarray, size: int, turn: float, zoom: float, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Jitter a transform into a crop: turn in degrees, log zoom, offset in pixels, a little shear."""
    angle, scale = np.radians(rng.normal(0, turn)), np.exp(rng.normal(0, zoom))
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.eye(2) + rng.normal(0, 0.025, (2, 2))
    linear = rotation @ shear
    centre = np.array([(size - 1) / 2, (size - 1) / 2])
    moved = np.hstack([linear @ matrix[:, :2], (linear @ (matrix[:, 2] - centre) + centre + offset)[:, None]])
    return moved, transform_points(moved, landmarks)
