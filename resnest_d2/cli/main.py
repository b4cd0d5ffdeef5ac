"""The ``resnest-d2`` command: its sub-commands, and how they end.

Exit codes: 0 done; 1 an error or findings, in a sentence on standard error; 2 wrong usage;
130 stopped by Ctrl-C.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from resnest_d2.errors import run_program
from resnest_d2.version import __version__

from .app import app as try_in_browser
from .arguments import Command
from .check_data import check_data
from .common import Quiet
from .compare import compare
from .convert import convert
from .doctor import doctor
from .eval import evaluate
from .export import export
from .export_data import export_data
from .import_data import import_data
from .list import list_names
from .predict import predict
from .show_data import show_data
from .split import split
from .train import train

app = typer.Typer(
    name="resnest-d2",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# Commands that show progress and have no log file, where the warnings of other libraries would go.
# Those of the same kind in train and eval are in log.txt.
_LONG = ("predict", "check-data", "import-data", "split", "convert", "export")
_LIBRARIES = r"(torch|torchvision|detectron2|fvcore|iopath|onnx|onnxruntime|openvino)(\.|$)"
_Debug = Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")]
_debug = False  # given before the command's name


def _with_exit_codes(command: Callable) -> Callable:
    """The command with the option --debug; an error ends in a sentence and exit code 1."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        code = run_program(
            functools.partial(command, *args, **kwargs),
            name="resnest-d2",
            debug=debug or _debug,
            passed=(typer.Exit, typer.Abort, typer.BadParameter),
        )
        if code:
            raise typer.Exit(code)

    return _with_option(run, command, "debug", _Debug)


def _with_progress(command: Callable) -> Callable:
    """The command with the option --quiet, and without warnings that a user cannot act on."""

    @functools.wraps(command)
    def run(*args: Any, quiet: bool = False, **kwargs: Any) -> None:
        from resnest_d2 import progress

        progress.show(bars=not quiet, lines=not quiet)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=_LIBRARIES)
                command(*args, **kwargs)
        finally:
            progress.close_all()
            progress.show()

    return _with_option(run, command, "quiet", Quiet)


def _with_option(run: Callable, command: Callable, name: str, annotation: Any) -> Callable:
    """The function with a command's parameters, and a flag of its own."""
    signature = inspect.signature(command, eval_str=True)
    flag = inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation
    )
    parameters = [*signature.parameters.values(), flag]
    vars(run)["__signature__"] = signature.replace(parameters=parameters)
    return run


def _help(command: Callable) -> str:
    """Help text of a command: its docstring without Args, Returns and Raises."""
    paragraphs = []
    for paragraph in (inspect.getdoc(command) or "").split("\n\n"):
        if paragraph.startswith(("Args:", "Returns:", "Raises:")):
            continue
        indented = any(line.startswith(" ") for line in paragraph.splitlines())
        paragraphs.append(f"\b\n{paragraph}" if indented else paragraph)  # \b: keep lines
    return "\n\n".join(paragraphs)


_COMMANDS: dict[str, Callable] = {
    "train": train,
    "eval": evaluate,
    "compare": compare,
    "predict": predict,
    "app": try_in_browser,
    "check-data": check_data,
    "show-data": show_data,
    "split": split,
    "import-data": import_data,
    "export-data": export_data,
    "convert": convert,
    "export": export,
    "list": list_names,
    "doctor": doctor,
}
for _name, _command in _COMMANDS.items():
    _shown = _with_progress(_command) if _name in _LONG else _command
    app.command(_name, cls=Command, help=_help(_command))(_with_exit_codes(_shown))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"resnest-d2 {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: _Debug = False,
) -> None:
    """ResNeSt detectors for detectron2."""
    global _debug
    _debug = debug


def main() -> None:
    """The installed command; ends the process with its exit code."""
    app(prog_name="resnest-d2")
