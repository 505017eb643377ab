"""Faces and landmarks of people that nothing was trained on, against the teacher's annotation."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotalk.face import Face, FaceFinder, eye_distance
from emotalk.landmarks import MOUTH_INNER, mouth_opening
from emotalk.stages.split import is_dev

SHARED = Path(__file__).parents[3] / "shared"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (SHARED / "faces" / "index.csv").is_file(), reason="no ../shared/faces beside the repository"
    ),
]


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder("shipped", device="cpu")


def read_rgb(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))


def kept_out(kind: str) -> list[tuple[str, np.ndarray]]:
    """Names and landmarks of the pictures that training never sees."""
    with (SHARED / "faces" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    landmarks = np.load(SHARED / "faces" / "annotations.npz")["landmarks68"]
    return [
        (row["file"], points.astype(np.float64))
        for row, points in zip(rows, landmarks, strict=True)
        if row["kind"] == kind and (row["train_shipped_weights"] != "yes" or is_dev(row["file"]))
    ]


def errors_of(face: Face, known: np.ndarray) -> np.ndarray:
    """Distance of each point in parts of the eye distance."""
    return np.asarray(np.linalg.norm(face.landmarks - known, axis=1) / eye_distance(known))


@pytest.mark.parametrize(("kind", "mean", "worst"), [("portrait", 0.04, 0.10), ("photo", 0.05, 0.20)])
def test_landmarks_of_strangers(finder: FaceFinder, kind: str, mean: float, worst: float) -> None:
    found, errors, lips = 0, [], []
    pictures = kept_out(kind)
    for name, known in pictures:
        picture = read_rgb(SHARED / "faces" / name)
        faces = finder.find(picture)
        if not faces:
            continue
        error = min((errors_of(face, known) for face in faces), key=lambda e: float(e.mean()))
        found += bool(error.mean() < 0.5)
        height, width = picture.shape[:2]
        inside = ((known >= 0) & (known < (width, height))).all(1)  # the others are the teacher's guesses
        errors.append(float(error[inside].mean()))
        lips.append(float(error[MOUTH_INNER].mean()))
    measured = f"{found}/{len(pictures)} found, {np.mean(errors):.4f}, {np.max(errors):.4f}, lips {np.mean(lips):.4f}"
    assert found >= 0.98 * len(pictures), measured
    assert np.mean(errors) < mean, measured
    assert np.max(errors) < worst, measured
    assert np.mean(lips) < mean, measured


def test_lips_of_a_talking_clip_open_with_the_teachers(finder: FaceFinder) -> None:
    grid = SHARED / "grid"
    with (grid / "split.csv").open(newline="") as file:
        clips = [row["clip"] for row in csv.DictReader(file) if row["split"] == "dev"][:6]
    with np.load(grid / "landmarks.npz") as data:
        names, landmarks, valid = data["clips"].tolist(), data["landmarks68"], data["valid"]
    correlations, jitter = [], []
    for clip in clips:
        video = cv2.VideoCapture(str(grid / "clips" / f"{clip}.mp4"))
        frames = []
        while (read := video.read())[0]:
            frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
        tracked = list(finder.track(iter(frames)))
        assert None not in tracked
        points = np.stack([face.landmarks for face in tracked if face])
        seen = valid[names.index(clip)]
        known = landmarks[names.index(clip)].astype(np.float64)
        correlations.append(np.corrcoef(mouth_opening(points)[seen], mouth_opening(known)[seen])[0, 1])
        shake = np.abs(np.diff(points[:, 27:36], 2, axis=0)).mean() / eye_distance(points[0])  # the nose hardly moves
        jitter.append(shake)
    assert np.mean(correlations) > 0.9
    assert np.mean(jitter) < 0.01
