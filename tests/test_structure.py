"""How the package is built: imports flow one way, files stay short, configs stay small."""

import ast
from pathlib import Path

import pytest

from resnest_d2.model_zoo import config_dir

PACKAGE = Path(__file__).parents[1] / "resnest_d2"
FILES = sorted(PACKAGE.rglob("*.py"))
# What each part may import of the others.
_MODELS = {"config", "layers", "modeling", "checkpoint", "data", "model_zoo", "deploy"}
ALLOWED = {
    "version": set(),
    "errors": set(),
    "compat": set(),
    "files": set(),
    "shipped": set(),
    "config": set(),
    "layers": set(),
    "modeling": {"config", "layers"},
    "checkpoint": {"config", "modeling"},
    "data": {"config"},
    "model_zoo": {"config", "modeling", "checkpoint"},
    "deploy": {"config", "layers", "modeling"},
    "report": {"data"},
    "engine": _MODELS | {"report"},
    "inference": _MODELS,
    "cli": _MODELS | {"report", "engine", "inference"},
    "__init__": {"config", "modeling", "data", "model_zoo", "inference"},
}
# What every part may import.
BASE = {"version", "errors", "compat", "files", "shipped"}
# Functions that may see a config; every other one takes plain arguments.
SEES_CFG = {"modeling": ("from_config", "build_", "_build_", "_init_"), "layers": ()}


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path):
    package = ("resnest_d2", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            words = name.split(".")
            if words[0] == "resnest_d2" and len(words) > 1:
                yield words[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_flow_one_way(path):
    part = part_of(path)
    assert set(imported_parts(path)) - {part} - BASE <= ALLOWED[part]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short_and_begin_with_a_docstring(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("part", SEES_CFG)
def test_only_builders_see_the_config(part):
    for path in FILES:
        if part_of(path) != part:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and "cfg" in {a.arg for a in node.args.args}:
                assert node.name.startswith(SEES_CFG[part]), f"{path.name}: {node.name}"


def test_leaf_configs_state_only_their_difference():
    for path in config_dir().rglob("*.yaml"):
        if not path.name.startswith("Base-"):
            assert len(path.read_text().splitlines()) <= 12, path
