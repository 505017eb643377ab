"""`emotalk train` through the real program, with a stage that trains a tiny network in an instant."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from emotalk import stages
from emotalk.commands import app
from emotalk.config import RefinementConfig, config_from_mapping
from emotalk.errors import ConfigError
from emotalk.nets.refinement import Refinement
from emotalk.runs import read_settings
from emotalk.stages import STAGES, Entry, find_stage
from emotalk.training import cosine, set_learning_rate
from emotalk.weights import load_network, read_card

MANUAL = Path(__file__).parent.parent / "man" / "emotalk-train.1"
KEYS = {"run", "stage", "step", "elapsed", "best_score", "best_step", "metrics", "stopped_early", "weights"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyStageConfig:
    net: RefinementConfig = field(default_factory=lambda: RefinementConfig(size=16, widths=(4, 8), residual_blocks=1))
    batch: int = 2
    learning_rate: float = 1e-2
    fails_at: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"tiny.batch is {self.batch}; it must be at least 1")


class TinyStage:
    """Darkens a grey picture."""

    name = "refinement"
    built: list[dict[str, Any]] = []  # noqa: RUF012  what the last test asked for
    interrupt_at = 0

    def __init__(self, data: Path, config: TinyStageConfig, *, device: torch.device, seed: int, cache: Path) -> None:
        self.built.append({"data": data, "config": config, "device": device, "seed": seed, "cache": cache})
        torch.manual_seed(seed)
        self.config, self.steps = config, 0
        self.net = Refinement(config.net)
        self.optimizer = torch.optim.Adam(self.net.parameters(), config.learning_rate)

    def state(self) -> dict[str, Any]:
        return {"net": self.net, "optimizer": self.optimizer}

    def batches(self, start: int) -> Iterator[Tensor]:
        for number in itertools.count(start):
            yield torch.rand(self.config.batch, 3, 16, 16, generator=torch.Generator().manual_seed(number))

    def set_progress(self, fraction: float) -> None:
        set_learning_rate(self.optimizer, self.config.learning_rate * cosine(fraction))

    def loss(self, face: Tensor) -> Tensor:
        lines = torch.zeros(len(face), 1, 16, 16)
        return (self.net(face, lines, lines).gain - 0.7).square().mean()

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        self.steps += 1
        if self.steps == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        bad = torch.tensor(torch.nan if self.steps == self.config.fails_at else 0.0)
        return {"reconstruction": loss.detach() + bad, "gradient_norm": norm}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        return {"score": float(self.loss(torch.full((1, 3, 16, 16), 0.5)))}

    def networks(self) -> dict[str, Any]:
        return {"refinement": (self.net, self.config.net)}

    def card(self) -> dict[str, str]:
        return {"data": "noise", "licence": "Apache-2.0"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[TinyStage]:
    """The tiny stage in place of `refinement`, and a working folder with data/."""
    monkeypatch.setitem(stages.STAGES, "refinement", Entry(__name__, "TinyStage", "TinyStageConfig", "tiny"))
    monkeypatch.setattr(TinyStage, "built", [])
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    return TinyStage


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def train(*words: str) -> Any:
    return invoke("train", "refinement", "data", "--run", "run", "--device", "cpu", *words)


def one_line(result: Any, code: int, message: str) -> None:
    """The result failed with `code`, nothing on stdout, one line on stderr that matches."""
    assert result.exit_code == code, (result.stderr, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("emotalk: ") and result.stderr.count("\n") == 1, result.stderr
    assert re.search(message, result.stderr), result.stderr


def test_training_prints_the_run_and_leaves_weights_that_load() -> None:
    result = train("--steps", "30")
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert result.stdout == "run\n"
    assert re.search(r"best score \S+ at step 30 of 30", result.stderr)
    network = load_network("refinement", "run")
    assert isinstance(network, Refinement)
    card = read_card("run/refinement.safetensors")["card"]
    assert card["data"] == "noise" and card["stage"] == "refinement" and card["step"] == 30
    assert card["dev"]["score"] < 0.05
    assert str(Path.cwd()) not in json.dumps(card)


def test_json_is_one_object_with_the_documented_keys() -> None:
    facts = json.loads(train("--steps", "2", "--json", "--quiet").stdout)
    assert set(facts) == KEYS
    assert (facts["run"], facts["stage"], facts["step"]) == ("run", "refinement", 2)
    section = MANUAL.read_text("utf-8").split("\\-\\-json\nPrint", 1)[1].split(".TP")[0]
    assert all(key in section for key in KEYS)


def test_quiet_is_silent() -> None:
    assert train("--steps", "1", "--quiet").stderr == ""


def test_every_option_arrives(tiny: type[TinyStage], monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    Path("settings.toml").write_text("batch = 3\nlearning_rate = 1\n[net]\nwidths = [8, 8]\n[loop]\nlog_steps = 1\n")
    words = ["--config", "settings.toml", "--set", "learning_rate=0.5", "--set", "net.residual_blocks=2"]
    result = train("--steps", "3", "--seed", "5", "--threads", "1", *words)
    assert result.exit_code == 0, result.stderr
    asked = tiny.built[0]
    assert asked["data"] == Path("data") and asked["seed"] == 5 and asked["device"] == torch.device("cpu")
    assert asked["cache"].is_relative_to(os.environ["EMOTALK_CACHE"])
    net = RefinementConfig(size=16, widths=(8, 8), residual_blocks=2)
    assert asked["config"] == TinyStageConfig(batch=3, learning_rate=0.5, net=net)
    assert threads == [1]
    kinds = [json.loads(line)["kind"] for line in Path("run/log.jsonl").read_text().splitlines()]
    assert kinds.count("train") == 3


def test_what_is_prepared_is_kept_per_data_folder(tiny: type[TinyStage]) -> None:
    Path("more").mkdir()
    for data, run in (("data", "a"), ("data/../data", "b"), ("more", "c")):
        assert invoke("train", "refinement", data, "--run", run, "--steps", "1").exit_code == 0
    first, same, other = (asked["cache"] for asked in tiny.built)
    assert first == same != other and first.name.startswith("tiny-")


def test_resume_keeps_settings_and_seed(tiny: type[TinyStage]) -> None:
    assert train("--steps", "2", "--seed", "5", "--set", "batch=3").exit_code == 0
    result = train("--steps", "4", "--set", "learning_rate=0.001")
    assert result.exit_code == 0, result.stderr
    assert tiny.built[1]["seed"] == 5
    assert tiny.built[1]["config"] == TinyStageConfig(batch=3, learning_rate=0.001)
    starts = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in starts if line["kind"] in ("start", "resume")] == [
        ("start", 0),
        ("resume", 2),
    ]
    one_line(train("--steps", "6", "--seed", "6"), 3, "begun with seed 5, not 6")
    one_line(train("--steps", "6", "--set", "net.widths=[4,16]"), 3, "other sizes of the network")


def test_interrupted_exits_130_and_resumes(tiny: type[TinyStage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "interrupt_at", 3)
    one_line(train("--steps", "6"), 130, "interrupted")
    monkeypatch.setattr(tiny, "interrupt_at", 0)
    facts = json.loads(train("--steps", "6", "--json").stdout)
    assert facts["step"] == 6
    assert invoke("train", "refinement", "data", "--run", "whole", "--steps", "6").exit_code == 0
    parts, whole = (torch.load(f"{run}/last.pt", weights_only=True)["state"]["net"] for run in ("run", "whole"))
    assert all(torch.equal(parts[key], whole[key]) for key in whole)


def test_export_takes_the_best_or_the_last(tiny: type[TinyStage], monkeypatch: pytest.MonkeyPatch) -> None:
    scores = itertools.count(1.0)
    monkeypatch.setattr(tiny, "validate", lambda _stage: {"score": next(scores)})  # gets worse from the start
    train("--steps", "4")
    result = invoke("train", "export", "run", "-o", "weights")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "weights/refinement.safetensors\n"
    assert read_card("weights/refinement.safetensors")["card"]["step"] == 0
    result = invoke("train", "export", "run", "-o", "weights", "--last", "--json")
    assert json.loads(result.stdout) == {"run": "run", "weights": ["weights/refinement.safetensors"]}
    assert read_card("weights/refinement.safetensors")["card"]["step"] == 4
    saved = torch.load("run/last.pt", weights_only=True)["state"]["net"]
    read = load_network("refinement", "weights").state_dict()
    assert all(torch.allclose(read[key], saved[key], atol=1e-3) for key in saved)


def test_card_prints_what_weights_say() -> None:
    train("--steps", "1")
    result = invoke("train", "card", "run")
    assert (
        result.exit_code == 0
        and result.stdout.startswith("refinement: ")
        and '"licence": "Apache-2.0"' in result.stdout
    )
    facts = json.loads(invoke("train", "card", "run/refinement.safetensors", "--json").stdout)
    assert facts["networks"]["refinement"]["config"]["widths"] == [4, 8]
    assert list(facts["networks"]) == ["refinement"]
    one_line(invoke("train", "card", "nowhere"), 4, "nowhere")
    shipped = invoke("train", "card")
    assert shipped.exit_code == 0 and shipped.stdout.startswith("# Model card")


def test_networks_are_not_stored_twice() -> None:
    train("--steps", "1")
    checkpoint = torch.load("run/last.pt", weights_only=True)
    network, state = checkpoint["networks"]["refinement"]["weights"], checkpoint["state"]["net"]
    assert all(network[key].data_ptr() == state[key].data_ptr() for key in state)


def test_diverged_is_one_line_and_exit_1() -> None:
    one_line(train("--steps", "5", "--set", "fails_at=3"), 1, "diverged at step 3: reconstruction is nan")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "--steps or --minutes"),
        (["--steps", "0"], 3, "steps is 0"),
        (["--minutes", "-1"], 3, "minutes is -1"),
        (["--steps", "1", "--threads", "0"], 3, "--threads is 0"),
        (["--steps", "1", "--device", "tpu"], 5, "unknown device 'tpu'"),
        (["--steps", "1", "--config", "absent.toml"], 3, "cannot read absent.toml: No such file"),
        (["--steps", "1", "--config", "data"], 3, "cannot read data"),
        (["--steps", "1", "--set", "learning_rte=1"], 3, r"key learning_rte; did you mean learning_rate\? \(known"),
        (["--steps", "1", "--set", "net.width=1"], 3, r"unknown key net\.width; did you mean net\.widths"),
        (["--steps", "1", "--set", "loop.patience=two"], 3, r"loop\.patience is 'two'; it must be a whole number"),
        (["--steps", "1", "--set", "loop=3"], 3, "loop is 3; it must be a table"),
        (["--steps", "1", "--set", "batch=0"], 3, "batch is 0"),
        (["--steps", "1", "--set", "batch=2.5"], 3, r"batch is 2\.5; it must be a whole number"),
        (["--steps", "1", "--set", "batch=true"], 3, "batch is True; it must be a whole number"),
        (["--steps", "1", "--set", "batch"], 3, "write key=value"),
        (["--steps", "1", "--set", "batch.size=3"], 3, "it must be a whole number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(words: list[str], code: int, message: str) -> None:
    one_line(train(*words), code, message)
    assert not Path("run").exists()


def test_bad_folders() -> None:
    one_line(
        invoke("train", "refinement", "absent", "--run", "run", "--steps", "1"), 3, "the data absent does not exist"
    )
    Path("file").write_text("x")
    one_line(invoke("train", "refinement", "file", "--run", "run", "--steps", "1"), 3, "the data file is a file")
    one_line(invoke("train", "refinement", "data", "--run", "file", "--steps", "1"), 3, "file is a file")
    Path("photos").mkdir()
    Path("photos/me.jpg").write_text("x")
    one_line(invoke("train", "refinement", "data", "--run", "photos", "--steps", "1"), 3, "photos is no run folder")
    one_line(invoke("train", "export", "data", "-o", "weights"), 3, "data holds no run")
    one_line(invoke("train", "export", "absent", "-o", "weights"), 3, "absent holds no run")
    assert not Path("run").exists() and not Path("weights").exists()


def test_a_run_of_another_stage_is_refused(tiny: type[TinyStage]) -> None:
    train("--steps", "1")
    said = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({**said, "stage": "landmarks", "config": {}}))
    one_line(train("--steps", "2"), 3, "run of stage landmarks, not refinement")


def test_cut_checkpoint_is_exit_4() -> None:
    train("--steps", "2")
    content = Path("run/last.pt").read_bytes()
    Path("run/last.pt").write_bytes(content[: len(content) // 2])
    one_line(train("--steps", "4"), 4, r"last\.pt is cut or damaged")
    Path("run/best.pt").write_bytes(content[: len(content) // 3])
    one_line(invoke("train", "export", "run", "-o", "weights"), 4, r"best\.pt is cut or damaged")


def test_unknown_stage_and_missing_run_are_bad_usage() -> None:
    assert invoke("train", "refinment", "data", "--run", "run").exit_code == 2
    assert invoke("train", "refinement", "data").exit_code == 2
    with pytest.raises(ConfigError, match="unknown stage 'x' \\(known: landmarks, audio2landmark"):
        find_stage("x")


@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_stage_has_a_class_of_that_name_and_a_config_with_defaults(name: str) -> None:
    entry = {**STAGES}[name]
    if entry.module == __name__:
        pytest.skip("replaced by the tiny stage")
    stage_class, config_class = find_stage(name)
    assert stage_class.name == name
    config_class()
    assert {"data", "config", "device", "seed", "cache"} <= set(inspect.signature(stage_class).parameters)
    members = ("state", "batches", "set_progress", "step", "validate", "networks")
    assert not [member for member in members if not callable(getattr(stage_class, member, None))]


def test_help_lists_the_stages() -> None:
    result = invoke("train", "--help")
    assert result.exit_code == 0 and all(name in result.stdout for name in [*STAGES, "export", "card"])


def test_settings_of_file_and_assignments_are_merged(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("a = 1\n[net]\nwidths = [1, 2]\nhead = 'rgb'\n")
    found = read_settings(file, ["net.widths=[3]", "b=text", "c = 'quoted'", "d=1e-3"])
    assert found == {"a": 1, "net": {"widths": [3], "head": "rgb"}, "b": "text", "c": "quoted", "d": 1e-3}
    file.write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"s\.toml is no TOML file"):
        read_settings(file)
    with pytest.raises(ConfigError, match="a is one value, not a table"):
        read_settings(None, ["a=1", "a.b=2"])
    with pytest.raises(ConfigError, match="is no assignment"):
        read_settings(None, [".x=1"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Many:
    """One field of every kind the reader knows."""

    rate: float = 0.1
    flag: bool = False
    folder: Path | None = None
    pair: tuple[int, float] = (1, 2.0)
    weights: dict[str, float] = field(default_factory=dict)


def test_values_are_read_as_their_field_wants_them() -> None:
    found = config_from_mapping(
        Many, {"rate": 2, "flag": True, "folder": "x/y", "pair": [3, 4], "weights": {"content": 1}}
    )
    assert found == Many(rate=2.0, flag=True, folder=Path("x/y"), pair=(3, 4.0), weights={"content": 1.0})
    assert isinstance(found.rate, float) and isinstance(found.weights["content"], float)
    assert config_from_mapping(Many, {"folder": None}).folder is None
    assert config_from_mapping(Many, {}) == Many()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": "fast"}, "f: rate is 'fast'; it must be a number"),
        ({"rate": True}, "f: rate is True; it must be a number"),
        ({"rate": float("nan")}, "f: rate is nan; it must be a finite number"),
        ({"flag": 1}, "f: flag is 1; it must be true or false"),
        ({"pair": [1]}, "f: pair has 1 values; it needs 2"),
        ({"pair": 1}, "f: pair is 1; it must be a list"),
        ({"weights": {"content": "x"}}, r"f: weights\.content is 'x'; it must be a number"),
        ({"flags": True}, r"f: unknown key flags; did you mean flag\? \(known: rate, flag, folder, pair, weights\)"),
    ],
)  # fmt: skip
def test_values_of_another_type_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_mapping(Many, values, "f")
