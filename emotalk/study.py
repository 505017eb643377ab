"""The paper's user study as a static page, and its Tables 2 and 3 from the answers that participants saved.

The page knows clips by random names only; which clip is real and what it was meant to show stands in `key.json`, which
stays with whoever runs the study.
"""

from __future__ import annotations

import json
import math
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import paper
from .emotions import EMOTIONS, parse_emotion
from .errors import ConfigError, InputError, OutputError
from .evaluation.items import Item
from .files import new_file, output_error
from .report import small_clip
from .video import probe

ANSWERS = "emotalk-study-answers/1"
KEY = "key.json"
PAGE = "page"
TEMPLATE = Path(__file__).parent / "assets" / "study.html"
CLIP_SECONDS, CLIP_SIDE = 20.0, 480
CAPTURED, GENERATED = "captured", "generated"
ORDERINGS: Mapping[tuple[int, int, int], str] = {
    (0, 1, 2): "right", (1, 0, 2): "weak-medium", (0, 2, 1): "medium-strong", (2, 1, 0): "weak-strong",
    (1, 2, 0): "all wrong", (2, 0, 1): "all wrong",
}  # fmt: skip
Z95 = 1.959963985  # of the normal distribution: 95 % lie within


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the 95 % confidence interval of Wilson (1927)."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """0 to 1; NaN without answers."""
        return self.hits / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound; 0 and 1 without answers."""
        if not self.count:
            return 0.0, 1.0
        n, p = self.count, self.value
        middle = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
        reach = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def as_facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "share": None if not self.count else round(self.value, 4),
            "interval": [round(bound, 4) for bound in self.interval],
            "hits": self.hits,
            "count": self.count,
        }


def make_study(items: Sequence[Item], folder: Path) -> tuple[Path, list[str]]:
    """Write the page and its key.

    Every video is a generated one, every reference a captured one; a captured one is taken to show the same wish.

    Returns:
        the page, and one line for each file that could not be used.

    Raises:
        ConfigError: if no video has a known emotion.
        OutputError: if the folder is not empty or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is not empty; give a new folder for the study")
    wanted: dict[tuple[Path, str], Item] = {}
    problems = [item.problem for item in items if item.problem]
    for item in items:
        known = item.emotion is not None and "=" not in item.emotion and item.problem is None
        if not known and item.problem is None:
            problems.append(f"{item.video}: no single emotion is known for it (--emotion, a manifest, or its name)")
        if known:
            wanted.setdefault((item.video, GENERATED), item)
            if item.reference is not None:
                wanted.setdefault((item.reference, CAPTURED), item)
    if not wanted:
        raise ConfigError("no video has a known emotion; name it with --emotion, a manifest, or the file name")
    try:
        (folder / PAGE / "clips").mkdir(parents=True)
    except OSError as error:
        raise output_error(folder, error) from error
    clips: dict[str, dict[str, Any]] = {}
    for (path, kind), item in wanted.items():
        try:
            sound = probe(path).has_sound
        except InputError as error:
            problems.append(str(error))
            continue
        data = small_clip(path, CLIP_SECONDS, CLIP_SIDE)
        if data is None:
            problems.append(f"{path} cannot be converted for a browser")
            continue
        name = secrets.token_hex(5)
        with new_file(folder / PAGE / "clips" / f"{name}.mp4") as part:
            part.write_bytes(data)
        clips[name] = {
            "kind": kind, "emotion": item.emotion, "intensity": item.intensity, "sound": sound, "file": str(path),
            "person": str(item.source or item.video.parent),
        }  # fmt: skip
    if not clips:
        raise InputError(f"none of the {len(wanted)} videos can be shown: {problems[-1]}")
    kinds = {clip["kind"] for clip in clips.values()}
    study = {
        "id": secrets.token_hex(8),
        "emotions": [emotion.value for emotion in EMOTIONS],
        "category": list(clips),
        "sounding": [name for name, clip in clips.items() if clip["sound"]],
        "order": triples(clips),
        "real": list(clips) if len(kinds) == 2 else [],
    }
    page = TEMPLATE.read_text("utf-8").replace("/*STUDY*/", json.dumps(study).replace("<", "\\u003c"))
    with new_file(folder / PAGE / "index.html") as part:
        part.write_text(page, "utf-8")
    with new_file(folder / KEY) as part:
        part.write_text(json.dumps({"study": study["id"], "clips": clips}, indent=1), "utf-8")
    return folder / PAGE / "index.html", [problem for problem in problems if problem]


def triples(clips: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Names of clips of one person, kind and emotion at the intensities 1, 2 and 3, weakest first."""
    groups: dict[tuple[str, str, str], dict[float, str]] = {}
    for name, clip in clips.items():
        if clip["intensity"] in (1.0, 2.0, 3.0):
            key = clip["person"], clip["kind"], clip["emotion"]
            groups.setdefault(key, {}).setdefault(clip["intensity"], name)
    return [[found[level] for level in (1.0, 2.0, 3.0)] for found in groups.values() if len(found) == 3]


def read_answers(folder: Path, paths: Sequence[Path]) -> tuple[Mapping[str, Any], list[dict[str, Any]], list[str]]:
    """The clips of the study, every usable answer, and one line for each file that cannot be used.

    Raises:
        InputError: if the key is missing or no file holds answers.
    """
    try:
        key = json.loads((folder / KEY).read_text("utf-8"))
        clips, study = key["clips"], key["study"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} holds no {KEY} of a study; give the folder that --study made") from None
    files = [inner for path in paths for inner in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    answers: list[dict[str, Any]] = []
    problems: list[str] = []
    raters: set[str] = set()
    for path in files:
        try:
            said = json.loads(path.read_text("utf-8"))
            if said["format"] != ANSWERS:
                raise ValueError
            rater, given = str(said["rater"]), [one for one in said["answers"] if one]
        except (OSError, ValueError, KeyError, TypeError):
            problems.append(f"{path} holds no answers of a study")
            continue
        if said.get("study") != study:
            problems.append(f"{path} belongs to another study")
        elif rater in raters:
            problems.append(f"{path} repeats the answers of {rater}")
        else:
            raters.add(rater)
            usable = [{**one, "rater": rater} for one in given if _fits(one, clips)]
            if len(usable) < len(given):
                problems.append(f"{path}: {len(given) - len(usable)} answers name unknown clips or choices")
            answers += usable
    if not answers:
        raise InputError(f"no answers were found: {problems[0] if problems else 'no file was given'}")
    return clips, answers, problems


def _fits(one: Any, clips: Mapping[str, Any]) -> bool:
    try:
        if one["test"] == "order":
            given = one["answer"]
            return len(given) == 3 and {clips[name]["intensity"] for name in given} == {1.0, 2.0, 3.0}
        if one["test"] == "real":
            return one["clip"] in clips and one["answer"] in ("recording", "computer")
        return one["test"] == "category" and one["clip"] in clips and bool(parse_emotion(one["answer"]))
    except (KeyError, TypeError, AttributeError, ConfigError):
        return False


@dataclass(frozen=True)
class StudyResult:
    """What the participants said.

    Attributes:
        accuracy: (kind, with sound, emotion) -> right answers.
        orders: (kind, way of being wrong) -> orderings.
        taken_for_real: kind -> answers "recording".
        kappa: agreement on the emotion, Fleiss 1971; NaN if it cannot be told.
    """

    raters: int
    accuracy: Mapping[tuple[str, bool, str], Share]
    orders: Mapping[tuple[str, str], Share]
    taken_for_real: Mapping[str, Share]
    kappa: float

    def mean_accuracy(self, kind: str, sound: bool) -> Share:
        """Over all emotions."""
        shares = [share for (k, s, _), share in self.accuracy.items() if (k, s) == (kind, sound)]
        return Share(sum(share.hits for share in shares), sum(share.count for share in shares))

    def as_facts(self) -> dict[str, Any]:
        """Everything as JSON values, the paper's beside."""
        kinds, names = (CAPTURED, GENERATED), [emotion.value for emotion in EMOTIONS]
        sounds = {"silent": False, "with_sound": True}
        return {
            "format": "emotalk-study/1",
            "raters": self.raters,
            "accuracy": {
                kind: {
                    title: {
                        **{name: self.accuracy[kind, sound, name].as_facts() for name in names},
                        "all": self.mean_accuracy(kind, sound).as_facts(),
                    }
                    for title, sound in sounds.items()
                }
                for kind in kinds
            },
            "intensity_order": {
                kind: {way: self.orders[kind, way].as_facts() for way in dict.fromkeys(ORDERINGS.values())}
                for kind in kinds
            },
            "taken_for_real": {kind: self.taken_for_real[kind].as_facts() for kind in kinds},
            "fleiss_kappa": None if math.isnan(self.kappa) else round(self.kappa, 4),
            "paper": paper.as_facts(),
        }


def evaluate_study(clips: Mapping[str, Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> StudyResult:
    """The paper's Tables 2 and 3 from the answers."""
    right: Counter[tuple[str, bool, str]] = Counter()
    asked: Counter[tuple[str, bool, str]] = Counter()
    ways: Counter[tuple[str, str]] = Counter()
    real: Counter[str] = Counter()
    real_asked: Counter[str] = Counter()
    said: dict[tuple[str, bool], Counter[str]] = {}
    for one in answers:
        if one["test"] == "category":
            clip, sound = clips[one["clip"]], bool(one.get("sound"))
            chosen = parse_emotion(one["answer"]).value
            asked[clip["kind"], sound, clip["emotion"]] += 1
            right[clip["kind"], sound, clip["emotion"]] += chosen == clip["emotion"]
            said.setdefault((one["clip"], sound), Counter())[chosen] += 1
        elif one["test"] == "order":
            wished = sorted(one["answer"], key=lambda name: clips[name]["intensity"])
            way = ORDERINGS[tuple(wished.index(name) for name in one["answer"])]  # type: ignore[index]
            ways[clips[one["answer"][0]]["kind"], way] += 1
        else:
            kind = clips[one["clip"]]["kind"]
            real_asked[kind] += 1
            real[kind] += one["answer"] == "recording"
    kinds, names = (CAPTURED, GENERATED), [emotion.value for emotion in EMOTIONS]
    orderings = {kind: sum(count for (k, _), count in ways.items() if k == kind) for kind in kinds}
    return StudyResult(
        raters=len({one["rater"] for one in answers}),
        accuracy={
            (kind, sound, name): Share(right[kind, sound, name], asked[kind, sound, name])
            for kind in kinds
            for sound in (False, True)
            for name in names
        },
        orders={
            (kind, way): Share(ways[kind, way], orderings[kind]) for kind in kinds for way in set(ORDERINGS.values())
        },
        taken_for_real={kind: Share(real[kind], real_asked[kind]) for kind in kinds},
        kappa=fleiss_kappa([[count[name] for name in names] for count in said.values()]),
    )


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float:
    """Agreement of raters beyond chance: 1 complete, 0 as by chance; NaN if no item has two ratings or all are alike.

    Args:
        counts: for every item, how many raters chose each category; the number of raters may differ between items.

    Source:
        Fleiss 1971; items weighted by their raters when these differ in number.
    """
    table = np.array([row for row in counts if sum(row) >= 2], float)
    if not len(table):
        return math.nan
    raters = table.sum(1)
    agreement = float(np.average((table * (table - 1)).sum(1) / (raters * (raters - 1)), weights=raters))
    chance = float(((table.sum(0) / table.sum()) ** 2).sum())
    return math.nan if chance >= 1 else (agreement - chance) / (1 - chance)


def tables(result: StudyResult) -> str:
    """Tables 2 and 3 as text, 95 % confidence intervals in brackets, the paper's numbers beside."""
    lines = [f"{result.raters} participants; 95 % confidence intervals in brackets", ""]
    heads = ("captured, silent", "captured, sound", "generated, silent", "generated, sound", "paper capt./gen.")
    lines.append(f"{'Table 2: right emotion':24}" + "".join(f"{head:>24}" for head in heads))
    columns = [(kind, sound) for kind in (CAPTURED, GENERATED) for sound in (False, True)]
    for emotion in EMOTIONS:
        cells = [share_text(result.accuracy[kind, sound, emotion.value]) for kind, sound in columns]
        cells.append(f"{paper.STUDY_CAPTURED[emotion]:.2f} / {paper.STUDY_GENERATED[emotion]:.2f}")
        lines.append(f"{emotion.value:24}" + "".join(f"{cell:>24}" for cell in cells))
    cells = [share_text(result.mean_accuracy(kind, sound)) for kind, sound in columns]
    cells.append(f"{paper.STUDY_MEAN[0]:.2f} / {paper.STUDY_MEAN[1]:.2f}")
    lines += [f"{'all':24}" + "".join(f"{cell:>24}" for cell in cells), ""]
    lines.append(f"{'Table 3: order of levels':24}" + "".join(f"{h:>24}" for h in (CAPTURED, GENERATED, heads[-1])))
    for way in dict.fromkeys(ORDERINGS.values()):
        cells = [share_text(result.orders[kind, way]) for kind in (CAPTURED, GENERATED)]
        if way in paper.INTENSITY_CONFUSION:
            cells.append("{:.2f} / {:.2f}".format(*paper.INTENSITY_CONFUSION[way]))
        lines.append(f"{way:24}" + "".join(f"{cell:>24}" for cell in cells))
    cells = [share_text(result.taken_for_real[kind]) for kind in (CAPTURED, GENERATED)]
    lines += ["", f"{'taken for a recording':24}" + "".join(f"{cell:>24}" for cell in cells)]
    kappa = "-" if math.isnan(result.kappa) else f"{result.kappa:.3f}"
    lines.append(f"{'agreement (Fleiss kappa)':24}{kappa:>24}")
    return "\n".join(lines)


def share_text(share: Share) -> str:
    """`.75 [.62-.85] of 40`."""
    if not share.count:
        return "-"
    low, high = share.interval
    return f"{share.value:.2f} [{low:.2f}-{high:.2f}] of {share.count}"
