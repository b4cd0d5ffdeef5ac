"""``resnest-d2 compare``: two evaluated runs side by side, as one page."""

from pathlib import Path
from typing import Annotated

import typer

from resnest_d2.outputs import require_new

from .common import prepare, say


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of an evaluated run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of another.")],
    *,
    output: Annotated[Path, typer.Option(help="Page to write.")] = Path("comparison.html"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Compare two evaluated runs.

    The page has their AP by class, their mistakes, and the images that one of them does better.

    Example:
      resnest-d2 compare output/first output/second --output both.html
    """
    from resnest_d2.report import write_comparison

    prepare()
    sources = [path for run in (first, second) for path in run.rglob("*.json")]
    require_new([output], overwrite=overwrite, sources=sources)
    say(f"Comparison written to {write_comparison(str(first), str(second), str(output))}.")
