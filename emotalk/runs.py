"""Runs of the training by name: read the settings, build the stage, train it, export what came out."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .config import config_from_mapping
from .errors import ConfigError, InputError, OutputError, UsageError, WeightsError
from .nets import NETWORKS
from .stages import STAGES, find_stage
from .training import BEST, LAST, LoopConfig, Result, Stage, check_run, plain_config, read_checkpoint, read_run, train
from .weights import SUFFIX, cache_folder, save_network

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOOP = "loop"  # the table of settings that belong to the loop, not to the stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long to train; with both, whichever comes first."""

    steps: int | None = None
    minutes: float | None = None


def read_settings(file: Path | None, assignments: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of a TOML file, overridden by assignments such as `learning_rate=1e-3` or `net.widths=[16, 32]`.

    Raises:
        InputError: if the file cannot be read.
        ConfigError: if it is no TOML, or an assignment is malformed.
    """
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file} is no TOML file: it is not UTF-8 text") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{file} is no TOML file: {error}") from error
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise ConfigError(f"--set {assignment} is no assignment; write key=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()  # a word without quotes
        table = settings
        for name in names[:-1]:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {assignment}: {name} is one value, not a table of settings")
        table[names[-1]] = value
    return settings


def train_stage(
    name: str,
    data: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    settings: Mapping[str, Any] | None = None,
    subject: str = "",
    seed: int | None = None,
    device: torch.device | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_record: Callable[[Mapping[str, Any]], None] | None = None,
) -> Result:
    """Train one stage in a run folder, or go on with the run that is there; its settings hold unless overridden.

    Args:
        name: a key of `stages.STAGES`.
        settings: as `read_settings` gives them; the table `loop` is for the loop, the rest for the stage.
        subject: where the settings came from, for messages.
        seed: 0 for a new run if not given.

    Raises:
        UsageError: if nothing says how long to train.
        ConfigError: if a setting is unknown or out of range, or the folder holds another run.
        InputError: if the data is missing.
        EmotalkError: as `training.train`.
    """
    stage_class, config_class = find_stage(name)
    run = read_run(folder)
    given = dict(settings or {})
    loop = config_from_mapping(LoopConfig, _table(given.pop(LOOP, {}), subject), subject, LOOP)
    before = run.config if run is not None and run.stage == name else plain_config(config_class())
    config = config_from_mapping(config_class, _merge(before, given), subject)
    steps, minutes = (limits.steps, limits.minutes) if limits else (None, None)
    if steps is None and minutes is None:
        steps = getattr(config, "steps", None)
    if steps is None and minutes is None:
        raise UsageError("how long to train is not said; give --steps or --minutes")
    if seed is None:
        seed = run.seed if run is not None else 0
    if run is not None:
        check_run(run, folder, name, seed, config)
    if not data.is_dir():
        state = "is a file" if data.exists() else "does not exist"
        raise InputError(f"the data {data} {state}; give a folder")
    device = device or torch.device("cpu")
    place = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]  # other data, other preparations
    cache = cache_folder() / "train" / f"{STAGES[name].cache}-{place}"
    stage: Stage = stage_class(data, config, device=device, seed=seed, cache=cache)
    return train(
        stage,
        folder,
        steps=steps,
        minutes=minutes,
        seed=seed,
        config=config,
        loop=loop,
        on_step=on_step,
        on_record=on_record,
    )


def export_run(folder: Path, output: Path, *, last: bool = False) -> list[Path]:
    """Write the networks of a run as half-precision safetensors with a model card; needs no training data.

    Args:
        last: take the last checkpoint, not the one with the best dev score.

    Returns:
        The files, `<network>.safetensors` each.

    Raises:
        ConfigError: if the folder holds no run.
        WeightsError: if there is no such checkpoint yet, or it is damaged.
        OutputError: if the files cannot be written.
    """
    if read_run(folder) is None:
        raise ConfigError(f"{folder} holds no run; give a folder that `emotalk train` wrote")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; give a folder")
    path = folder / (LAST if last else BEST)
    checkpoint = read_checkpoint(path)
    card = make_card(checkpoint)
    modules = []
    for name, saved in checkpoint["networks"].items():
        if name not in NETWORKS:
            raise WeightsError(f"{path} holds {name}, which is no network of this version")
        entry = NETWORKS[name]
        config = config_from_mapping(entry.config_class(), saved["config"], f"{path}: {name}")
        module = entry.network_class()(config)
        try:
            module.load_state_dict(saved["weights"])
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit {name} of this version: {' '.join(str(error).split())}") from error
        modules.append((name, module, config))
    return [save_network(output / f"{name}{SUFFIX}", module, config, card) for name, module, config in modules]


def make_card(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The model card of the networks in a checkpoint: how they were made and what they reached on dev data."""
    return {
        **checkpoint["card"],
        "stage": checkpoint["stage"],
        "step": checkpoint["step"],
        "minutes": round(checkpoint["elapsed"] / 60, 1),
        "seed": checkpoint["seed"],
        "settings": checkpoint["config"],
        "dev": {key: round(value, 5) for key, value in checkpoint["metrics"].items()},
        "version": checkpoint["version"],
        "exported_by": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def _table(value: object, subject: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{f'{subject}: ' if subject else ''}{LOOP} is {value!r}; it must be a table of settings")
    return value


def _merge(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """`before` with the values of `after`, table by table."""
    merged = dict(before)
    for key, value in after.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
