"""A prepared corpus as one page that people would rather look at than read numbers; no file beside it is needed."""

from __future__ import annotations

import base64
import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..corpora import REASONS, SPLITS
from ..data import QUARANTINE, STATISTICS, ClipReader, Corpus, Row
from ..emotions import EMOTIONS
from ..errors import InputError
from ..landmarks import CROP_SIZE, CURVES
from .clip import write_text

PAGE = "inspect.html"
TILE = 112  # pixels of a face in the contact sheets
PER_CELL = 4  # faces of one emotion and level
OVERLAYS = 16
POINTS = 3000  # clips in a plot
LISTED = 100  # clips in the table of the quarantine
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fafafa; max-width: 1180px; margin: 2rem auto;
       padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem }
.numbers { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.numbers div { background: #fff; border: 1px solid #e2e2e2; border-radius: 8px; padding: .5rem 1rem }
.numbers b { display: block; font-size: 1.35rem }
table { border-collapse: collapse; background: #fff } td, th { border: 1px solid #e2e2e2; padding: .25rem .5rem;
       text-align: left; vertical-align: top } th { background: #f1f1f1; font-weight: 600 }
td.faces { padding: 2px; white-space: nowrap } img { display: block }
.plots { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; background: #fff; border: 1px solid #e2e2e2; border-radius: 8px; padding: .6rem }
figcaption { color: #555; font-size: .85rem } .scroll { overflow-x: auto } small { color: #666 }
"""


def inspect(folder: Path) -> Path:
    """Write `inspect.html` into the folder of a prepared corpus.

    Raises:
        InputError: if the folder holds none.
        OutputError: if the page cannot be written.
    """
    corpus = Corpus(folder)
    try:
        statistics = json.loads((folder / STATISTICS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / STATISTICS} cannot be read ({error}); run emotalk prepare again") from None
    body = "\n".join(_body(corpus, statistics))
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(folder.name)}</title>"
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body>{body}</body></html>\n"
    )
    path = folder / PAGE
    write_text(path, page)
    return path


def _body(corpus: Corpus, statistics: dict[str, Any]) -> Iterator[str]:
    rows = corpus.rows
    yield f"<h1>{escape(corpus.folder.name)}</h1><small>{escape(str(corpus.about['corpus']))} corpus, "
    yield f"{escape(str(corpus.about['landmarks']))} landmarks, emotalk {escape(str(corpus.about['version']))}</small>"
    bad = sum(statistics["quarantine"].values())
    yield '<div class="numbers">'
    for number, what in (
        (f"{statistics['clips']:,}", "clips"),
        (f"{len({row.actor for row in rows}):,}", "people"),
        (f"{statistics['picture_hours']:.2f}", "hours"),
        (f"{statistics['frames']:,}", "frames"),
        (f"{100 * statistics['valid_frames'] / max(statistics['frames'], 1):.1f} %", "of them with a face"),
        (" / ".join(str(statistics["splits"][side]) for side in SPLITS), " / ".join(SPLITS)),
        (f"{bad:,}", "in quarantine"),
    ):
        yield f"<div><b>{number}</b>{escape(what)}</div>"
    yield "</div><h2>Faces by emotion and level</h2>"
    yield from _faces(corpus)
    yield "<h2>Landmarks on the aligned crops</h2>"
    yield from _overlays(corpus)
    yield '<h2>Sound, picture, motion</h2><div class="plots">'
    pairs = [(float(r.facts["picture_seconds"]), float(r.facts["sound_seconds"])) for r in _spread(rows, POINTS)]
    heard = [pair for pair in pairs if pair[1] > 0]
    yield plot(heard, "picture, s", "sound, s", "Length of sound against picture; equal on the line", diagonal=True)
    explained = statistics["explained_variance"]
    yield plot(
        list(enumerate(explained, 1)),
        "components",
        "share",
        "Variance of the motion that the basis explains",
        line=True,
    )
    yield from _motion(corpus)
    yield "</div><h2>Quarantine</h2>"
    yield from _quarantine(corpus.folder, statistics["quarantine"])


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, evenly."""
    return [rows[i * len(rows) // count] for i in range(count)] if len(rows) > count else list(rows)


def _faces(corpus: Corpus) -> Iterator[str]:
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in corpus.rows:
        cells[row.emotion.value if row.emotion else "unknown", row.facts["level"] or "-"].append(row)
    order = [e.value for e in EMOTIONS] + ["unknown"]
    levels = sorted({level for _, level in cells})
    yield '<div class="scroll"><table><tr><th></th>'
    yield "".join(f"<th>level {escape(level)}</th>" for level in levels) + "</tr>"
    for emotion in order:
        if not any((emotion, level) in cells for level in levels):
            continue
        yield f"<tr><th>{emotion}</th>"
        for level in levels:
            found = cells.get((emotion, level), [])
            shown = [_face(corpus, row) for row in _spread(found, PER_CELL)]
            faces = [face for face in shown if face is not None]
            picture = _picture(np.hstack(faces), f"{emotion}, level {level}") if faces else ""
            count = "1 clip" if len(found) == 1 else f"{len(found)} clips"
            yield f'<td class="faces">{picture}<small>{count}</small></td>'
        yield "</tr>"
    yield "</table></div>"


def _face(corpus: Corpus, row: Row) -> np.ndarray | None:
    """A typical moment of a clip: the mouth as open as it usually is."""
    with corpus.open(row) as clip:
        if not clip.valid.any():
            return None
        usual = float(np.median(clip.opening[clip.valid]))
        number = int(np.argmin(np.where(clip.valid, np.abs(clip.opening - usual), np.inf)))
        return cv2.resize(clip.frame(number), (TILE, TILE), interpolation=cv2.INTER_AREA)


def _overlays(corpus: Corpus) -> Iterator[str]:
    tiles = []
    for row in _spread(corpus.rows, OVERLAYS):
        with corpus.open(row) as clip:
            known = np.flatnonzero(clip.valid)
            if len(known):
                tiles.append(overlay(clip, int(known[len(known) // 2]), 2 * TILE))
    blank = np.full((2 * TILE, 2 * TILE, 3), 250, np.uint8)
    across = min(5, max(1, len(tiles)))
    tiles += [blank] * (-len(tiles) % across)
    rows = [np.hstack(tiles[i : i + across]) for i in range(0, len(tiles), across)]
    yield _picture(np.vstack(rows), "landmarks") if rows else "<p>no faces</p>"


def overlay(clip: ClipReader, number: int, size: int) -> np.ndarray:
    """A frame with its 68 landmarks drawn over it, (size, size, 3) uint8 RGB."""
    picture = cv2.resize(clip.frame(number), (size, size), interpolation=cv2.INTER_AREA)
    points = np.round(clip.landmarks[number] * (size / CROP_SIZE) * 16).astype(np.int32)
    for part, closed in CURVES:
        cv2.polylines(picture, [points[part].reshape(-1, 1, 2)], closed, (60, 255, 90), 1, cv2.LINE_AA, 4)
    return picture


def _motion(corpus: Corpus) -> Iterator[str]:
    """How far mouths open, by emotion."""
    sums: dict[str, list[float]] = defaultdict(list)
    for row in _spread(corpus.rows, 400):
        with corpus.open(row) as clip:
            if clip.valid.any():
                widest = float(np.percentile(clip.opening[clip.valid], 90))
                sums[row.emotion.value if row.emotion else "unknown"].append(widest)
    names = [name for name in [*(e.value for e in EMOTIONS), "unknown"] if name in sums]
    yield bars([(name, float(np.median(sums[name]))) for name in names], "Wide mouth openings (90 %), in eye distances")


def _quarantine(folder: Path, reasons: dict[str, int]) -> Iterator[str]:
    if not reasons:
        yield "<p>Nothing was left out.</p>"
        return
    yield "<table><tr><th>reason</th><th>clips</th></tr>"
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        yield f"<tr><td>{escape(reason)}: {escape(REASONS.get(reason, ''))}</td><td>{count}</td></tr>"
    yield "</table><p></p><table><tr><th>file</th><th>reason</th><th>detail</th></tr>"
    with (folder / QUARANTINE).open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number == LISTED:
                yield f'<tr><td colspan="3">and more, see {QUARANTINE}</td></tr>'
                break
            cells = "".join(f"<td>{escape(row[key])}</td>" for key in ("source", "reason", "detail"))
            yield f"<tr>{cells}</tr>"
    yield "</table>"


def _picture(pixels: np.ndarray, text: str) -> str:
    done, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert done
    packed = base64.b64encode(jpeg.tobytes()).decode("ascii")
    height, width = pixels.shape[:2]
    return f'<img width="{width}" height="{height}" alt="{escape(text)}" src="data:image/jpeg;base64,{packed}">'


def plot(
    points: Sequence[tuple[float, float]], x_name: str, y_name: str, title: str, *, line: bool = False,
    diagonal: bool = False,
) -> str:  # fmt: skip
    """Points, or a line through them, as SVG."""
    width, height, left, bottom = 340, 240, 44, 34
    if not points:
        return f"<figure><figcaption>{escape(title)}: no data</figcaption></figure>"
    top_x = max(x for x, _ in points) * 1.05 or 1.0
    top_y = max(y for _, y in points) * 1.05 or 1.0
    if diagonal:
        top_x = top_y = max(top_x, top_y)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / top_x * (width - left - 8), (height - bottom) * (1 - y / top_y) + 6 * y / top_y

    parts = [f'<svg width="{width}" height="{height}" role="img" aria-label="{escape(title)}" font-size="11">']
    for step in range(5):
        value_x, value_y = top_x * step / 4, top_y * step / 4
        x, y = place(value_x, value_y)
        parts.append(f'<line x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{value_y:.3g}</text>')
        anchor = "end" if step == 4 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{height - 18}" text-anchor="{anchor}" fill="#666">{value_x:.3g}</text>')
    if diagonal:
        (x1, y1), (x2, y2) = place(0, 0), place(top_x, top_y)
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#bbb"/>')
    placed = [place(x, y) for x, y in points]
    if line:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="#2a6fbb" stroke-width="2"/>')
    radius = 2.5 if len(points) < 300 else 1.5
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="#2a6fbb" opacity=".7"/>' for x, y in placed]
    parts.append(f'<text x="{width / 2}" y="{height - 4}" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(f'<text x="10" y="{height / 2}" transform="rotate(-90 10 {height / 2})">{escape(y_name)}</text></svg>')
    return f"<figure>{''.join(parts)}<figcaption>{escape(title)}</figcaption></figure>"


def bars(values: Sequence[tuple[str, float]], title: str) -> str:
    """Named values as horizontal bars in SVG."""
    if not values:
        return f"<figure><figcaption>{escape(title)}: no data</figcaption></figure>"
    width, row = 340, 24
    top = max(value for _, value in values) or 1.0
    parts = [f'<svg width="{width}" height="{row * len(values) + 4}" role="img" aria-label="{escape(title)}" '
             'font-size="12">']  # fmt: skip
    for number, (name, value) in enumerate(values):
        y = number * row
        parts.append(f'<text x="80" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="88" y="{y + 4}" width="{max(value, 0) / top * 200:.1f}" height="16" fill="#2a6fbb"/>')
        parts.append(f'<text x="{92 + max(value, 0) / top * 200:.1f}" y="{y + 16}" fill="#666">{value:.2f}</text>')
    return f"<figure>{''.join(parts)}</svg><figcaption>{escape(title)}</figcaption></figure>"
