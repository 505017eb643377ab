"""Start-up is quick, and the texts people read agree with the program."""

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

import emotalk
from emotalk.commands import app

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "cv2", "librosa", "moviepy", "numba", "scipy", "safetensors.torch"}
HELP_SECONDS = 0.4
GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]
README_COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("emotalk ")
]


def run(*code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "code",
    [
        "import emotalk; emotalk.__version__",
        "import emotalk; emotalk.Emotion",
        "from emotalk.commands import app; app(['--help'], standalone_mode=False)",
        *[f"from emotalk.commands import app; app(['{name}', '--help'], standalone_mode=False)" for name in COMMANDS],
    ],
)
def test_heavy_packages_wait_until_they_are_needed(code: str) -> None:
    end = f"; import sys; assert not {HEAVY!r} & set(sys.modules), {HEAVY!r} & set(sys.modules)"
    run("-c", code + end)


def test_importing_costs_milliseconds() -> None:
    done = run("-c", "import time; t = time.process_time(); import emotalk; print(time.process_time() - t)")
    assert float(done.stdout) < 0.02


def test_help_is_quick() -> None:
    """Processor time, best of three: the time on the wall also measures what else the machine does."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run("-m", "emotalk", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < HELP_SECONDS


def test_public_names_resolve_and_others_do_not() -> None:
    assert emotalk.Emotion.SAD.value == "sad"
    assert set(emotalk.__all__) <= set(dir(emotalk))
    with pytest.raises(AttributeError, match="no attribute 'pipelines'"):
        emotalk.pipelines  # noqa: B018


def options_of(command: Any) -> set[str]:
    """Its own, and those of the commands below it."""
    own = {option for param in command.params for option in param.opts if option.startswith("-")}
    return own.union(*(options_of(inner) for inner in getattr(command, "commands", {}).values()))


def real_options(name: str) -> set[str]:
    if name == "emotalk":  # its commands have pages of their own
        options = {option for param in GROUP.params for option in param.opts}
    else:
        options = options_of(GROUP.commands[name])  # type: ignore[attr-defined]
    return options | {"-h", "--help"}


@pytest.mark.parametrize("name", ["emotalk", *COMMANDS])
def test_the_manual_lists_exactly_the_real_options(name: str) -> None:
    page = ROOT / "man" / ("emotalk.1" if name == "emotalk" else f"emotalk-{name}.1")
    text = page.read_text("utf-8").replace("\\-", "-")
    sections = text.split(".SH OPTIONS", 1)[1].split("\n.SH ")[0]
    tags = [
        line for before, line in zip(sections.splitlines(), sections.splitlines()[1:], strict=False) if before == ".TP"
    ]
    listed = {option for tag in tags for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", tag)}
    assert listed - {"-alignment"} == real_options(name)


def test_the_manual_lists_exactly_the_real_commands() -> None:
    text = (ROOT / "man" / "emotalk.1").read_text("utf-8").replace("\\-", "-")
    section = text.split(".SH COMMANDS", 1)[1].split("\n.SH ")[0]
    assert sorted(re.findall(r"^\.B ([a-z-]+)$", section, re.M)) == COMMANDS


def test_the_readme_has_five_commands() -> None:
    assert len(README_COMMANDS) >= 5
    assert {shlex.split(line)[1] for line in README_COMMANDS} >= set(COMMANDS)


@pytest.mark.real
def test_the_readme_commands_run(tmp_path: Path) -> None:
    """All of them, pasted one after the other in a checkout."""
    shutil.copytree(ROOT / "emotalk" / "assets", tmp_path / "emotalk" / "assets")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EMOTALK_OFFLINE": "1"}
    for line in README_COMMANDS:
        words = shlex.split(line)
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
