"""What the commands share: data by its files, options that set keys, completion.

A command's module imports the rest of the package only inside its functions, so that help and
completion do not wait for torch. For the same reason the choices of an option are written out; a
test compares them with the package's tables.
"""

import functools
import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from resnest_d2.errors import printable
from resnest_d2.model_zoo import models
from resnest_d2.shipped import list_configs

P = ParamSpec("P")
T = TypeVar("T")
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print warnings, errors and the results only.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print all that log.txt has.")]


def complete_config(incomplete: str) -> list[str]:
    """Configs and published detectors that start with the text; the shell completes files."""
    detectors = [model.id for model in models() if not model.is_backbone]
    return [name for name in (*list_configs(), *detectors) if name.startswith(incomplete)]


def say(text: str, *, err: bool = False) -> None:
    """Print a line or a table, whose names may be of anybody's files.

    Args:
        text: what to print; control characters in it are escaped.
        err: print to standard error.
    """
    typer.echo(printable(text, keep="\n\t"), err=err)


def prepare() -> None:
    """Register the package with detectron2, before a command computes."""
    from resnest_d2 import builtin  # noqa: F401

    # detectron2 asks torch whether it traces, and nncf whether there is a GPU, which torch warns of
    # once; no user can help it.
    for name in ("torch.fx._symbolic_trace", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)


def in_group(command: Callable[P, T]) -> Callable[P, T]:
    """A command that first joins the group of torchrun or srun: an error is then printed once."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        from resnest_d2.engine import joined_group

        with joined_group():
            return command(*args, **kwargs)

    return run


def keep_memory(device: str) -> None:
    """Let this process use freed memory again if it will compute on a CPU.

    Args:
        device: torch's name, or "auto" for the GPU where there is one.
    """
    import torch

    from resnest_d2.deploy import keep_freed_memory

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        keep_freed_memory()


def require_coco(json_file: Path) -> None:
    """Raises the error that names the command to convert annotations of another format."""
    from resnest_d2.data.convert import require_coco as require

    require(json_file)


def option(name: str) -> str:
    """An argument of a function as it is written on the command line."""
    return "--" + name.replace("_", "-")


def next_training(train: tuple[str, str], val: tuple[str, str] | None, *, masks: bool) -> str:
    """The command to run after annotations were prepared.

    Args:
        train: annotation file to train on, and folder of its images.
        val: those to evaluate on, if there are any.
        masks: whether to train a detector of masks.
    """
    kind = "mask" if masks else "faster"
    command = ["resnest-d2", "train", f"quick_schedules/{kind}_rcnn_ResNeSt_14_FPN_quick.yaml"]
    command += ["--data", *train]
    if val:
        command += ["--val", *val] if val[1] != train[1] else ["--val", val[0]]
    return f"Next: {shlex.join([*command, '--output', 'output/mine'])}"
