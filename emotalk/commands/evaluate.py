"""`emotalk evaluate`: numbers for talking videos, beside the real video and beside what was published."""

from __future__ import annotations

import csv
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..device import check_device_name
from ..errors import InputError, OutputError, UsageError
from ..files import new_file
from ..weights import check_source, fetch_set
from .options import (
    OUTPUT,
    RUNTIME,
    DeviceOption,
    JsonOption,
    LandmarkDetector,
    LandmarksOption,
    OfflineOption,
    OverwriteOption,
    QuietOption,
    WeightsOption,
)
from .output import byte_progress, check_input, note, show

if TYPE_CHECKING:
    from ..evaluation.items import Plan
    from ..evaluation.summary import Evaluation
    from ..paper import Published

PIPED_WIDTH = 132  # characters of a table that no terminal shows

VideosArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="VIDEO...", help="Videos to evaluate, or folders of them.")
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(
        "--manifest", metavar="FILE", help="CSV or JSON lines instead: video, reference, source, emotion, ..."
    ),
]
ReferenceOption = Annotated[
    list[Path] | None,
    typer.Option("--reference", "-r", metavar="REAL", help="Real video or folder, matched by name; may be repeated."),
]
SourceOption = Annotated[
    list[Path] | None,
    typer.Option("--source", "-s", metavar="PHOTO", help="Source photograph or folder, matched by name; one for all."),
]
WishOption = Annotated[
    str | None, typer.Option("--emotion", "-e", metavar="NAME", help="What was wished; else the file name says it.")
]
StrengthOption = Annotated[
    float | None, typer.Option("--intensity", "-i", metavar="0..3", help="What was wished; else the file name says it.")
]
JudgeOption = Annotated[
    Path | None,
    typer.Option(
        "--emotion-network",
        metavar="FILE",
        help="ONNX file of HSEmotion that judges emotions.",
        rich_help_panel=RUNTIME,
    ),
]
CsvOption = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write one row per video.", rich_help_panel=OUTPUT)
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Write one web page: plots, pictures, small clips.", rich_help_panel=OUTPUT
    ),
]
BenchmarkOption = Annotated[
    Path | None,
    typer.Option(
        "--benchmark", metavar="PREPARED", help="Generate the test clips of a prepared corpus and evaluate those."
    ),
]
STUDY = "User study"
StudyOption = Annotated[
    Path | None,
    typer.Option(
        "--study", metavar="FOLDER", help="Make a page that asks people what they see.", rich_help_panel=STUDY
    ),
]
AnswersOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--study-results", metavar="FILE", help="Answers of a participant, or a folder of them; may be repeated.",
        rich_help_panel=STUDY,
    ),
]  # fmt: skip


def evaluate(
    videos: VideosArgument = None,
    reference: ReferenceOption = None,
    source: SourceOption = None,
    manifest: ManifestOption = None,
    benchmark: BenchmarkOption = None,
    emotion: WishOption = None,
    intensity: StrengthOption = None,
    landmarks: LandmarksOption = LandmarkDetector.AUTO,
    emotion_network: JudgeOption = None,
    device: DeviceOption = "auto",
    weights: WeightsOption = "shipped",
    offline: OfflineOption = False,
    csv_file: CsvOption = None,
    report: ReportOption = None,
    study: StudyOption = None,
    study_results: AnswersOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure talking videos: against real ones, their photographs, their sound, and published numbers."""
    from ..evaluation.items import plan, read_manifest

    if study_results:
        if study is None or videos or manifest is not None:
            raise UsageError("--study-results needs --study FOLDER, the folder of the study, and no videos")
        study_tables(study, study_results, quiet=quiet, as_json=as_json)
        return
    if (manifest is not None or benchmark is not None) and (
        videos or reference or source or emotion is not None or intensity is not None or (manifest and benchmark)
    ):
        raise UsageError(
            "--manifest and --benchmark say everything; give no videos, references, sources or wishes beside"
        )
    if benchmark is not None and study is not None:
        raise UsageError("--study asks about videos that exist; generate them first")
    if manifest is not None:
        wanted = read_manifest(check_input(manifest, "manifest"))
    elif benchmark is None:
        if not videos:
            raise UsageError("give at least one video, or --manifest FILE")
        wanted = plan(videos, reference or (), source or (), emotion, intensity)
    if study is not None:
        make_study_page(wanted, study, quiet=quiet, as_json=as_json)
        return
    check_device_name(device)
    check_source(weights)
    for path in (csv_file, report):
        if path is not None:
            check_new(path, overwrite=overwrite)
    with byte_progress(quiet=quiet) as on_bytes:
        fetch_set(weights, offline=offline, on_bytes=on_bytes)
    with tempfile.TemporaryDirectory(prefix="emotalk-") as folder:
        if benchmark is not None:
            wanted = generate_test_side(benchmark, Path(folder), landmarks, weights, device, offline, quiet=quiet)
        for line in wanted.unmatched:
            note(line, quiet=quiet)
        result = run(wanted, landmarks, weights, device, offline, emotion_network, quiet=quiet)
        if csv_file is not None:
            write_csv(csv_file, result)
        if report is not None:
            from ..report import write_report

            note(f"the report is {write_report(result, report)}", quiet=quiet)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH
    show(result.as_facts() if as_json else {}, "" if as_json else table(result, width), as_json=as_json)
    for one in (*result.videos, *result.real):
        for warning in one.warnings:
            note(f"{one.path}: {warning}", quiet=quiet)
    for line in result.failure_lines:
        note(f"not evaluated: {line}")
    if result.failures or wanted.unmatched:
        raise typer.Exit(1 if result.measured else InputError.exit_code)


def generate_test_side(
    prepared: Path,
    folder: Path,
    landmarks: LandmarkDetector,
    weights: str,
    device: str,
    offline: bool,
    *,
    quiet: bool,
) -> Plan:
    """Generated videos beside the recordings of the test side of a prepared corpus."""
    from ..data import Corpus
    from ..evaluation.benchmark import make_benchmark
    from ..pipeline import Pipeline

    corpus = Corpus(prepared)
    pipeline = Pipeline(device=device, weights=weights, landmarks=landmarks.value, offline=offline)

    def on_clip(name: str, done: int, total: int) -> None:
        note(f"generating {name}, {done + 1} of {total}", quiet=quiet)

    return make_benchmark(corpus, folder, pipeline, on_clip)


def run(
    wanted: Plan,
    landmarks: LandmarkDetector,
    weights: str,
    device: str,
    offline: bool,
    emotion_network: Path | None,
    *,
    quiet: bool,
) -> Evaluation:
    """Measure everything that was planned."""
    from ..evaluation.judge import HSEmotion
    from ..evaluation.measure import Evaluator, Measured
    from ..evaluation.summary import Evaluation

    judge = None if emotion_network is None else HSEmotion(emotion_network)
    evaluator = Evaluator(landmarks.value, weights, device, offline, judge)
    measured: list[Measured] = []
    real: dict[Path, Measured] = {}
    with video_progress(len(wanted.items), quiet=quiet) as (on_frame, on_video):
        for item in wanted.items:
            on_video(str(item.video.name))
            video, beside = evaluator.measure(item, on_frame)
            measured.append(video)
            if beside is not None:
                real.setdefault(beside.path, beside)
        on_video("")
    return Evaluation(wanted, measured, list(real.values()), judge.name if judge else None, evaluator.landmarks)


def make_study_page(wanted: Plan, folder: Path, *, quiet: bool, as_json: bool) -> None:
    """Write the page of a study; files that cannot be used are named, and the exit status tells."""
    from ..study import KEY, make_study

    page, problems = make_study(wanted.items, folder)
    for line in problems:
        note(f"not in the study: {line}")
    note(f"give {page.parent} to the participants; {folder / KEY} stays with you", quiet=quiet)
    show({"page": str(page), "key": str(folder / KEY), "problems": problems}, str(page), as_json=as_json)
    if problems:
        raise typer.Exit(1)


def study_tables(folder: Path, answers: list[Path], *, quiet: bool, as_json: bool) -> None:
    """The paper's Tables 2 and 3 from the files of the participants."""
    from ..study import evaluate_study, read_answers, tables

    clips, usable, problems = read_answers(folder, answers)
    result = evaluate_study(clips, usable)
    show({**result.as_facts(), "problems": problems}, "" if as_json else tables(result), as_json=as_json)
    for line in problems:
        note(f"not counted: {line}", quiet=quiet)
    if problems:
        raise typer.Exit(1)


def check_new(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot be written before anything slow begins."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it")
    if path.exists() and not overwrite:
        raise OutputError(f"the output {path} exists; add --overwrite to replace it")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist")


def write_csv(path: Path, result: Evaluation) -> None:
    """One row for each video and each real video."""
    from ..evaluation.summary import CSV_COLUMNS, csv_rows

    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(csv_rows(result))
    with new_file(path) as part:
        part.write_text(text.getvalue(), "utf-8")


def table(result: Evaluation, width: int) -> str:
    """Totals beside the real videos and published numbers, then the videos one by one."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from .. import paper
    from ..metrics import METRICS, NOT_COMPUTED

    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False, emoji=False, markup=False)
    whole, real, reasons = result.totals(), result.real_totals(), result.reasons()
    notes: list[str] = []

    def footnote(*texts: str) -> str:
        for text in texts:
            if text not in notes:
                notes.append(text)
        return " ".join(str(notes.index(text) + 1) for text in texts)

    main = Table(title=headline(result), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    main.add_column("metric")
    for name in ("videos", "±", "of", "real", "published"):
        main.add_column(name, justify="right", no_wrap=True)
    main.add_column("better")
    main.add_column("notes")
    for group in GROUPS:
        main.add_section()
        for metric in (one for one in METRICS.values() if one.group == group):
            found, true, said = whole.get(metric.key), real.get(metric.key), paper.PUBLISHED.get(metric.key)
            texts = [reasons[metric.key]] if metric.key in reasons else []
            if metric.key == "emotion_accuracy" and result.judge is not None:
                texts.append(result.judge)
            main.add_row(
                f"{metric.title}, {metric.unit}" if metric.unit else metric.title,
                "-" if found is None else f"{found.mean:.{metric.digits}f}",
                "" if found is None or found.count < 2 else f"{found.deviation:.{metric.digits}f}",
                "" if found is None else str(found.count),
                "-" if true is None else f"{true.mean:.{metric.digits}f}",
                *published(said),
                metric.better,
                footnote(*texts, *([said.who] if said else [])),
            )
    main.add_section()
    for key, (title, why) in NOT_COMPUTED.items():
        said = paper.PUBLISHED.get(key)
        main.add_row(title, "-", "", "", "-", *published(said), "", footnote(why, *([said.who] if said else [])))
    console.print(main)
    for number, text in enumerate(notes, start=1):
        console.print(f"{number}: {text}")
    console.print(videos_table(result))
    console.print(
        "Published, with that of real video in brackets: measured under other protocols, crops and detectors; read it "
        "as an order of magnitude. How each number here is computed: emotalk evaluate --json, key metrics."
    )
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines())


GROUPS = ("against the real video", "speech", "emotion", "landmarks", "picture")
EACH = ("psnr", "ssim", "m_lmd", "f_lmd", "sync_correlation", "sync_lag", "energy_correlation", "lip_closure",
        "jitter", "sharpness", "strength")  # fmt: skip


def published(said: Published | None) -> tuple[str]:
    """The cell with somebody else's number, and of the real videos in brackets."""
    if said is None:
        return ("",)
    return (f"{said.generated:g}" if said.real is None else f"{said.generated:g} ({said.real:g})",)


def headline(result: Evaluation) -> str:
    """How many videos, by what landmarks."""
    return f"{len(result.measured)} of {len(result.videos)} videos evaluated; landmarks: {result.landmarks}"


def videos_table(result: Evaluation) -> Any:
    """One row per video with the most asked for numbers; failures with their reason."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ..metrics import METRICS

    shown = [key for key in EACH if any(key in one.values for one in (*result.videos, *result.real))]
    each = Table(title="each video", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    each.add_column("video", overflow="fold", min_width=30)
    for key in shown:
        each.add_column(SHORT.get(key, METRICS[key].title), justify="right")
    rows: Sequence[tuple[str, Any]] = [("", one) for one in result.videos] + [("real: ", one) for one in result.real]
    for prefix, one in rows:
        if one.error is not None:
            each.add_row(f"{prefix}{one.path.name}: {one.error}")
            continue
        cells = [f"{one.values[key]:.{METRICS[key].digits}f}" if key in one.values else "-" for key in shown]
        each.add_row(f"{prefix}{one.path.name}", *cells)
    return each


SHORT = {
    "sync_correlation": "sync", "sync_lag": "lag ms", "energy_correlation": "energy", "lip_closure": "closed %",
    "sharpness": "sharp", "strength": "strength",
    "m_lmd": "M-LMD", "f_lmd": "F-LMD",
}  # fmt: skip


@contextmanager
def video_progress(total: int, *, quiet: bool) -> Iterator[tuple[Callable[[], None], Callable[[str], None]]]:
    """A bar on stderr; its functions are called for each frame, and with a name for each video begun."""
    if quiet or not sys.stderr.isatty():
        yield (lambda: None), (lambda _: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("videos"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        begun, frames, name = -1, 0, ""

        def on_frame() -> None:
            nonlocal frames
            frames += 1
            bar.update(task, description=f"{name}, {frames} frames")

        def on_video(called: str) -> None:
            nonlocal begun, frames, name
            begun, frames, name = begun + 1, 0, called
            bar.update(task, completed=begun, description=called)

        yield on_frame, on_video
