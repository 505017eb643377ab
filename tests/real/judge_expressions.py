"""Do the drawn feelings change a face as real actors' faces change? An outside judge: MediaPipe's blendshape scores.

Two steps, because the judge wants an environment of its own (mediapipe 0.10, numpy below 2):

    python tests/real/judge_expressions.py stills SHARED OUT         portraits of people kept out of training, every
                                                                     emotion at intensity 1, 2, 3, as OUT/*.png
    python tests/real/judge_expressions.py judge SHARED OUT          scores them with SHARED/teachers and prints, per
                                                                     emotion: cosine with the actors' mean change over
                                                                     brows, lids, cheeks and mouth corners at intensity
                                                                     3, strength at 1, 2, 3 as a share of theirs, and
                                                                     how often strength rises with intensity
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np

SEEN = ("brow", "eyeBlink", "eyeSquint", "eyeWide", "cheek", "mouthSmile", "mouthFrown", "mouthDimple")


def make_stills(shared: Path, out: Path) -> None:
    from emotalk import Emotion, Pipeline
    from emotalk.image import read_image
    from emotalk.stages.split import is_dev

    out.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline(landmarks="shipped", offline=True)
    for photo in sorted((shared / "faces" / "portraits").glob("*.jpg")):
        if not is_dev(photo.name):
            continue
        picture = read_image(photo)
        for emotion in Emotion:
            for level in (0,) if emotion is Emotion.NEUTRAL else (1, 2, 3):
                still = pipeline.emotional_face(picture, emotion, float(level))
                cv2.imwrite(str(out / f"{photo.stem}__{emotion.value}__{level}.png"), still[:, :, ::-1])


def blendshapes(shared: Path, pictures: list[Path]) -> tuple[list[str], dict[str, np.ndarray]]:
    import mediapipe as mp

    vision = mp.tasks.vision
    model = mp.tasks.BaseOptions(model_asset_path=str(shared / "teachers" / "face_landmarker.task"))
    options = vision.FaceLandmarkerOptions(base_options=model, output_face_blendshapes=True)
    names: list[str] = []
    scores = {}
    with vision.FaceLandmarker.create_from_options(options) as judge:
        for path in pictures:
            picture = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
            found = judge.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=picture)).face_blendshapes
            if found:
                names = [category.category_name for category in found[0]]
                scores[path.stem] = np.array([category.score for category in found[0]])
    return names, scores


def judge_stills(shared: Path, out: Path) -> None:
    names, scores = blendshapes(shared, sorted(out.glob("*__*__*.png")))
    used = np.array([name.startswith(SEEN) for name in names])
    with (shared / "teachers" / "blendshape_emotion_deltas.csv").open(newline="") as file:
        real = {row["emotion"]: np.array([float(row[name]) for name in names])[used] for row in csv.DictReader(file)}
    people = sorted({key.split("__")[0] for key in scores})
    rising = []
    for emotion, wanted in real.items():
        cosines, strengths = [], []
        for person in people:
            keys = [f"{person}__{emotion}__{level}" for level in (1, 2, 3)]
            rest = scores.get(f"{person}__neutral__0")
            if rest is None or not all(key in scores for key in keys):
                continue
            changes = [(scores[key] - rest)[used] for key in keys]
            cosines.append(changes[2] @ wanted / (np.linalg.norm(changes[2]) * np.linalg.norm(wanted) + 1e-9))
            strengths.append([change @ wanted / (wanted @ wanted) for change in changes])
            rising += [a < b for a, b in zip([0.0, *strengths[-1]], strengths[-1], strict=False)]
        levels = " ".join(f"{value:.2f}" for value in np.mean(strengths, 0))
        print(f"{emotion:10s} {len(cosines):3d} people   cosine {np.mean(cosines):.2f}   strength {levels}")
    print(f"strength rises with intensity in {np.mean(rising):.1%} of {len(rising)} steps")


if __name__ == "__main__":
    {"stills": make_stills, "judge": judge_stills}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
