"""Pictures side by side with labels, and results that are several results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from emotalk import layout
from emotalk.result import Result, Speech


def picture(value: int, size: tuple[int, int] = (60, 40)) -> np.ndarray:
    return np.full((size[1], size[0], 3), value, np.uint8)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (5, 3, 2), (8, 4, 2), (16, 4, 4)]
)
def test_tiles_stand_in_rows(count: int, columns: int, rows: int) -> None:
    whole = layout.side_by_side([picture(number + 100) for number in range(count)], ["x"] * count)
    bar = layout.bar_height(40)
    assert whole.shape == (rows * (40 + bar), columns * 60, 3)
    assert layout.tiled_size((60, 40), count) == (columns * 60, rows * (40 + bar))
    for number in range(count):
        row, column = divmod(number, columns)
        tile = whole[row * (40 + bar) + bar : (row + 1) * (40 + bar), column * 60 : (column + 1) * 60]
        assert (tile == number + 100).all()


def test_wide_pictures_become_smaller() -> None:
    whole = layout.side_by_side([picture(9, (3000, 1500))] * 3, ["a", "b", "c"])
    assert whole.shape[1] == layout.WIDEST
    assert whole.shape[0] == 640 + layout.bar_height(640)


def test_labels_are_written_inside_their_bars() -> None:
    for text in ("sad 3", "happy 50% surprised 50% 2.75 and a very long rest"):
        bar = np.zeros((30, 200, 3), np.uint8)
        layout.write(bar, text)
        inked = np.argwhere(bar.any(-1))
        assert len(inked) > 20
        assert inked.min() > 0 and inked[:, 0].max() < 29 and inked[:, 1].max() < 199


def test_results_side_by_side_are_a_result() -> None:
    closed: list[int] = []

    def source(value: int) -> Iterator[np.ndarray]:
        try:
            for step in range(3):
                yield picture(value + step)
        finally:
            closed.append(value)

    speech = Speech((np.sin(np.arange(8000) / 9).astype(np.float32), 16_000))
    results = [Result(lambda value=value: source(value), (60, 40), 3, 25.0, speech) for value in (10, 20)]  # type: ignore[misc]
    both = Result.side_by_side(results, ["ten", "twenty"])
    frames = list(both.frames())
    assert (len(frames), both.frame_count, both.fps, both.duration) == (3, 3, 25.0, 3 / 25)
    assert frames[0].shape == (both.size[1], both.size[0], 3)
    assert [frame[-1, 0, 0] for frame in frames] == [10, 11, 12]
    assert [frame[-1, -1, 0] for frame in frames] == [20, 21, 22]
    closed.clear()
    some = both.frames()
    next(some)
    some.close()  # type: ignore[attr-defined]
    assert sorted(closed) == [10, 20]
