#!/usr/bin/env python3
"""Write docs/keys.md from the keys and comments in resnest_d2/config/keys.py."""

import ast
import inspect
import io
import textwrap
import tokenize
from pathlib import Path

from resnest_d2.config.keys import add_resnest_config

TARGET = Path(__file__).parents[1] / "docs" / "keys.md"
HEAD = """# Every key of this package

Beside [detectron2's own](https://detectron2.readthedocs.io/modules/config.html#config-references).
This page is written by `tools/write_config_keys.py` from `resnest_d2/config/keys.py`; what belongs
together is explained in [configs](configs.md).

"""


def rows() -> list[tuple[str, str, str]]:
    """Key, default and meaning of every key that add_resnest_config sets, in its order."""
    source = textwrap.dedent(inspect.getsource(add_resnest_config))
    comments = _comments(source)
    alias: dict[str, str] = {}
    found = []
    for statement in ast.parse(source).body[0].body:
        if not isinstance(statement, ast.Assign):
            continue
        target = ast.unparse(statement.targets[0])
        value = ast.unparse(statement.value)
        if isinstance(statement.targets[0], ast.Name):
            alias[target] = value
            continue
        if value == "CfgNode()":
            continue
        first, _, rest = target.partition(".")
        key = f"{alias.get(first, first)}.{rest}".removeprefix("cfg.")
        default = '""' if value == "''" else value.replace("'", '"')
        found.append((key, default, _meaning(comments, statement.lineno)))
    return found


def _comments(source: str) -> dict[int, str]:
    """Comments that stand alone on their line, by line."""
    return {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def _meaning(comments: dict[int, str], line: int) -> str:
    """The comment above a line; of a new group's first key, above the group's own line."""
    line -= 1 if line - 1 in comments else 2
    lines = []
    while line in comments:
        lines.insert(0, comments[line])
        line -= 1
    return " ".join(lines)


def document() -> str:
    """The whole page."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, default, meaning in rows():
        lines.append(f"| `{key}` | `{default}` | {meaning.replace('|', ' or ')} |")
    return HEAD + "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    TARGET.write_text(document())


if __name__ == "__main__":
    main()
