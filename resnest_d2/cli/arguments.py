"""Arguments of the commands, as they are read before typer: values that are missing or optional.

Typer's options have a fixed number of values, and take what follows as one, even an option.
"""

import os
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Optional

import typer
import typer.core

from resnest_d2.model_zoo import models
from resnest_d2.shipped import config_named

JSON_FOLDER = "JSON [FOLDER]"  # metavar of options whose second value may be left out
Data = Optional[tuple[str, str]]  # their type; a folder that was left out is ""
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")


class Command(typer.core.TyperCommand):
    """A command that sees an option where a value should be, and allows ``--data JSON``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Completes the arguments before they are read."""
        options = {name: p for p in self.params for name in p.opts if name.startswith("-")}
        return super().parse_args(ctx, [*_completed(args, options)])


def _completed(args: list[str], options: dict[str, Any]) -> Iterator[str]:
    """The arguments with "" for a folder that was left out.

    Raises:
        BadParameter: an option has no value, because another one follows.
    """
    words = deque(args)
    while words:
        word = words.popleft()
        yield word
        if word == "--":
            yield from words
            return
        name, equals, _ = word.partition("=")
        option = options.get(name)
        if option is None or option.is_flag:
            continue
        for number in range(bool(equals), option.nargs):
            if number == 1 and option.metavar == JSON_FOLDER:
                yield words.popleft() if words and _is_folder(words[0]) else ""
            elif words and words[0] in options:
                raise typer.BadParameter(f"{name} has no value: the option {words[0]} follows it.")
            elif words:
                yield words.popleft()


def _is_folder(word: str) -> bool:
    """Whether a word after an annotation file means the folder of its images.

    So does a folder that does not exist, which is an error later; a run, a config, the name of a
    detector, a key and an option do not.
    """
    if os.path.isdir(word):
        return not os.path.isfile(os.path.join(word, "config.yaml"))
    named = word.startswith("-") or _KEY.fullmatch(word) or config_named(word)
    return not (named or os.path.exists(word) or any(word == model.id for model in models()))
