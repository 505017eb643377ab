"""An open face rig: neutral head, identity modes, FACS-like expressions, landmarks, mouth interior."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError

IDENTITY_MODES = 50
UPPER_TEETH_DROP = 0.36  # centimetres: the rig's upper teeth hide behind the lip, a talker's show
LOWER_TEETH_DROP = 0.25  # and its lower teeth show at the corners, a talker's hide
PARTS = ("face", "mouth_socket", "gums_tongue", "teeth")  # what is drawn; hair, eyes and neck stay the photograph's


@dataclass(frozen=True)
class Rig:
    """ICT FaceKit, light version, reduced to the drawn parts. Units are centimetres, x to the right of the picture,
    y up, z towards the viewer.

    Shape:
        neutral:    (V, 3) float32
        identity:   (I, V, 3) float32, one standard deviation each, strongest first
        expression: (E, V, 3) float32, displacement at weight 1
        names:      E names, ARKit names with _L and _R of the subject
        triangles:  (N, 3) int32, counter-clockwise from outside
        part:       (N,) int8, index into `PARTS`
        landmarks:  (68,) vertex of each iBUG point
        face:       number of vertices of the skin; they come first

    Source:
        ICT FaceKit (USC Institute for Creative Technologies, MIT licence).
    """

    neutral: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    names: tuple[str, ...]
    triangles: np.ndarray
    part: np.ndarray
    landmarks: np.ndarray
    face: int

    @classmethod
    def load(cls, path: Path) -> Rig:
        """Read `ict_facekit_light.npz`, or a folder that holds it.

        Raises:
            InputError: if the file is missing or is another rig.
        """
        file = path / "ict_facekit_light.npz" if path.is_dir() else path
        try:
            with np.load(file, allow_pickle=False) as kit:
                arrays = {name: kit[name] for name in kit.files}
            ranges = dict(zip(arrays["part_names"].tolist(), arrays["part_vertex_ranges"].tolist(), strict=True))
            return cls._reduced(arrays, ranges)
        except FileNotFoundError:
            raise InputError(f"no face rig at {file}; give the folder that holds ict_facekit_light.npz") from None
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{file} is not the light ICT face rig ({error})") from None

    @classmethod
    def _reduced(cls, arrays: dict[str, np.ndarray], ranges: dict[str, list[int]]) -> Rig:
        triangles = arrays["triangles"]
        part = np.full(len(triangles), -1, np.int8)
        keep: list[np.ndarray] = []
        for index, name in enumerate(PARTS):
            first, last = ranges[name]
            part[((triangles >= first) & (triangles <= last)).all(1)] = index
            keep.append(np.arange(first, last + 1))
        vertices = np.concatenate(keep)
        new = np.full(len(arrays["neutral"]), -1, np.int64)
        new[vertices] = np.arange(len(vertices))
        neutral = arrays["neutral"][vertices].astype(np.float32)
        jaw = arrays["expression"][arrays["expression_names"].tolist().index("jawOpen"), vertices].astype(np.float32)
        teeth = (vertices >= ranges["teeth"][0]) & (vertices <= ranges["teeth"][1])
        upper = np.linalg.norm(jaw, axis=1) < 1e-3  # the upper jaw does not move
        neutral[teeth & upper, 1] -= UPPER_TEETH_DROP
        neutral[teeth & ~upper, 1] -= LOWER_TEETH_DROP
        return cls(
            neutral=neutral,
            identity=arrays["identity"][:IDENTITY_MODES, vertices].astype(np.float32),
            expression=arrays["expression"][:, vertices].astype(np.float32),
            names=tuple(str(name) for name in arrays["expression_names"]),
            triangles=np.ascontiguousarray(new[triangles[part >= 0]].astype(np.int32)),
            part=part[part >= 0],
            landmarks=new[arrays["landmarks68"]],
            face=ranges["face"][1] - ranges["face"][0] + 1,
        )

    def weights(self, table: dict[str, float]) -> np.ndarray:
        """Expression weights (E,) from names; a name without _L or _R sets both sides."""
        out = np.zeros(len(self.names), np.float32)
        for name, value in table.items():
            for full in [name] if name in self.names else [f"{name}_L", f"{name}_R"]:
                out[self.names.index(full)] = value
        return out

    def mirror(self, weights: np.ndarray) -> np.ndarray:
        """Swap left and right in expression weights (..., E)."""
        swap = {"_L": "_R", "_R": "_L"}
        other = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
        names = [n[:-2] + swap[n[-2:]] if n[-2:] in swap else other.get(n, n) for n in self.names]
        return weights[..., [self.names.index(name) for name in names]]

    def skin(self, who: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) for identity weights (I,) and expression weights (E,)."""
        still = self.neutral + np.tensordot(who.astype(np.float32), self.identity[: len(who)], 1)
        return still + self.moved(expression)

    def moved(self, expression: np.ndarray) -> np.ndarray:
        """Displacement (V, 3) for expression weights (E,); only the weights that are not 0 cost time."""
        used = np.flatnonzero(expression)
        return np.tensordot(expression[used].astype(np.float32), self.expression[used], 1)  # type: ignore[no-any-return]
