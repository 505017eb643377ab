"""Several pictures as one: side by side, each with its label. It knows pictures and texts only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

WIDEST = 3840  # pixels of all tiles in a row
MOST_COLUMNS = 4
BAR = 0.07  # height of a label, as a share of a tile's height
SMALLEST_BAR = 18  # pixels
PAPER, INK = (24, 24, 24), (235, 235, 235)


def columns_of(count: int) -> int:
    """How many tiles stand in a row: all, or as evenly as can be."""
    rows = math.ceil(count / MOST_COLUMNS)
    return math.ceil(count / rows)


def tile_size(size: tuple[int, int], count: int) -> tuple[int, int]:
    """Width and height of each picture; smaller than it was if all of them would be too wide."""
    width, height = size
    scale = min(1.0, WIDEST / (width * columns_of(count)))
    return max(2, round(width * scale)), max(2, round(height * scale))


def bar_height(height: int) -> int:
    """Pixels of the label over a tile of that height."""
    return max(SMALLEST_BAR, round(BAR * height))


def tiled_size(size: tuple[int, int], count: int) -> tuple[int, int]:
    """Width and height of `side_by_side` for `count` pictures of one size."""
    width, height = tile_size(size, count)
    columns = columns_of(count)
    return width * columns, (height + bar_height(height)) * math.ceil(count / columns)


def side_by_side(pictures: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Pictures of one size in rows of at most four, each under its label.

    Shape:
        pictures: (H, W, 3) uint8 each. returns: (H', W', 3) uint8, see `tiled_size`.
    """
    height, width = pictures[0].shape[:2]
    tile = tile_size((width, height), len(pictures))
    columns = columns_of(len(pictures))
    whole_width, whole_height = tiled_size((width, height), len(pictures))
    canvas = np.full((whole_height, whole_width, 3), PAPER, np.uint8)
    bar = bar_height(tile[1])
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        row, column = divmod(number, columns)
        top, left = row * (tile[1] + bar), column * tile[0]
        small = picture if tile == (width, height) else cv2.resize(picture, tile, interpolation=cv2.INTER_AREA)
        canvas[top + bar : top + bar + tile[1], left : left + tile[0]] = small
        write(canvas[top : top + bar, left : left + tile[0]], label)
    return canvas


def write(bar: np.ndarray, text: str) -> None:
    """Write a text into a bar, in place, as large as it fits."""
    height, width = bar.shape[:2]
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, height // 22)
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, thickness)
    scale = min(0.5 * height / max(high, 1), 0.94 * width / max(wide, 1))
    place = round((width - wide * scale) / 2), round((height + high * scale) / 2)
    cv2.putText(bar, text, place, font, scale, INK, thickness, cv2.LINE_AA)
