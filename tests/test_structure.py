"""How the package is built: imports flow one way, files stay short, configs stay small."""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from types import FunctionType

import pytest

import resnest_d2
from resnest_d2.compat import detectron
from resnest_d2.model_zoo import config_dir, find_lazy_config, list_lazy_configs

PACKAGE = Path(__file__).parents[1] / "resnest_d2"
FILES = sorted(PACKAGE.rglob("*.py"))
# What each part may import of the others.
_MODELS = {"config", "layers", "modeling", "checkpoint", "data", "model_zoo", "deploy"}
ALLOWED = {
    "version": set(),
    "errors": set(),
    "compat": {"errors", "version", "files"},
    "files": {"errors", "parsing", "partial", "signals", "version"},
    "outputs": {"errors"},
    "parsing": {"errors"},
    "partial": {"outputs"},
    "progress": set(),
    "signals": set(),
    "lazy": set(),
    "shipped": {"errors"},
    "config": set(),
    "layers": set(),
    "modeling": {"config", "layers"},
    "checkpoint": {"config", "modeling"},
    "data": {"config"},
    "model_zoo": {"config", "modeling", "checkpoint"},
    "deploy": {"config", "layers", "modeling"},
    "painting": set(),
    "report": {"data", "painting"},
    "engine": _MODELS | {"report"},
    "inference": _MODELS | {"painting"},
    "api": _MODELS | {"engine", "inference"},
    "app": _MODELS | {"report", "engine", "inference", "painting", "builtin", "api"},
    "cli": _MODELS | {"app", "report", "engine", "inference", "painting", "builtin", "api"},
    "builtin": {"modeling", "checkpoint", "data", "model_zoo"},
    "__init__": _MODELS | {"builtin", "engine", "inference", "api"},
}
# What every part may import.
BASE = {
    *("version", "errors", "compat", "files", "lazy", "outputs", "parsing", "progress"),
    *("partial", "shipped", "signals"),
}
# The detector; everything else is the workbench around it.
DETECTOR = {"config", "layers", "modeling", "checkpoint", "model_zoo"} | BASE
# Public methods of named tuples, whatever their names begin with.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
EXTENSION_POINTS = {name for names in detectron.EXTENSION_POINTS.values() for name in names}
# Functions that may see a config; every other one takes plain arguments.
SEES_CFG = {"modeling": ("from_config", "build_", "_build_", "_init_"), "layers": ()}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))


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


@every_file
def test_imports_flow_one_way(path):
    part = part_of(path)
    base = set() if part in BASE else BASE
    assert set(imported_parts(path)) - {part} - base <= ALLOWED[part]


def test_the_parts_have_an_order():
    """Of no two parts each may import the other, not even through a third."""
    parts, order = {part: set(allowed) for part, allowed in ALLOWED.items()}, []
    while parts:
        free = [part for part, allowed in parts.items() if allowed <= set(order)]
        assert free, f"a circle among {sorted(parts)}"
        order += free
        for part in free:
            del parts[part]
    assert order[-1] in ("__init__", "cli")


@every_file
def test_the_detector_never_imports_the_workbench(path):
    if part_of(path) in DETECTOR:
        assert set(imported_parts(path)) <= DETECTOR


def defined_names(tree):
    """Names that a file gives to functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) in ("self", "cls"):
                yield node.attr


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names(tree):
    """Private names that a file imports from other packages, or reads from an object."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            own = node.level or module[0] == "resnest_d2"
            names = [] if own else [*module, *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names = [node.attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attr"):
            names = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
        else:
            continue
        yield from (name for name in names if isinstance(name, str) and is_private(name))


OWN_NAMES = {
    name
    for path in FILES
    if part_of(path) != "compat"
    for name in defined_names(ast.parse(path.read_text()))
}


@every_file
def test_nothing_private_is_used_outside_compat(path):
    if part_of(path) != "compat":
        used = set(private_names(ast.parse(path.read_text())))
        assert used <= OWN_NAMES | NAMED_TUPLE | EXTENSION_POINTS


def test_private_names_are_found():
    code = (
        "import numpy._core\nfrom torch.nn import _reduction\nfrom torch._dynamo import x\n"
        "from ._own import _y\ntorch.ops.mkldnn._convolve(a.__class__)\ngetattr(x, '_attribute')"
    )
    expected = ["_core", "_reduction", "_dynamo", "_convolve", "_attribute"]
    assert sorted(private_names(ast.parse(code))) == sorted(expected)


def test_overridden_private_methods_are_known_extension_points():
    """Methods of ours that stand for a private one of another library's class."""
    overridden = set()
    for module in pkgutil.walk_packages(resnest_d2.__path__, "resnest_d2."):
        for cls in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(cls) or cls.__module__ != module.name:
                continue
            for base in cls.__mro__[1:]:
                if base.__module__.split(".")[0] not in {"resnest_d2", *sys.stdlib_module_names}:
                    overridden |= {
                        name
                        for name, value in vars(cls).items()
                        if is_private(name)
                        and name in vars(base)
                        and isinstance(value, FunctionType | classmethod | staticmethod | property)
                    }
    assert "_forward_box" in overridden  # the search finds them
    assert overridden <= EXTENSION_POINTS


@every_file
def test_production_code_has_no_mocks(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("unittest") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("unittest")


@every_file
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


ENGINE = sorted((PACKAGE / "engine").rglob("*.py"))


def hook_classes(path):
    return [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and "HookBase" in map(ast.unparse, node.bases)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_hooks_are_one_a_file(path):
    if path.parent == PACKAGE / "engine" / "hooks":
        builder = path.name in ("__init__.py", "precise_bn.py")  # detectron2's own hook
        assert len(hook_classes(path)) == (0 if builder else 1)
    else:
        assert not hook_classes(path)


@pytest.mark.parametrize("path", ENGINE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_engine_has_no_side_channels(path):
    text = path.read_text()
    assert "torch.load" not in text  # checkpoint/ reads files without running code
    assert "mtime" not in text  # what was evaluated tells so
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
            # Parameters of another library's object; no method is replaced.
            assert ast.unparse(node.args[0]).endswith(".params"), ast.unparse(node)
    calls = re.findall(r"\b(?:add|remove)(?:Handler|Filter)\(|\.handlers\b", text)
    assert path.name == "logs.py" or not calls  # the one that changes log handlers


def test_every_hook_has_a_test():
    tests = {path.name for path in (Path(__file__).parent / "engine" / "hooks").iterdir()}
    for path in (PACKAGE / "engine" / "hooks").glob("[!_]*.py"):
        assert {f"test_{path.name}", f"test_{path.stem}_hook.py"} & tests, path


# Errors of these kinds come from anywhere: who catches them raises another from them, or logs them.
BROAD = {"Exception", "BaseException", "ValueError", "RuntimeError", "OSError", "ImportError"}
LOGS = {"debug", "warning", "error", "exception", "info", "report_defect"}
UNLOGGED = {  # file and function: why it may
    "checkpoint/download.py _catch": "run() raises it in the thread of the caller",
    "errors.py report_defect": "the log's own failure, which the sentence holds",
    "cli/doctor.py _works": "what is broken is its result, and ends in a UserError",
    "config/merging.py _decoded": "literal_eval() of a text, nothing else",
    "data/convert/faults.py is_number": "float() of a text, nothing else",
}


def broad_handlers(tree):
    """Function and handler of every broad ``except``, ``suppress`` among them, that hides."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called == "suppress" and BROAD & names_in(ast.Tuple(node.args)):
                    yield function.name
            if not isinstance(node, ast.ExceptHandler):
                continue
            if node.type is not None and not BROAD & names_in(node.type):
                continue
            inside = [n for part in node.body for n in ast.walk(part)]
            calls = [n.func for n in inside if isinstance(n, ast.Call)]
            called = {getattr(c, "attr", getattr(c, "id", "")) for c in calls}
            if not called & LOGS and not any(isinstance(n, ast.Raise) for n in inside):
                yield function.name


def names_in(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def test_no_broad_except_hides_an_error():
    hidden = {
        f"{path.relative_to(PACKAGE).as_posix()} {name}"
        for path in FILES
        for name in broad_handlers(ast.parse(path.read_text()))
    }
    assert hidden == set(UNLOGGED)


@pytest.mark.parametrize(
    ("handler", "hides"),
    [
        ("except Exception:\n  pass", True),
        ("except (KeyError, OSError):\n  return 1", True),
        ("except:\n  x = 1", True),
        ("except KeyError:\n  pass", False),
        ("except ValueError as e:\n  raise UserError from e", False),
        ("except OSError:\n  logger.error('gone')", False),
    ],
)
def test_the_check_of_broad_excepts_finds_them(handler, hides):
    body = f"try:\n f()\n{handler}".replace("\n", "\n ")
    assert bool(list(broad_handlers(ast.parse(f"def g():\n {body}")))) == hides


@pytest.mark.parametrize("name", list_lazy_configs())
def test_leaf_lazy_configs_state_only_their_difference(name):
    assert len(Path(find_lazy_config(name)).read_text().splitlines()) <= 12


# Files that open others to write without files.whole_file, and why none of these is ever half done.
OWN_WRITERS = {
    "partial.py": "what whole_file writes",
    "errors.py": "a traceback, in a new file",
    "inference/video.py": "what whole_file gives, by PyAV",
    "checkpoint/download.py": "a part of a download, which is checked and then moved",
    "data/convert/exporting.py": "a temporary folder, which is moved",
    "data/shapes.py": "a temporary folder, which is moved",
    "deploy/export/formats.py": "a temporary folder, whose files are moved",
    "engine/folder_lock.py": "a lock",
}


def writes(tree):
    """Calls that open a file to write, or write one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        if name == "open":
            modes = node.args[isinstance(node.func, ast.Name) : 2]
            modes += [k.value for k in node.keywords if k.arg == "mode"]
            texts = [n.value for m in modes for n in ast.walk(m) if isinstance(n, ast.Constant)]
            if any(isinstance(text, str) and set(text) & set("wax+") for text in texts):
                yield ast.unparse(node)
        elif name in ("write_text", "write_bytes", "_write_text"):
            yield ast.unparse(node)


def test_files_are_written_whole():
    found = {
        str(path.relative_to(PACKAGE)): calls
        for path in FILES
        if (calls := [*writes(ast.parse(path.read_text()))])
    }
    assert {name: calls for name, calls in found.items() if name not in OWN_WRITERS} == {}
    assert found.keys() == OWN_WRITERS.keys()  # the search finds them
