"""A photographed face that can be moved to any expression, with the true motion, shading and mouth mask of the move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ..landmarks import LEFT_EYE, MOUTH_INNER, RIGHT_EYE
from .fit import Fit, close_lips, fit_rig
from .raster import rasterise, vertex_normals
from .rig import PARTS, Rig

FACE, SOCKET, GUMS, TEETH = range(len(PARTS))
CREASE_STRENGTH = 1.0  # exponent of the shading ratio
GAIN_RANGE = 0.24  # largest darkening or brightening by a crease
FADE = 0.09  # of the picture: how fast motion fades out around the face
LIP_MARGIN = 0.16  # centimetres
GREY_SPREAD = 0.12  # of its brightness: skin whose channels differ by less belongs to a grey photograph
WHITE_LIGHT_SKIN = np.array([1.22, 0.97, 0.81])  # the cast of skin itself
TEETH_TINT = 0.3  # how much of the skin's cast teeth take on; with all of it they look orange or blue
LIP_PAIRS = ((61, 67, 50, 58), (62, 66, 51, 57), (63, 65, 52, 56))  # inner upper, inner lower, outer upper, outer lower


@dataclass(frozen=True)
class Pose3:
    """The rig in one expression, placed on the photograph."""

    vertices: np.ndarray  # (V, 3) centimetres
    points: np.ndarray  # (V, 2) pixels
    normals: np.ndarray  # (V, 3), turned towards the viewer


@dataclass(frozen=True)
class Move:
    """The truth about moving a picture from expression `a` to expression `b`.

    Shape:
        flow: (H, W, 2) float32 pixels; gain, mask: (H, W) float32; colour: (H, W, 3) float32 in [0, 1], RGB.
        Same meaning as `nets.edit.Edit`.
    """

    flow: np.ndarray
    gain: np.ndarray
    mask: np.ndarray
    colour: np.ndarray

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The moved picture, uint8 RGB (H, W, 3)."""
        height, width = self.mask.shape
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        warped = cv2.remap(
            image, x + self.flow[..., 0], y + self.flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        mask = self.mask[..., None]
        out = (1 - mask) * self.gain[..., None] * warped + mask * self.colour * 255
        return np.clip(out + 0.5, 0, 255).astype(np.uint8)


class Puppet:
    """One photograph with the rig fitted to it.

    Args:
        rig: the face rig.
        image: uint8 RGB (H, W, 3); best the canonical crop.
        landmarks: (68, 2) pixels of that picture.
        prior: believed expression weights (blendshape scores) by rig name.
    """

    def __init__(
        self, rig: Rig, image: np.ndarray, landmarks: np.ndarray, prior: dict[str, float] | None = None
    ) -> None:
        self.rig = rig
        self.image = image
        self.landmarks, self.closed = close_lips(landmarks)
        self.fit: Fit = fit_rig(rig, landmarks, prior)
        placed = self.fit.pose.project(rig.skin(self.fit.who, self.fit.expression))
        residual = self.landmarks - placed[rig.landmarks]
        self._spread = _Spread(placed[rig.landmarks], self.fit.pose.scale)
        shown = residual.copy()
        if not self.closed:  # an open mouth is read a little too small; lips that take teeth along show a white line
            for upper, lower, *_ in LIP_PAIRS:
                gap = self.landmarks[lower, 1] - self.landmarks[upper, 1]
                margin = min(LIP_MARGIN * self.fit.pose.scale, 0.2 * gap)
                shown[upper, 1] -= margin
                shown[lower, 1] += margin
        self._shown = self._carry(placed, shown)  # the rig exactly on the photograph
        # Moved elsewhere, the lips keep the photograph's line but not the error of its gap: lips can close.
        calm = residual.copy()
        for upper, lower, outer_upper, outer_lower in LIP_PAIRS:
            gap = calm[upper] - calm[lower]
            calm[[upper, outer_upper]] -= gap / 2
            calm[[lower, outer_lower]] += gap / 2
        self._moved = self._carry(placed, calm)
        self._neutral = rig.skin(self.fit.who, np.zeros(len(rig.names), np.float32))

    def _carry(self, placed: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """What the rig cannot explain, spread smoothly over the skin; the mouth interior follows the lips."""
        out = np.empty_like(placed)
        out[: self.rig.face] = self._spread(residual, placed[: self.rig.face])
        out[self.rig.face :] = residual[MOUTH_INNER].mean(0)
        return out.astype(np.float32)

    @cached_property
    def rest(self) -> np.ndarray:
        """Expression weights (E,) of this person at rest: no smile, closed mouth, own lids and half the own brows."""
        keep = np.zeros(len(self.rig.names), np.float32)
        for index, name in enumerate(self.rig.names):
            if name.startswith(("eyeBlink", "eyeWide")):
                keep[index] = min(0.9 * float(self.fit.expression[index]), 0.45)
            elif name.startswith(("brow", "mouthPucker", "mouthRoll")):
                keep[index] = 0.6 * self.fit.expression[index]
            elif name.startswith(("mouthFrown", "mouthShrug", "noseSneer")):
                keep[index] = 0.4 * self.fit.expression[index]
        return keep

    def pose(self, expression: np.ndarray | None) -> Pose3:
        """The rig in `expression` (E,), or exactly as photographed for None."""
        vertices = self._neutral + self.rig.moved(self.fit.expression if expression is None else expression)
        points = self.fit.pose.project(vertices) + (self._shown if expression is None else self._moved)
        normals = vertex_normals(vertices, self.rig.triangles) @ self.fit.pose.rotation.T.astype(np.float32)
        return Pose3(vertices, points.astype(np.float32), normals)

    def points68(self, pose: Pose3) -> np.ndarray:
        """The 68 landmarks of a pose, pixels; lips that overlap are brought together."""
        points = pose.points[self.rig.landmarks].astype(np.float64)
        for upper, lower, *_ in LIP_PAIRS:
            if points[upper, 1] > points[lower, 1]:
                points[[upper, lower], 1] = points[[upper, lower], 1].mean()
        return points

    @cached_property
    def light(self) -> np.ndarray:
        """Direction of the light (3,), from the photograph's brightness over the rig's normals."""
        pose = self.pose(None)
        index, weights = rasterise(
            pose.points, self.fit.pose.depth(pose.vertices), self.rig.triangles, *self.image.shape[:2]
        )
        seen = (index >= 0) & (self.rig.part[np.maximum(index, 0)] == FACE)
        if seen.sum() < 500:
            return _DEFAULT_LIGHT
        normal = np.einsum("pk,pkd->pd", weights[seen], pose.normals[self.rig.triangles[index[seen]]])
        grey = cv2.GaussianBlur(cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY), (0, 0), 3)[seen] / 255.0
        solved = np.linalg.lstsq(np.c_[normal, np.ones(len(normal))], grey, rcond=None)[0][:3]
        light = 0.5 * solved / (np.linalg.norm(solved) + 1e-6) + _DEFAULT_LIGHT
        light[2] = max(light[2], 0.6)
        return light / np.linalg.norm(light)  # type: ignore[no-any-return]

    def move(self, a: Pose3, b: Pose3) -> Move:
        """The truth about moving the picture that shows `a` to `b`."""
        height, width = self.image.shape[:2]
        rig = self.rig
        index, weights = rasterise(b.points, self.fit.pose.depth(b.vertices), rig.triangles, height, width)
        part = np.where(index >= 0, rig.part[np.maximum(index, 0)], -1)
        face = part == FACE
        corners = rig.triangles[index[face]]
        flow = np.zeros((height, width, 2), np.float32)
        flow[face] = np.einsum("pk,pkd->pd", weights[face], (a.points - b.points)[corners])
        gain = np.ones((height, width), np.float32)
        shade_a, shade_b = (0.4 + 0.6 * np.clip(p.normals @ self.light, 0, 1) for p in (a, b))
        gain[face] = np.einsum("pk,pk->p", weights[face], ((shade_b / shade_a) ** CREASE_STRENGTH)[corners])
        interior = self._interior(part, b)
        flow, gain = self._fill(flow, gain, face, interior, b)
        mask = cv2.GaussianBlur(interior.astype(np.float32), (0, 0), 0.8)
        colour = np.zeros((height, width, 3), np.float32)
        if interior.any():
            colour = self._paint(interior, part, index, weights, b)
        gain = 1 + GAIN_RANGE * np.tanh((gain - 1) / GAIN_RANGE)  # deep folds saturate softly
        return Move(flow, gain.astype(np.float32), mask, colour)

    def _interior(self, part: np.ndarray, b: Pose3) -> np.ndarray:
        """Pixels between the lips that are not lip: (H, W) bool."""
        lips = b.points[self.rig.landmarks[MOUTH_INNER]]
        near = np.zeros(part.shape, np.uint8)
        middle = lips.mean(0)
        cv2.fillPoly(near, [np.round((middle + (lips - middle) * 1.15) * 16).astype(np.int32)], 1, shift=4)
        return (near > 0) & (part > FACE)

    def _fill(
        self, flow: np.ndarray, gain: np.ndarray, face: np.ndarray, interior: np.ndarray, b: Pose3
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion where the skin mesh has holes (eyes, mouth) and outside it (hair, neck, background)."""
        width = face.shape[1]
        known = face.copy()
        for eye in (LEFT_EYE, RIGHT_EYE):
            known |= _fill_eye(flow, face, b.points[self.rig.landmarks[eye]], self.fit.pose.scale)
        distance, label = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.zeros((label.max() + 1, 2), np.float32)
        nearest[label[known]] = flow[known]
        inside = interior | (distance < 3)
        fall = np.where(inside, 1, np.exp(-((distance / (FADE * width)) ** 2)))[..., None]
        spread = cv2.GaussianBlur(nearest[label] * fall, (0, 0), 0.02 * width)
        outer = np.clip((distance - 1) / 6, 0, 1)[..., None] * ~interior[..., None]
        spread = nearest[label] * fall * (1 - outer) + spread * outer
        flow = np.where(known[..., None], flow, spread).astype(np.float32)
        return cv2.GaussianBlur(flow, (0, 0), 0.7), cv2.GaussianBlur(gain, (0, 0), width / 200)

    def _paint(
        self, interior: np.ndarray, part: np.ndarray, index: np.ndarray, weights: np.ndarray, b: Pose3
    ) -> np.ndarray:
        """Teeth, gums, tongue and throat, lit like the skin around them: (H, W, 3) float32 in [0, 1]."""
        triangles = self.rig.triangles[index[interior]]
        position = np.einsum("pk,pkd->pd", weights[interior], b.vertices[triangles])
        normal = np.einsum("pk,pkd->pd", weights[interior], b.normals[triangles])
        lips = b.vertices[self.rig.landmarks[MOUTH_INNER]]
        front = float(lips[:, 2].max())
        depth = np.clip(front - position[:, 2], 0, 8)
        upper, lower = lips[1:4, 1].mean(), lips[5:8, 1].mean()
        shadow = max(0.25, 0.3 * (upper - lower))  # of the upper lip
        under_lip = np.clip((upper - position[:, 1]) / shadow, 0, 1)
        lit = (0.62 + 0.38 * np.clip(normal @ _DEFAULT_LIGHT, 0, 1)) * (0.72 + 0.28 * under_lip)
        kind = part[interior]
        fade = np.select(
            [kind == TEETH, kind == GUMS],
            [np.exp(-0.2 * np.clip(depth - 1.2, 0, 8)), np.exp(-0.3 * np.clip(depth - 1.0, 0, 8))],
            np.exp(-0.35 * depth),
        )
        albedo = np.empty((len(kind), 3), np.float32)
        albedo[:] = (0.34, 0.12, 0.11)
        albedo[kind == GUMS] = (0.74, 0.40, 0.38)
        albedo[kind == TEETH] = (0.95, 0.90, 0.83)
        colour = np.zeros((*interior.shape, 3), np.float32)
        tint, level = self._skin
        tints = np.where((kind == TEETH)[:, None], 1 + TEETH_TINT * (tint - 1), tint)
        colour[interior] = np.clip(albedo * (lit * fade * level)[:, None] * tints, 0, 1)
        filled = cv2.GaussianBlur(colour, (0, 0), 0.7)
        share = cv2.GaussianBlur(interior.astype(np.float32), (0, 0), 0.7)[..., None]
        return np.where(share > 1e-3, filled / np.maximum(share, 1e-3), 0).astype(np.float32)

    @cached_property
    def _skin(self) -> tuple[np.ndarray, float]:
        """Colour cast (3,) and brightness of the light on the lower face."""
        around = np.round(self.landmarks[[31, 35, 50, 52, 48, 54, 57]]).astype(int)
        height, width = self.image.shape[:2]
        patches = [
            self.image[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].reshape(-1, 3)
            for x, y in around
            if 3 <= x < width - 3 and 3 <= y < height - 3
        ]
        if not patches:
            return np.ones(3, np.float32), 0.8
        colour = np.median(np.concatenate(patches), axis=0) / 255.0 + 1e-3
        grey = float(colour.mean())
        tint = np.ones(3)  # of a grey photograph; the caller takes the colour out of teeth and tongue
        if float(colour.max() - colour.min()) > GREY_SPREAD * grey:
            tint = np.clip(colour / grey / WHITE_LIGHT_SKIN, 0.8, 1.2)
        return tint.astype(np.float32), float(np.clip(0.69 + 0.69 * grey, 0.69, 1.25))


class _Spread:
    """Thin-plate interpolation from 68 landmarks to any points, solved once per photograph."""

    def __init__(self, centres: np.ndarray, scale: float) -> None:
        self.centres = centres.astype(np.float64) / scale
        self.scale = scale
        n = len(centres)
        kernel = _thin_plate(self.centres, self.centres) + 2e-3 * np.eye(n)
        border = np.c_[np.ones(n), self.centres]
        self._matrix = np.block([[kernel, border], [border.T, np.zeros((3, 3))]])

    def __call__(self, values: np.ndarray, at: np.ndarray) -> np.ndarray:
        solved = np.linalg.solve(self._matrix, np.vstack([values, np.zeros((3, 2))]))
        points = at.astype(np.float64) / self.scale
        near = _thin_plate(points, self.centres) @ solved[:-3] + np.c_[np.ones(len(points)), points] @ solved[-3:]
        distance = np.sqrt(((points[:, None] - self.centres[None]) ** 2).sum(-1)).min(1)
        return near * np.exp(-((np.clip(distance - 1.0, 0, None) / 4) ** 2))[:, None]  # no wild guesses far from points


def _thin_plate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    return 0.5 * squared * np.log(squared + 1e-12)  # type: ignore[no-any-return]


def _fill_eye(flow: np.ndarray, face: np.ndarray, eye: np.ndarray, scale: float) -> np.ndarray:
    """Inside one eye the ball stays; motion fades from each lid towards the pupil with the third power.

    Returns the pixels filled (H, W) bool; writes `flow`.
    """
    height, width = face.shape
    filled = np.zeros((height, width), bool)
    margin = 0.5 * scale
    left, top = np.floor(eye.min(0) - margin).astype(int)
    right, bottom = np.ceil(eye.max(0) + margin).astype(int)
    for x in range(max(left, 0), min(right + 1, width)):
        column = face[max(top, 0) : bottom + 1, x]
        holes = np.flatnonzero(~column)
        if not len(holes) or not len(column) - len(holes):
            continue
        first, last = holes[0] + max(top, 0), holes[-1] + max(top, 0)
        if first - 1 < 0 or last + 1 >= height or not (face[first - 1, x] and face[last + 1, x]):
            continue
        rows = np.arange(first, last + 1)
        s = (rows - (first + last) / 2) / max((last - first) / 2 + 1, 1)
        up, down = np.clip(-s, 0, 1) ** 3, np.clip(s, 0, 1) ** 3
        flow[rows, x] = up[:, None] * flow[first - 1, x] + down[:, None] * flow[last + 1, x]
        filled[rows, x] = True
    return filled


_DEFAULT_LIGHT = np.array([0.1, 0.42, 0.9]) / np.linalg.norm([0.1, 0.42, 0.9])
