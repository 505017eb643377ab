"""A face rig of a few hundred vertices with the names and the file layout of the real one, and a corpus folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import Delaunay

from emotalk.landmarks import (
    CROP_SIZE,
    EYE_LINE,
    FACE_UNIT,
    LEFT_EYE,
    MOUTH_INNER,
    POINTS,
    RIGHT_EYE,
    STABLE,
    TEMPLATE,
)
from emotalk.synth.fit import Pose
from emotalk.synth.rig import Rig

UNIT = 6.3  # centimetres of one face unit, as in the real rig
MOUTH_Y = 1.13  # face units below the eyes
SLIT = 0.25  # face units the lower lip is lowered by while the mesh is made, so that the lips do not grow together
SINGLE = ("jawOpen", "jawForward", "mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
          "mouthShrugUpper")  # fmt: skip
# Expression -> bump (x, y, radius, dx, dy, dz): face units, y down; for the picture's left side.
PAIRED: dict[str, tuple[float, ...]] = {
    "browDown": (-0.4, -0.4, 0.25, 0.02, 0.1, 0.0),
    "browInnerUp": (-0.22, -0.42, 0.2, 0.0, -0.1, 0.0),
    "browOuterUp": (-0.75, -0.38, 0.25, 0.0, -0.1, 0.0),
    "cheekSquint": (-0.55, 0.4, 0.25, 0.0, -0.06, 0.03),
    "eyeBlink": (-0.5, -0.06, 0.16, 0.0, 0.1, 0.0),
    "eyeSquint": (-0.5, 0.07, 0.16, 0.0, -0.05, 0.0),
    "eyeWide": (-0.5, -0.08, 0.16, 0.0, -0.05, 0.0),
    "mouthDimple": (-0.4, MOUTH_Y, 0.15, -0.05, 0.0, -0.04),
    "mouthFrown": (-0.4, MOUTH_Y, 0.22, 0.0, 0.1, 0.0),
    "mouthLowerDown": (-0.15, MOUTH_Y + 0.1, 0.2, 0.0, 0.1, 0.0),
    "mouthPress": (-0.2, MOUTH_Y, 0.2, 0.0, 0.0, -0.02),
    "mouthSmile": (-0.4, MOUTH_Y, 0.25, -0.1, -0.12, -0.02),
    "mouthStretch": (-0.4, MOUTH_Y, 0.25, -0.14, 0.02, 0.0),
    "mouthUpperUp": (-0.15, MOUTH_Y - 0.08, 0.14, 0.0, -0.08, 0.0),
    "noseSneer": (-0.2, 0.62, 0.2, 0.0, -0.06, 0.0),
}


def face_points() -> np.ndarray:
    """The 68 points of a symmetric face with a closed mouth, (68, 2) face units, eyes at y = 0, y down."""
    points = np.zeros((POINTS, 2))
    turn = np.linspace(np.pi, 0, 17)
    points[:17] = np.c_[1.15 * np.cos(turn), 1.78 * np.sin(turn) + 0.05]
    brow = np.c_[np.linspace(-0.9, -0.2, 5), [-0.28, -0.4, -0.44, -0.42, -0.38]]
    points[17:22], points[22:27] = brow, brow[::-1] * (-1, 1)
    points[27:31] = np.c_[np.zeros(4), np.linspace(-0.054, 0.55, 4)]
    points[31:36] = np.c_[np.linspace(-0.2, 0.2, 5), [0.68, 0.72, 0.738, 0.72, 0.68]]
    eye = np.array([[-0.718, -0.015], [-0.58, -0.09], [-0.42, -0.09], [-0.282, 0.015], [-0.42, 0.07], [-0.58, 0.07]])
    points[LEFT_EYE] = eye
    points[RIGHT_EYE] = (eye * (-1, 1))[[3, 2, 1, 0, 5, 4]]
    points[STABLE] = (TEMPLATE - (CROP_SIZE / 2, EYE_LINE)) / FACE_UNIT
    upper = np.c_[np.linspace(-0.41, 0.41, 7), MOUTH_Y - np.array([0, 0.1, 0.14, 0.12, 0.14, 0.1, 0])]
    lower = np.c_[np.linspace(0.27, -0.27, 5), MOUTH_Y + np.array([0.1, 0.15, 0.17, 0.15, 0.1])]
    points[48:60] = np.r_[upper, lower]
    points[60:65] = np.c_[np.linspace(-0.35, 0.35, 5), np.full(5, MOUTH_Y)]
    points[65:68] = points[[63, 62, 61]]
    return points


def _below(y: np.ndarray) -> np.ndarray:
    """Share of the lower lip's motion, from the opened mesh: 0 above the slit, 1 below it."""
    return np.clip((y - MOUTH_Y) / SLIT, 0, 1)


def _relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth of the skin in face units: a rounded head with a nose."""
    nose = 0.3 * np.exp(-((x / 0.18) ** 2) - ((y - 0.55) / 0.35) ** 2)
    return 1.6 - 0.45 * x**2 - 0.16 * (y - 0.5) ** 2 + nose


def _bump(where: np.ndarray, bump: tuple[float, ...], side: float) -> np.ndarray:
    x, y, radius, *move = bump
    share = np.exp(-(((where - (side * x, y)) / radius) ** 2).sum(1))
    return share[:, None] * np.array([side * move[0], move[1], move[2]])


def _skin() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices of the opened mesh (V, 2), triangles (N, 3), landmark vertices (68,): holes for eyes and mouth."""
    opened = face_points()
    opened[65:68, 1] += SLIT
    opened[55:60, 1] += SLIT
    x, y = np.meshgrid(np.linspace(-1.45, 1.45, 16), np.linspace(-1.1, 2.2, 18))
    grid = np.c_[x.ravel(), y.ravel()]
    grid = grid[np.linalg.norm(grid[:, None] - opened, axis=2).min(1) > 0.09]
    holes = [opened[part].astype(np.float32) for part in (LEFT_EYE, RIGHT_EYE, MOUTH_INNER)]
    grid = grid[[all(cv2.pointPolygonTest(h, tuple(map(float, p)), True) < 0.03 for h in holes) for p in grid]]
    vertices = np.r_[opened, grid]
    found = Delaunay(vertices).simplices
    middle = vertices[found].mean(1)
    found = found[[all(cv2.pointPolygonTest(h, tuple(map(float, m)), False) < 0 for h in holes) for m in middle]]
    a, b, c = (vertices[found[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    found[area > 0] = found[area > 0][:, ::-1]  # y points down here: outside is where the area is negative
    return vertices, found, np.arange(POINTS)


def _sheet(left: float, right: float, top: float, bottom: float, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """A rectangle that faces the viewer: vertices (20, 3) face units and triangles."""
    x, y = np.meshgrid(np.linspace(left, right, 5), np.linspace(top, bottom, 4))
    vertices = np.c_[x.ravel(), y.ravel(), np.full(20, depth)]
    corner = (np.arange(3)[:, None] * 5 + np.arange(4)).ravel()
    return vertices, np.r_[np.c_[corner, corner + 5, corner + 6], np.c_[corner, corner + 6, corner + 1]]


def kit() -> dict[str, np.ndarray]:
    """The arrays of `ict_facekit_light.npz`, small; an unused part lies before the skin, as between the real ones."""
    skin, triangles, landmarks = _skin()
    closed = skin.copy()
    closed[:, 1] -= SLIT * _below(skin[:, 1]) * np.clip((2.2 - skin[:, 1]) / 0.8, 0, 1)
    depth = _relief(closed[:, 0], closed[:, 1])
    parts: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []  # name, vertices, opened x and y, triangles
    unused, unused_triangles = _sheet(-2, 2, -2, 2, 3.0)  # would hide everything
    parts.append(("eyeball_l", unused, unused[:, :2], unused_triangles))
    parts.append(("face", np.c_[closed, depth], skin, triangles))
    lips = float(_relief(np.zeros(1), np.full(1, MOUTH_Y))[0])
    for name, pieces in {
        "mouth_socket": [(-0.45, 0.45, MOUTH_Y - 0.5, MOUTH_Y + 0.6, lips - 0.5)],
        "gums_tongue": [(-0.25, 0.25, MOUTH_Y + 0.12, MOUTH_Y + 0.3, lips - 0.35)],
        "teeth": [(-0.3, 0.3, MOUTH_Y - 0.12, MOUTH_Y - 0.02, lips - 0.2),
                  (-0.3, 0.3, MOUTH_Y + 0.02, MOUTH_Y + 0.1, lips - 0.2)],
    }.items():  # fmt: skip
        sheets = [_sheet(*piece) for piece in pieces]
        at = np.concatenate([v for v, _ in sheets])
        parts.append((name, at, at[:, :2], np.concatenate([t + 20 * i for i, (_, t) in enumerate(sheets)])))

    counts = np.cumsum([0] + [len(v) for _, v, _, _ in parts])
    ranges = np.c_[counts[:-1], counts[1:] - 1]
    vertices = np.concatenate([v for _, v, _, _ in parts])
    where = np.concatenate([w for _, _, w, _ in parts])
    first = int(counts[1])
    lower_teeth = np.zeros(len(vertices))
    lower_teeth[-20:] = 1
    is_skin = np.zeros(len(vertices), bool)
    is_skin[first : int(counts[2])] = True
    moves: dict[str, np.ndarray] = {}
    for name in SINGLE:
        moves[name] = np.zeros((len(vertices), 3))
    fall = _below(where[:, 1]) * np.exp(-((where[:, 0] / 0.7) ** 2)) * is_skin
    moves["jawOpen"][:, 1] = 0.42 * np.maximum(fall, lower_teeth)
    moves["jawForward"][:, 2] = 0.1 * fall
    near = np.exp(-(((where - (0, MOUTH_Y + SLIT / 2)) / (0.5, 0.35)) ** 2).sum(1)) * is_skin
    moves["mouthPucker"][:, 0] = -0.35 * where[:, 0] * near
    moves["mouthFunnel"][:, 0] = -0.25 * where[:, 0] * near
    moves["mouthFunnel"][:, 1] = 0.08 * near * np.where(where[:, 1] > MOUTH_Y + 0.1, 1, -1)
    low = np.exp(-(((where - (0, MOUTH_Y + SLIT + 0.12)) / (0.35, 0.12)) ** 2).sum(1)) * is_skin
    high = np.exp(-(((where - (0, MOUTH_Y - 0.12)) / (0.35, 0.1)) ** 2).sum(1)) * is_skin
    moves["mouthRollLower"][:, 1], moves["mouthRollUpper"][:, 1] = -0.06 * low, 0.05 * high
    moves["mouthShrugLower"][:, 1] = moves["mouthShrugUpper"][:, 1] = -0.05 * near
    lip = {"mouthLowerDown": _below(where[:, 1]), "mouthUpperUp": 1 - _below(where[:, 1])}
    for name, bump in PAIRED.items():
        share = (is_skin * lip.get(name, 1.0))[:, None]
        for letter, side in (("_L", -1.0), ("_R", 1.0)):  # _L is the subject's left: the picture's right
            moves[name + letter] = _bump(vertices[:, :2], bump, side) * share
    names = sorted(moves)
    identity = np.zeros((3, len(vertices), 3))
    identity[0, :, 0] = vertices[:, 0] * 0.08 * np.clip(vertices[:, 1], 0, 1)  # a wider jaw
    identity[1, :, 1] = 0.08 * np.clip(vertices[:, 1] - 1.2, 0, None)  # a longer chin
    identity[2, :, 1] = -0.04 * np.clip(-vertices[:, 1] / 0.3, 0, 1)  # higher brows
    upright = UNIT * np.array([1.0, -1.0, 1.0])  # centimetres, y up
    return {
        "neutral": (vertices * upright).astype(np.float32),
        "identity": (identity * upright).astype(np.float16),
        "expression": (np.stack([moves[n] for n in names]) * upright).astype(np.float16),
        "expression_names": np.array(names),
        "triangles": np.concatenate([t + c for (_, _, _, t), c in zip(parts, counts[:-1], strict=True)]).astype(
            np.int32
        ),
        "landmarks68": (landmarks + first).astype(np.int32),
        "part_names": np.array([name for name, *_ in parts]),
        "part_vertex_ranges": ranges.astype(np.int32),
    }


def save_kit(folder: Path) -> Path:
    """Write the rig where `Rig.load` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "ict_facekit_light.npz", **kit())
    return folder


def frontal(scale: float = FACE_UNIT / UNIT, turn: np.ndarray | None = None) -> Pose:
    """The pose that puts the neutral face into the canonical crop."""
    return Pose(np.eye(3) if turn is None else turn, scale, np.array([CROP_SIZE / 2, EYE_LINE]))


def paint(points: np.ndarray, seed: int = 0, size: int = CROP_SIZE, *, grey: bool = False) -> np.ndarray:
    """A drawn face with these landmarks, (size, size, 3) uint8 RGB: skin, lips, eyes, brows, texture."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), (90, 110, 130), np.uint8)
    fixed = np.round(points * 16).astype(np.int32)
    forehead = points[26:16:-1] - (0, 0.35 * np.ptp(points[:, 1]) / 1.9)
    skin = np.round(np.r_[points[:17], forehead] * 16).astype(np.int32)
    cv2.fillPoly(image, [skin], (205, 160, 135), cv2.LINE_AA, 4)
    cv2.fillPoly(image, [fixed[48:60]], (170, 80, 80), cv2.LINE_AA, 4)
    for eye in (LEFT_EYE, RIGHT_EYE):
        cv2.fillPoly(image, [fixed[eye]], (235, 235, 235), cv2.LINE_AA, 4)
        cv2.circle(image, tuple(fixed[eye].mean(0).astype(int).tolist()), 4 * 16, (60, 40, 30), -1, cv2.LINE_AA, 4)
    texture = cv2.GaussianBlur(rng.normal(0, 30, (size, size, 1)).astype(np.float32), (0, 0), 1.5)
    image = np.clip(image + texture[..., None], 0, 255).astype(np.uint8)
    return np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, axis=2) if grey else image


@dataclass
class Person:
    """One photograph of the corpus folder; the default file names fall on both sides of the split."""

    file: str
    who: tuple[float, float, float] = (0.0, 0.0, 0.0)
    expression: dict[str, float] = field(default_factory=dict)
    row: dict[str, str] = field(default_factory=dict)
    grey: bool = False
    scores: dict[str, float] = field(default_factory=dict)
    lost: bool = False  # landmarks that fit no face


def landmarks_of(rig: Rig, person: Person, size: float = 1.0) -> np.ndarray:
    """Landmarks of a person, turned a little, in a picture `size` times the canonical crop."""
    angle = np.radians(6)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    skin = rig.skin(np.array(person.who), rig.weights(person.expression))
    return frontal(turn=turn).project(skin)[rig.landmarks].astype(np.float64) * size


def save_corpus(data: Path, people: list[Person]) -> Path:
    """Write facekit/, faces/ and grid/ as the corpus builder reads them."""
    rig = Rig.load(save_kit(data / "facekit"))
    (data / "faces" / "photos").mkdir(parents=True)
    names = ["_neutral", "eyeBlinkLeft", "eyeBlinkRight", "browInnerUp", "mouthSmileLeft", "mouthLeft"]
    points = []
    with (data / "faces" / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file", "grey", "yaw_deg", "train_shipped_weights"])
        table.writeheader()
        for number, person in enumerate(people):
            usual = {"grey": str(int(person.grey)), "yaw_deg": "6.0", "train_shipped_weights": "yes"}
            table.writerow({"file": person.file} | usual | person.row)
            at = landmarks_of(rig, person, 1.25)
            points.append(np.random.default_rng(number).permutation(at) if person.lost else at)
            picture = paint(at, number, 320, grey=person.grey)
            cv2.imwrite(str(data / "faces" / person.file), np.ascontiguousarray(picture[..., ::-1]))
    np.savez_compressed(
        data / "faces" / "annotations.npz",
        files=np.array([p.file for p in people]),
        landmarks68=np.stack(points).astype(np.float32),
        blendshapes=np.array([[p.scores.get(n, 0.0) for n in names] for p in people], np.float32),
        blendshape_names=np.array(names),
    )
    (data / "grid").mkdir()
    frames = 48
    opening = np.clip(np.sin(np.arange(frames) / 4), 0, None) * 0.6
    clip = np.stack([landmarks_of(rig, Person("", expression={"jawOpen": o, "mouthStretch": o / 2})) for o in opening])
    with (data / "grid" / "split.csv").open("w", newline="") as file:
        file.write("clip,split,damaged_frames\naaa1a,train,\nbbb2b,test,\n")
    np.savez_compressed(
        data / "grid" / "landmarks.npz",
        clips=np.array(["aaa1a", "bbb2b"]),
        landmarks68=np.stack([clip, clip[::-1]]).astype(np.float16),
        valid=np.ones((2, frames), bool),
    )
    return data
