"""Which triangle covers which pixel: a depth-buffer rasteriser for the face rig."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, fastmath=True)
def rasterise(
    points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest front-facing triangle per pixel.

    Shape:
        points:    (V, 2) float32 pixels, x then y (y down); depth: (V,), larger is nearer.
        triangles: (N, 3) int32.
        returns:   index (height, width) int32, -1 where nothing is; weights (height, width, 3) float32 barycentric.
    """
    index = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 3), np.float32)
    nearest = np.full((height, width), -1e9, np.float32)
    for k in range(len(triangles)):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        x0, y0 = points[a, 0], points[a, 1]
        x1, y1 = points[b, 0], points[b, 1]
        x2, y2 = points[c, 0], points[c, 1]
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        if area >= -1e-9:  # image y points down: front faces are negative
            continue
        left, right = max(int(min(x0, x1, x2)), 0), min(int(max(x0, x1, x2)) + 1, width - 1)
        top, bottom = max(int(min(y0, y1, y2)), 0), min(int(max(y0, y1, y2)) + 1, height - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                l1 = ((x - x0) * (y2 - y0) - (y - y0) * (x2 - x0)) / area
                l2 = ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / area
                l0 = 1 - l1 - l2
                if l0 >= -1e-4 and l1 >= -1e-4 and l2 >= -1e-4:
                    z = l0 * depth[a] + l1 * depth[b] + l2 * depth[c]
                    if z > nearest[y, x]:
                        nearest[y, x] = z
                        index[y, x] = k
                        weights[y, x, 0] = l0
                        weights[y, x, 1] = l1
                        weights[y, x, 2] = l2
    return index, weights


@numba.njit(cache=True, fastmath=True)
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    out = np.zeros_like(vertices)
    for k in range(len(triangles)):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        wx, wy, wz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(len(out)):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-9
        out[i] /= length
    return out
