"""`emotalk prepare`: recordings of a corpus become training data."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import PrepareConfig
from ..corpora import CORPORA, Filter, Scan, SplitRule, counts, missing, readable, scan
from ..emotions import EMOTIONS, parse_emotion
from ..errors import ConfigError, UsageError
from .options import JsonOption, LandmarkDetector, LandmarksOption, QuietOption
from .output import note, show

if TYPE_CHECKING:
    from ..prepare.run import Progress, Result

WANTED, DATA, SPLIT, PUPPETS, WORK = "Which clips", "Prepared clips", "Split", "Puppets", "Work"
DEFAULT = PrepareConfig()
SHARES = SplitRule()

RootArgument = Annotated[Path | None, typer.Argument(metavar="CORPUS", help="Folder with the recordings.")]
OutputArgument = Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder for the prepared corpus.")]
CorpusOption = Annotated[str, typer.Option("--corpus", metavar="NAME", help=f"{', '.join(CORPORA)}; auto looks.")]
ActorsOption = Annotated[
    str, typer.Option("--actors", metavar="A,B", help="Only these people.", rich_help_panel=WANTED)
]
ViewsOption = Annotated[str, typer.Option("--views", metavar="A,B", help="Only these views.", rich_help_panel=WANTED)]
EmotionsOption = Annotated[
    str, typer.Option("--emotions", metavar="A,B", help="Only these emotions.", rich_help_panel=WANTED)
]
LevelsOption = Annotated[
    str, typer.Option("--levels", metavar="A,B", help="Only these levels, as the corpus writes them.",
                      rich_help_panel=WANTED)
]  # fmt: skip
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="N clips, spread over the corpus.", rich_help_panel=WANTED)
]
RateOption = Annotated[float, typer.Option("--fps", metavar="RATE", help="Frames per second.", rich_help_panel=DATA)]
SizeOption = Annotated[
    int, typer.Option("--size", metavar="PIXELS", help="Side of the aligned crops.", rich_help_panel=DATA)
]
QualityOption = Annotated[
    int, typer.Option("--quality", metavar="1..100", help="Of the crops as JPEG.", rich_help_panel=DATA)
]
MissingOption = Annotated[
    float, typer.Option("--missing", metavar="PERCENT", help="Frames without a face that a clip may have.",
                        rich_help_panel=DATA)
]  # fmt: skip
LongestOption = Annotated[
    float, typer.Option("--longest", metavar="SECONDS", help="Longer clips are left out.", rich_help_panel=DATA)
]
SilentOption = Annotated[bool, typer.Option("--silent", help="Take clips without sound too.", rich_help_panel=DATA)]
SplitOption = Annotated[
    str, typer.Option("--split", metavar="KIND", rich_help_panel=SPLIT,
                      help="mead (its last sentences), identity or fraction; auto is mead for MEAD, else fraction.")
]  # fmt: skip
TestActorsOption = Annotated[
    str, typer.Option("--test-actors", metavar="A,B", help="For --split identity.", rich_help_panel=SPLIT)
]
TestFractionOption = Annotated[
    float, typer.Option("--test-fraction", metavar="0..1", help="Share for the test.", rich_help_panel=SPLIT)
]
DevFractionOption = Annotated[
    float, typer.Option("--dev-fraction", metavar="0..1", help="Share for dev.", rich_help_panel=SPLIT)
]
SplitSeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", help="Of the split and of puppets.", rich_help_panel=SPLIT)
]
RigOption = Annotated[
    Path | None, typer.Option("--rig", metavar="PATH", help="The face rig, ict_facekit_light.npz or its folder.",
                              rich_help_panel=PUPPETS)
]  # fmt: skip
SpeechOption = Annotated[
    Path | None, typer.Option("--speech", metavar="FOLDER", rich_help_panel=PUPPETS,
                              help="Talking clips with landmarks; without it puppets babble silently.")
]  # fmt: skip
TakesOption = Annotated[
    int, typer.Option("--takes", metavar="N", help="Sentences per portrait.", rich_help_panel=PUPPETS)
]
VideosOption = Annotated[
    Path | None, typer.Option("--videos", metavar="FOLDER", rich_help_panel=PUPPETS,
                              help="Also write the clips as mp4 and m4a in MEAD's layout.")
]  # fmt: skip
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", metavar="N", help="Clips at once; one per processor if not said.",
                             rich_help_panel=WORK)
]  # fmt: skip
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS", rich_help_panel=WORK,
                             help="Work on a Ray cluster; auto is the one of this machine.")
]  # fmt: skip
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what was recognised and what is missing; write nothing.",
                       rich_help_panel=WORK)
]  # fmt: skip
InspectOption = Annotated[
    bool, typer.Option("--inspect", help="Make a page to look at of the prepared corpus OUT.", rich_help_panel=WORK)
]


def prepare(
    root: RootArgument = None,
    output: OutputArgument = None,
    corpus: CorpusOption = "auto",
    actors: ActorsOption = "",
    views: ViewsOption = "",
    emotions: EmotionsOption = "",
    levels: LevelsOption = "",
    limit: LimitOption = None,
    fps: RateOption = DEFAULT.fps,
    size: SizeOption = DEFAULT.size,
    quality: QualityOption = DEFAULT.quality,
    missing_percent: MissingOption = DEFAULT.most_missing * 100,
    longest: LongestOption = DEFAULT.longest,
    silent: SilentOption = False,
    landmarks: LandmarksOption = LandmarkDetector.AUTO,
    split: SplitOption = "auto",
    test_actors: TestActorsOption = "",
    test_fraction: TestFractionOption = SHARES.test_fraction,
    dev_fraction: DevFractionOption = SHARES.dev_fraction,
    seed: SplitSeedOption = 0,
    rig: RigOption = None,
    speech: SpeechOption = None,
    takes: TakesOption = 1,
    videos: VideosOption = None,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    dry_run: DryRunOption = False,
    inspect: InspectOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn recordings of talking people into training data."""
    if inspect:
        if root is None or output is not None or dry_run:
            raise UsageError("--inspect takes one folder, the prepared corpus")
        from ..prepare.page import inspect as write_page  # imports cv2

        page = write_page(root)
        show({"page": str(page)}, str(page), as_json=as_json)
        return
    if root is None or (output is None and not dry_run):
        raise UsageError("give the folder with the recordings and the folder for the prepared corpus")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit is {limit}; it must be 1 or more")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; it must be 1 or more")
    if cluster is not None and jobs is not None:
        raise UsageError("--jobs and --cluster exclude each other; the cluster knows its processors")
    wanted = Filter(
        actors=_words(actors), views=_words(views), emotions=tuple(map(parse_emotion, _words(emotions))),
        levels=_words(levels), limit=limit,
    )  # fmt: skip
    rule = SplitRule(
        kind=split, test_actors=_words(test_actors), test_fraction=test_fraction, dev_fraction=dev_fraction, seed=seed
    )
    config = PrepareConfig(
        fps=fps, size=size, quality=quality, most_missing=missing_percent / 100, longest=longest, silent=silent
    )
    puppet = None
    if corpus == "puppet":
        from ..prepare.puppets import PuppetRule, scan_portraits  # imports cv2 and more

        if rig is None:
            raise UsageError("puppets need --rig: ict_facekit_light.npz, the light ICT face rig, or its folder")
        puppet = PuppetRule(
            rig=str(rig.absolute()), speech=None if speech is None else str(speech.absolute()), takes=takes, seed=seed
        )
        scanned = scan_portraits(root, puppet)
    elif rig or speech or videos or takes != 1:
        raise UsageError("--rig, --speech, --takes and --videos belong to --corpus puppet")
    else:
        scanned = scan(root, corpus)
    if dry_run:
        facts, text = overview(scanned, wanted, rule)
        show(facts, text, as_json=as_json)
        return

    from ..prepare.cluster import check_cluster, run_cluster
    from ..prepare.run import prepare as run  # imports torch

    if cluster is not None:
        check_cluster()

    assert output is not None
    note(f"{len(scanned.clips)} clips of a {scanned.corpus} corpus recognised", quiet=quiet)
    with clip_progress(quiet=quiet) as on_clip:
        result = run(
            scanned, output, wanted=wanted, rule=rule, config=config, landmarks=landmarks.value, puppet=puppet,
            jobs=jobs, runner=None if cluster is None else lambda tasks: run_cluster(tasks, cluster),
            on_clip=on_clip,
        )  # fmt: skip
    if videos is not None:
        from ..prepare.export import export_mead

        export_mead(output, videos)
    note(summary(result), quiet=quiet)
    if not result.splits.get("train"):
        note("no clip is for training; take more clips, or --split fraction or identity", quiet=quiet)
    show(asdict(result), result.output, as_json=as_json)
    if result.quarantined:
        raise typer.Exit(1)


def summary(result: Result) -> str:
    """One line about what came out."""
    kept = f" ({result.kept} from before)" if result.kept else ""
    text = f"{result.clips} clips{kept}, {result.frames} frames, {result.hours:.2f} hours"
    if result.quarantined:
        causes = ", ".join(f"{count} {reason}" for reason, count in result.reasons.items())
        text += f"; {result.quarantined} in quarantine: {causes}; see {Path(result.output) / 'report.txt'}"
    return text


def overview(scanned: Scan, wanted: Filter, rule: SplitRule) -> tuple[dict[str, Any], str]:
    """What a run would take: facts, and the same as text."""
    from ..corpora import split_clips

    chosen = wanted.apply(scanned.clips)
    sides = split_clips(scanned.clips, rule)
    splits = dict(Counter(sides[clip.name] for clip in chosen))
    table = counts(chosen)
    lost = missing(scanned)
    facts = {
        "corpus": scanned.corpus,
        "clips": len(chosen),
        "splits": splits,
        "counts": [
            {"actor": actor, "emotion": emotion, "level": level, "clips": number}
            for (actor, emotion, level), number in table.items()
        ],
        "with_sound_file": sum(clip.sound is not None for clip in chosen),
        "missing": lost,
        "rejected": [
            {"path": readable(item.path), "reason": item.reason, "detail": item.detail} for item in scanned.rejected
        ],
        "strangers": [readable(path) for path in scanned.strangers],
        "left_out": dict(scanned.left_out),
    }
    lines = [f"{scanned.corpus}: {len(chosen)} clips ({', '.join(f'{n} {side}' for side, n in splits.items())})", ""]
    lines += _table(table)
    for title, items in (
        ("missing", lost),
        ("rejected", [f"{readable(i.path)}: {i.reason}, {i.detail}" for i in scanned.rejected]),
        ("not named as this corpus names them", [readable(path) for path in scanned.strangers]),
        ("left out on purpose", [f"{count} {cause}" for cause, count in scanned.left_out.items()]),
    ):
        if items:
            lines += ["", f"{title}:", *(f"  {item}" for item in items)]
    return facts, "\n".join(lines)


def _table(table: dict[tuple[str, str, str], int]) -> list[str]:
    """Actors down, emotion and level across."""
    order = [emotion.value for emotion in EMOTIONS]
    found = {(emotion, level) for _, emotion, level in table}
    columns = sorted(found, key=lambda c: (order.index(c[0]) if c[0] in order else len(order), c[1]))
    actors = list(dict.fromkeys(actor for actor, _, _ in table))
    heads = [f"{emotion}/{level}" if level != "-" else emotion for emotion, level in columns]
    first = max(len("actor"), *(len(actor) for actor in actors)) if actors else 5
    lines = [" ".join([f"{'actor':{first}}", *heads])]
    for actor in actors:
        cells = [f"{table.get((actor, *column), 0):{len(head)}}" for column, head in zip(columns, heads, strict=True)]
        lines.append(" ".join([f"{actor:{first}}", *cells]))
    return lines


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


@contextmanager
def clip_progress(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on stderr with rate and time left; without a terminal nothing."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("clips"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        bad = 0

        def on_clip(progress: Progress) -> None:
            nonlocal bad
            bad += bool(progress.outcome.reason)
            rate = progress.frames / max(progress.seconds, 1e-3)
            said = f"{rate:.0f} frames/s" + (f", {bad} in quarantine" if bad else "")
            bar.update(task, completed=progress.done, total=progress.total, description=said)

        yield on_clip
