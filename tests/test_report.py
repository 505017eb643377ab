"""The report: everything in one file that asks nobody for anything, whatever the videos are called."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from emotalk import plots, report
from emotalk.emotions import EMOTIONS
from emotalk.errors import OutputError
from emotalk.evaluation.items import Item, Plan
from emotalk.evaluation.measure import Measured
from emotalk.evaluation.summary import Evaluation
from emotalk.metrics import METRICS, NOT_COMPUTED
from emotalk.video import VideoWriter, probe

VOID = {"meta", "link", "img", "br", "circle", "rect", "line", "polyline"}
EVIL = '<script>alert("x")</script>&.mp4'


class Walk(HTMLParser):
    """Checks that every tag is closed; collects tags and the addresses they ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "poster")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    with VideoWriter(path, 320, 180, 25) as writer:
        for level in range(30):
            writer.write(np.full((180, 320, 3), 8 * level, np.uint8))
    return path


def measured(path: Path, emotion: str, intensity: float, strength: float, reference: Path | None = None) -> Measured:
    item = Item(path, reference=reference, emotion=emotion, intensity=intensity)
    return Measured(
        item, path, {"strength": strength, "jitter": 1.0}, {"psnr": "needs a reference"},
        {"judged_emotion": emotion}, {"opening": np.linspace(0, 0.3, 30), "expected": np.zeros(30)},
        [np.full((20, 30, 3), 9, np.uint8)] * 3, fps=25.0,
    )  # fmt: skip


@pytest.fixture
def evaluation(film: Path) -> Evaluation:
    real = measured(film, "sad", 1, 1.0)
    videos = [
        measured(film, "sad", 1, 3.0, reference=film),
        measured(film, "sad", 3, 6.0),
        measured(film, "happy", 2, 4.0),
        Measured(Item(Path(EVIL)), Path(EVIL), error=f"{EVIL} is empty"),
    ]
    return Evaluation(Plan([], {"reference": [Path(EVIL)]}), videos, [real], "fake & judge", "shipped")


def test_the_page_is_whole_and_asks_for_nothing(evaluation: Evaluation, tmp_path: Path) -> None:
    text = report.write_report(evaluation, tmp_path / "r.html").read_text("utf-8")
    walk = Walk(text)
    assert not walk.open
    assert walk.addresses and all(address.startswith("data:") for address in walk.addresses)
    assert "script" not in walk.tags and "url(" not in text and "@import" not in text
    assert "&lt;script&gt;" in text and "fake &amp; judge" in text
    assert walk.tags.count("video") == 4  # one of them has a real one beside it


def test_the_page_says_everything(evaluation: Evaluation) -> None:
    text = report.page(evaluation)
    for metric in METRICS.values():
        assert metric.title in text and metric.protocol.split("'")[0] in text
    for title, why in NOT_COMPUTED.values():
        assert title in text and why.split("'")[0] in text
    for heading in (
        "Confusion of emotions",
        "Expression strength over wished intensity",
        "Table 2",
        "Table 3",
        "Table 4",
    ):
        assert heading in text
    assert "3 of 4 videos" in text and "86.26 (86.29)" in text


def test_clips_are_small_and_play(film: Path, tmp_path: Path) -> None:
    data = report.small_clip(film)
    assert data is not None and len(data) < 50_000
    (tmp_path / "clip.mp4").write_bytes(data)
    info = probe(tmp_path / "clip.mp4")
    assert (info.width, info.height) == (256, 144) and info.duration == pytest.approx(1.2, abs=0.05)
    assert report.small_clip(tmp_path / "absent.mp4") is None


def test_a_full_page_leaves_clips_out_and_says_so(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_CLIP_BYTES", 10)
    text = report.page(evaluation)
    assert text.count("<video") == 1 and "the page is full" in text


def test_a_page_without_a_single_video_is_a_page(tmp_path: Path) -> None:
    broken = Measured(Item(Path("a.mp4")), Path("a.mp4"), error="a.mp4 is empty")
    assert not Walk(report.page(Evaluation(Plan([]), [broken], [], None, "shipped"))).open
    with pytest.raises(OutputError):
        report.write_report(Evaluation(Plan([]), [broken], [], None, "shipped"), tmp_path / "no" / "r.html")


def test_a_curve_is_drawn_to_scale() -> None:
    drawn = plots.lines({"a": [(0.0, 0.0), (1.0, 1.0), (2.0, 0.5)]}, "x", "y")
    points = [tuple(map(float, p.split(","))) for p in re.findall(r'points="([^"]+)"', drawn)[0].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.2)
    grid = [float(y) for y in re.findall(r'class="axis"[^>]* y1="([\d.]+)"', drawn)]  # 0, 0.5 and 1
    assert [y0, y2, y1] == pytest.approx(grid, abs=0.2)
    assert plots.lines({}, "x", "y") == plots.lines({"a": []}, "x", "y") == ""


def test_bars_are_as_long_as_their_values() -> None:
    drawn = plots.bars(["one", "two"], {"a": [1.0, 4.0], "b": [None, 2.0]}, "label")
    widths = [float(w) for w in re.findall(r'x="\d+" y="\d+" width="([\d.]+)"', drawn)]
    assert len(widths[-3:]) == 3
    short, long, middle = widths[-3:]
    assert long == pytest.approx(4 * short, rel=0.01) and middle == pytest.approx(2 * short, rel=0.01)
    assert plots.bars(["one"], {"a": [None]}, "label") == ""


def test_the_matrix_colours_shares_of_rows() -> None:
    counts = np.zeros((8, 8), int)
    counts[0, :2] = (3, 1)
    drawn = plots.matrix([emotion.value for emotion in EMOTIONS], counts, "wished", "judged")
    assert 'fill-opacity="0.75"' in drawn and 'fill-opacity="0.25"' in drawn
    assert ">3</text>" in drawn


@pytest.mark.parametrize(("low", "high", "found"), [(0, 1, [0, 0.5, 1]), (0, 0.3, [0, 0.1, 0.2, 0.3]), (2, 2, [2])])
def test_ticks_are_round(low: float, high: float, found: list[float]) -> None:
    assert plots.ticks(low, high) == pytest.approx(found)


@pytest.mark.real
def test_a_browser_shows_it_without_errors(evaluation: Evaluation, tmp_path: Path) -> None:
    """Headless Chromium lays it out within the width of a telephone and decodes every clip."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    text = report.page(evaluation)
    probe_script = """<script>
    const films=[...document.querySelectorAll("video")];
    Promise.all(films.map(f=>new Promise(r=>{f.onloadeddata=()=>r(f.videoWidth);f.onerror=()=>r(-1);f.preload="auto";
    f.load()}))).then(w=>{document.body.dataset.found=w.join()+";"+document.documentElement.scrollWidth+";"+innerWidth})
    </script></body>"""
    page = tmp_path / "r.html"
    page.write_text(text.replace("</body>", probe_script), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--virtual-time-budget=8000"]
    done = subprocess.run(
        [browser, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'data-found="([\d,;-]+)"', done.stdout)
    assert found is not None, done.stderr[-500:]
    widths, used, width = found[1].split(";")
    assert set(widths.split(",")) == {"256"}
    assert int(used) <= int(width)
    assert base64.b64decode(re.findall(r"data:video/mp4;base64,([^\"]{400})", text)[0])[4:8] == b"ftyp"
