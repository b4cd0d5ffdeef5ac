"""The ``resnest-d2`` command: its subcommands and exit codes.

Exit codes: 0 success; 1 an error or findings, with a sentence on standard error; 2 wrong usage;
130 interrupted by Ctrl-C.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated

import typer

import resnest_d2

from .check_data import check_data
from .convert import convert
from .doctor import doctor
from .eval import evaluate
from .export import export
from .import_data import import_data
from .list import list_names
from .predict import predict
from .train import train

app = typer.Typer(
    name="resnest-d2",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _with_exit_codes(command: Callable) -> Callable:
    """The command, a user's mistake ending in a sentence and not in a traceback."""

    @functools.wraps(command)
    def run(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # `| head`; typer ends quietly
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except (ValueError, OSError, ImportError) as error:
            typer.echo(f"resnest-d2: {error}", err=True)
            raise typer.Exit(1) from None

    return run


def _help(command: Callable) -> str:
    """Help text of a command: its docstring without Args, Returns and Raises."""
    paragraphs = []
    for paragraph in inspect.getdoc(command).split("\n\n"):
        if paragraph.startswith(("Args:", "Returns:", "Raises:")):
            continue
        indented = any(line.startswith(" ") for line in paragraph.splitlines())
        paragraphs.append(f"\b\n{paragraph}" if indented else paragraph)  # \b: keep lines
    return "\n\n".join(paragraphs)


for _name, _command in {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "check-data": check_data,
    "import-data": import_data,
    "convert": convert,
    "export": export,
    "list": list_names,
    "doctor": doctor,
}.items():
    app.command(_name, help=_help(_command))(_with_exit_codes(_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"resnest-d2 {resnest_d2.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """ResNeSt detectors for detectron2."""


def main() -> None:
    """The installed command; ends the process with its exit code."""
    app(prog_name="resnest-d2")
