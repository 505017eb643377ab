"""An evaluation as one self-contained web page: tables, plots, contact sheets and small clips; no script."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from . import __version__, paper, plots
from .emotions import EMOTIONS
from .evaluation.measure import Measured
from .evaluation.summary import PER_RUN, Evaluation, judgements
from .files import new_file
from .metrics import METRICS, NOT_COMPUTED
from .video import LOCAL_FILES

CLIP_SECONDS = 8.0
CLIP_SIDE = 256  # pixels, longer side
MOST_CLIP_BYTES = 24_000_000  # of all clips together; a page of more is slow to open
BARS = ("m_lmd", "f_lmd", "psnr", "ssim", "sync_correlation", "strength")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>
:root{{--ink:#1c2430;--page:#fff;--soft:#f0f3f7;--faint:#c9d1db;color-scheme:light dark}}
@media(prefers-color-scheme:dark){{:root{{--ink:#e3e8ef;--page:#14181e;--soft:#222932;--faint:#3b4552}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;max-width:1180px;padding:16px;background:var(--page);
color:var(--ink);font:15px/1.45 system-ui,sans-serif}}
h1{{font-size:1.5rem;margin:.2em 0}}
h2{{font-size:1.15rem;margin:1.6em 0 .5em}}
h3{{font-size:1rem;margin:.2em 0 .4em;overflow-wrap:anywhere}}
.wide{{overflow-x:auto}}table{{border-collapse:collapse;font-size:.87rem}}
th,td{{padding:3px 9px;text-align:right;border-bottom:1px solid var(--soft);white-space:nowrap}}
ol{{font-size:.82rem;padding-left:1.8em;overflow-wrap:anywhere}}
th:first-child,td:first-child,td.text,th.text{{text-align:left}}td.text{{white-space:normal;min-width:15em;max-width:34em}}
td:first-child{{white-space:normal;min-width:9em}}
tbody tr.group td{{font-weight:600;background:var(--soft)}}
.grid{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:18px}}
.card{{background:var(--soft);border-radius:8px;padding:12px;min-width:0}}.card .plot .soft{{fill:var(--page)}}
.pair{{display:flex;gap:8px;flex-wrap:wrap}}figure{{margin:0;flex:1 1 140px;min-width:0}}figcaption{{font-size:.8rem}}
img,video{{max-width:100%;border-radius:4px;display:block}}video{{width:100%;max-height:260px;background:#000}}
.bad{{border-left:4px solid #c0392b;padding-left:8px;overflow-wrap:anywhere}}
summary{{cursor:pointer}}small{{opacity:.85}}
{style}</style></head><body>
{body}
</body></html>
"""


def write_report(evaluation: Evaluation, path: Path) -> Path:
    """Write the page.

    Raises:
        OutputError: if it cannot be written.
    """
    with new_file(path) as part:
        part.write_text(page(evaluation), "utf-8")
    return path


def page(evaluation: Evaluation) -> str:
    """The whole page as text."""
    done, asked = len(evaluation.measured), len(evaluation.videos)
    judge = evaluation.judge or "none"
    body = [
        "<h1>Talking videos, measured</h1>",
        f"<p>{done} of {asked} videos evaluated by emotalk {__version__}; landmarks: {escape(evaluation.landmarks)}; "
        f"emotion network: {escape(judge)}.</p>",
        *_failures(evaluation),
        "<h2>Totals</h2>",
        _totals(evaluation),
        "<h2>Plots</h2>",
        '<div class="grid">',
        *(f'<section class="card"><h3>{escape(title)}</h3>{plot}</section>' for title, plot in figures(evaluation)),
        "</div>",
        "<h2>Videos</h2>",
        '<div class="grid">',
        *_cards(evaluation),
        "</div>",
        _protocols(),
    ]
    return PAGE.format(title="Talking videos, measured", style=plots.STYLE, body="\n".join(body))


def figures(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Plots over all videos, each with its heading; those without data are left out."""
    names = [emotion.value for emotion in EMOTIONS]
    matrix = evaluation.confusion()
    if matrix is not None:
        yield "Confusion of emotions", plots.matrix(names, matrix, "wished", "judged")
    curves: dict[str, list[tuple[float, float]]] = {}
    for video in evaluation.measured:
        item = video.item
        if item.emotion is not None and item.intensity is not None and "strength" in video.values:
            curves.setdefault(item.emotion, []).append((item.intensity, video.values["strength"]))
    means = {name: _mean_by_x(points) for name, points in curves.items()}
    if any(len(points) > 1 for points in means.values()):
        yield (
            "Expression strength over wished intensity",
            plots.lines(means, "intensity", METRICS["strength"].unit, dots=True),
        )
    found = evaluation.by_emotion()
    for key in BARS:
        values = [found[name][key].mean if key in found[name] else None for name in found]
        if len(found) > 1 and any(value is not None for value in values):
            metric = METRICS[key]
            label = f"{metric.title} ({metric.better} is better)" if "er" in metric.better else metric.title
            yield f"{metric.title} by emotion", plots.bars(list(found), {"videos": values}, label, metric.digits)
    yield "Emotion recognised: MEAD's user study, Table 2", plots.bars(names, _recognised(evaluation), "share right")
    yield (
        "Intensities confused: MEAD's user study, Table 3",
        plots.bars(
            list(paper.INTENSITY_CONFUSION),
            {
                "paper, captured": [captured for captured, _ in paper.INTENSITY_CONFUSION.values()],
                "paper, generated": [generated for _, generated in paper.INTENSITY_CONFUSION.values()],
            },
            "share confused",
        ),
    )
    yield (
        "FID: MEAD, Table 4 (ours is not computed)",
        plots.bars(names, {"paper": [paper.FID[emotion] for emotion in EMOTIONS]}, "FID, lower is better", 1),
    )


def _recognised(evaluation: Evaluation) -> dict[str, Sequence[float | None]]:
    series: dict[str, Sequence[float | None]] = {
        "paper, captured": [paper.STUDY_CAPTURED[emotion] for emotion in EMOTIONS],
        "paper, generated": [paper.STUDY_GENERATED[emotion] for emotion in EMOTIONS],
    }
    judged = judgements(evaluation.measured)
    if judged:
        ours: list[float | None] = []
        for emotion in EMOTIONS:
            said = [wished == one for wished, one in judged if wished == emotion.value]
            ours.append(float(np.mean(said)) if said else None)
        series["these videos, judged by the network"] = ours
    return series


def _mean_by_x(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, float(np.mean([v for u, v in points if u == x]))) for x in sorted({u for u, _ in points})]


def _failures(evaluation: Evaluation) -> Iterator[str]:
    lines = [*evaluation.failure_lines, *evaluation.plan.unmatched]
    lines += [f"{one.path}: {text}" for one in (*evaluation.videos, *evaluation.real) for text in one.warnings]
    if lines:
        yield '<div class="bad">' + "<br>".join(escape(line) for line in lines) + "</div>"


def _totals(evaluation: Evaluation) -> str:
    whole, real, reasons = evaluation.totals(), evaluation.real_totals(), evaluation.reasons()
    rows: list[str] = []
    notes: list[str] = []
    group = ""

    def footnotes(*texts: str) -> str:
        notes.extend(text for text in texts if text not in notes)
        return " ".join(f"<sup>{notes.index(text) + 1}</sup>" for text in texts)

    for metric in METRICS.values():
        if metric.group != group:
            group = metric.group
            rows.append(f'<tr class="group"><td colspan="7">{escape(group)}</td></tr>')
        found, true, said = whole.get(metric.key), real.get(metric.key), paper.PUBLISHED.get(metric.key)
        texts = [reasons[metric.key]] if metric.key in reasons else []
        texts += [f"published: {said.who}"] if said else []
        cells = [
            "-" if found is None else f"{found.mean:.{metric.digits}f}",
            "" if found is None or found.count < 2 else f"±{found.deviation:.{metric.digits}f}",
            "-" if true is None else f"{true.mean:.{metric.digits}f}",
            _published(said),
            metric.better,
        ]
        name = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        rows.append(
            f'<tr><td title="{escape(metric.protocol)}">{escape(name)}</td>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + f"<td>{footnotes(*texts)}</td></tr>"
        )
    rows.append('<tr class="group"><td colspan="7">not computed</td></tr>')
    for key, (title, why) in NOT_COMPUTED.items():
        said = paper.PUBLISHED.get(key)
        texts = [why] + ([f"published: {said.who}"] if said else [])
        cells = ["-", "", "-", _published(said), ""]
        rows.append(
            f"<tr><td>{escape(title)}</td>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + f"<td>{footnotes(*texts)}</td></tr>"
        )
    said_below = "".join(f"<li>{escape(text)}</li>" for text in notes)
    head = "<th>metric</th><th>videos</th><th></th><th>real</th><th>published (real)</th><th>better</th>"
    return (
        f'<div class="wide"><table><thead><tr>{head}<th>notes</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div><ol>{said_below}</ol>"
        "<p><small>Published numbers were measured under other protocols, crops and detectors: an order of magnitude."
        "</small></p>"
    )


def _published(said: paper.Published | None) -> str:
    if said is None:
        return ""
    return f"{said.generated:g}" if said.real is None else f"{said.generated:g} ({said.real:g})"


def _cards(evaluation: Evaluation) -> Iterator[str]:
    room = MOST_CLIP_BYTES
    real = {one.path: one for one in evaluation.real}
    for video in evaluation.videos:
        item = video.item
        wish = item.emotion or "no wish known"
        wish += f", intensity {item.intensity:g}" if item.intensity is not None else ""
        head = f'<section class="card"><h3>{escape(video.path.name)}</h3><p>{escape(wish)}</p>'
        if video.error is not None:
            yield head + f'<p class="bad">{escape(video.error)}</p></section>'
            continue
        beside = None if item.reference is None else real.get(item.reference)
        parts = []
        for caption, one in (("video", video), ("real", beside)):
            if one is None or one.error is not None:
                continue
            clip = small_clip(one.path) if room > 0 else None
            room -= len(clip or b"")
            parts.append(f"<figure>{_film(one, clip)}<figcaption>{caption}</figcaption></figure>")
        sheets = "".join(
            _picture(np.concatenate(one.sheet, axis=1), f"frames of {one.path.name}")
            for one in (video, beside)
            if one is not None and one.sheet and all(p.shape == one.sheet[0].shape for p in one.sheet)
        )
        yield (
            head + f'<div class="pair">{"".join(parts)}</div>{sheets}{mouth_plot(video)}'
            f"<details><summary>Numbers</summary>{_numbers(video)}</details></section>"
        )


def mouth_plot(video: Measured) -> str:
    """Opening of the mouth over time: of the video, of the real one, and as the sound lets expect."""
    titles = {"opening": "video", "real opening": "real", "expected": "expected from the sound"}
    series = {
        title: [(index / video.fps, float(value)) for index, value in enumerate(video.curves[key])]
        for key, title in titles.items()
        if key in video.curves
    }
    return plots.lines(series, "seconds", "mouth opening, eye distances")


def _numbers(video: Measured) -> str:
    rows = []
    for metric in METRICS.values():
        if metric.key in PER_RUN:
            continue
        value = video.values.get(metric.key)
        cell = f"{value:.{metric.digits}f}" if value is not None else "-"
        why = video.missing.get(metric.key, "")
        rows.append(f"<tr><td>{escape(metric.title)}</td><td>{cell}</td><td class='text'>{escape(why)}</td></tr>")
    return f'<div class="wide"><table><tbody>{"".join(rows)}</tbody></table></div>'


def _protocols() -> str:
    rows = "".join(
        f"<tr><td>{escape(metric.title)}</td><td>{escape(metric.span)}</td>"
        f'<td class="text">{escape(metric.protocol)}</td><td class="text">{escape(metric.source)}</td></tr>'
        for metric in METRICS.values()
    )
    return (
        '<details><summary><strong>How each number is computed</strong></summary><div class="wide"><table><thead><tr>'
        '<th>metric</th><th>range</th><th class="text">protocol</th><th class="text">source</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _picture(picture: np.ndarray, text: str) -> str:
    return f'<img alt="{escape(text)}" loading="lazy" src="{_jpeg(picture)}">'


def _jpeg(picture: np.ndarray) -> str:
    good, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert good
    return f"data:image/jpeg;base64,{_base64(data.tobytes())}"


def _film(one: Measured, clip: bytes | None) -> str:
    if clip is None:
        return f"<p><small>{escape(one.path.name)}: the page is full, or its clip cannot be made</small></p>"
    poster = f' poster="{_jpeg(one.sheet[0])}"' if one.sheet else ""
    source = f"data:video/mp4;base64,{_base64(clip)}"
    return f'<video controls loop playsinline preload="metadata"{poster} src="{source}"></video>'


def small_clip(path: Path, seconds: float = CLIP_SECONDS, side: int = CLIP_SIDE) -> bytes | None:
    """The first seconds of a video with its sound as a small mp4 for browsers; None if that fails."""
    import imageio_ffmpeg

    scale = f"scale='if(gt(iw,ih),{side},-2)':'if(gt(iw,ih),-2,{side})',format=yuv420p"
    with tempfile.TemporaryDirectory(prefix="emotalk-") as folder:
        part = Path(folder) / "clip.mp4"
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *LOCAL_FILES, "-i", f"file:{path}",
            "-t", f"{seconds:g}", "-map", "0:v:0", "-map", "0:a:0?", "-vf", scale, "-c:v", "libx264",
            "-preset", "veryfast", "-crf", "27", "-c:a", "aac", "-b:a", "64k", "-ac", "1", "-ar", "48000",
            "-movflags", "+faststart", f"file:{part}",
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode or not part.is_file():
            return None
        return part.read_bytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
