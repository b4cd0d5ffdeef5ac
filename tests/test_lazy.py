"""Packages whose names are imported when they are first used."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

from resnest_d2.lazy import lazy_names

ROOT = Path(__file__).parents[1]
PACKAGES = ["resnest_d2", "resnest_d2.data", "resnest_d2.deploy", "resnest_d2.model_zoo"]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a lazy name ``answer``, defined in ``deep``, and a lazy module ``deep``."""
    folder = tmp_path / "lazily"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from resnest_d2.lazy import lazy_names\n"
        "__getattr__, __dir__ = lazy_names(__name__, {'.deep': ['answer'], '.': ['deep']})\n"
    )
    (folder / "deep.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lazily")
    for name in ("lazily", "lazily.deep"):
        sys.modules.pop(name, None)


def test_a_name_is_imported_when_it_is_used(package):
    assert {"answer", "deep"} <= set(dir(package)) and "lazily.deep" not in sys.modules
    assert package.answer == 42 and vars(package)["answer"] == 42
    assert package.deep is sys.modules["lazily.deep"]


def test_an_unknown_name_is_an_attribute_error():
    get, _ = lazy_names("resnest_d2", {".zoo": ["get"]})
    with pytest.raises(AttributeError, match="module 'resnest_d2' has no attribute 'nothing'"):
        get("nothing")


@pytest.mark.parametrize("name", PACKAGES)
def test_what_type_checkers_see_is_what_there_is(name):
    package = importlib.import_module(name)
    tree = ast.parse(Path(package.__file__).read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and "CHECKING" in ast.dump(n.test))
    typed = {}
    for node in block.body:
        module = "." * node.level + (node.module or "")
        typed |= {alias.name: module for alias in node.names}
    assert set(typed) | {"__version__"} == set(package.__all__) | {"__version__"}
    assert set(package.__all__) <= set(dir(package))
    for exported, module in typed.items():
        value = getattr(package, exported)
        if module == ".":
            assert value is importlib.import_module(f"{name}.{exported}")
        else:
            assert value is getattr(importlib.import_module(module, name), exported)
