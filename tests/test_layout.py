"""Imports go one way: what generates a video never needs what trains a network."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "emotalk"

# Top to bottom; a module here imports only from modules above it. `nets` is everything in that folder.
GENERATION = [
    "errors", "files", "config", "emotions", "conditions", "tracks", "life", "image", "audio", "video", "landmarks",
    "device", "nets", "weights", "face", "compose", "head_motion", "speech_motion", "expression", "scene",
    "layout", "result", "pipeline",
]  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


@cache
def imports(name: str) -> set[str]:
    """Modules of this package that `name` imports, at its top or inside a function; not those for types only."""
    found: set[str] = set()
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            full = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                deeper = f"{full}.{alias.name}"
                found.add(deeper if deeper in MODULES else full)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree(name))
    return {module for module in found if module in MODULES and module not in (name, "emotalk")}


def place(name: str) -> int | None:
    """Position in `GENERATION`, or None for the rest of the package."""
    top = name.split(".")[1]
    return GENERATION.index(top) if top in GENERATION else None


def test_the_walk_sees_imports_of_every_form() -> None:
    assert "emotalk.errors" in imports("emotalk.emotions")
    assert "emotalk.pipeline" in imports("emotalk.commands.generate")  # inside a function, two levels up
    assert "emotalk.nets" in imports("emotalk.weights")
    assert "emotalk.weights" not in imports("emotalk.commands.output")  # for types only


def test_generation_imports_only_what_stands_above_it() -> None:
    wrong = []
    for name in MODULES:
        if name == "emotalk" or (here := place(name)) is None:
            continue
        for other in imports(name):
            there = place(other)
            if there is None or there > here or (there == here and GENERATION[here] != "nets"):
                wrong.append(f"{name} imports {other}")
    assert not wrong, "; ".join(wrong)


def test_nobody_imports_the_commands() -> None:
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        if not name.startswith("emotalk.commands") and name != "emotalk.__main__"
        for other in imports(name)
        if other.startswith("emotalk.commands")
    ]
    assert not wrong, "; ".join(wrong)


def test_there_is_no_circle() -> None:
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for other in imports(name):
            follow(other, (*path, name))
        done.add(name)

    for name in MODULES:
        follow(name, ())


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    other_name = {"cv2": "opencv-python-headless", "PIL": "pillow"}
    roots: set[str] = set()
    for module in MODULES:
        for node in ast.walk(tree(module)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            roots |= {name.partition(".")[0] for name in names}
    foreign = roots - set(sys.stdlib_module_names) - {"emotalk"}
    imported = {other_name.get(name, name.replace("_", "-")) for name in foreign}
    text = (PACKAGE.parent / "pyproject.toml").read_text("utf-8")
    block = text.split("\ndependencies = [", 1)[1].split("\ndev = [", 1)[0]
    declared = set(re.findall(r"^    [\"']([a-zA-Z0-9-]+)", block, re.M))
    assert imported - {"tomllib"} == declared


def test_every_file_says_what_it_is() -> None:
    silent = [name for name in MODULES if not ast.get_docstring(tree(name))]
    assert not silent
