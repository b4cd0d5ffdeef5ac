"""``resnest-d2 list``: lists the configs of the package and the published models."""

from enum import Enum
from typing import Annotated, Optional

import typer

from resnest_d2.errors import UserError
from resnest_d2.model_zoo import models
from resnest_d2.shipped import list_configs

from .common import say


class What(str, Enum):
    """Kinds of names to list."""

    configs = "configs"
    models = "models"


def _read_what(text: str) -> What:
    try:
        return What(text if text.endswith("s") else f"{text}s")
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither configs nor models.") from None


def list_names(
    what: Annotated[
        Optional[What],
        typer.Argument(
            parser=_read_what,
            metavar="[configs|models]",
            help="What to list; default: both.",
            autocompletion=lambda: [kind.value for kind in What],
        ),
    ] = None,
    words: Annotated[
        Optional[list[str]], typer.Argument(help="List only names that contain every word.")
    ] = None,
) -> None:
    """List configs and published models.

    Examples:
      resnest-d2 list
      resnest-d2 list models mask 50
      resnest-d2 list configs quick
    """
    from tabulate import tabulate

    tables = {What.configs: _configs, What.models: _models}
    shown = False
    for kind, table in tables.items():
        if what in (None, kind):
            headers, rows = table()
            rows = [row for row in rows if _contains(row, words or [])]
            if rows:
                say(tabulate(rows, headers=headers, disable_numparse=True) + "\n")
            shown = shown or bool(rows)
    if not shown:
        raise UserError(f"No name contains all of: {' '.join(words or ())}.")


def _contains(row: list[str], words: list[str]) -> bool:
    text = " ".join(cell for cell in row if not cell[:1].isdigit()).lower()  # names, not figures
    return all(word.lower() in text for word in words)


def _configs() -> tuple[list[str], list[list[str]]]:
    ids = {model.config: model.id for model in models() if not model.is_backbone}
    return ["config", "published"], [[name, ids.get(name, "")] for name in list_configs()]


def _models() -> tuple[list[str], list[list[str]]]:
    headers = ["model", "task", "box AP", "mask AP", "PQ", "top-1", "source"]
    rows = [
        [
            model.id,
            model.task,
            *(str(v or "") for v in (model.box_ap, model.mask_ap, model.pq, model.top1)),
            model.source,
        ]
        for model in models()
    ]
    return headers, rows
