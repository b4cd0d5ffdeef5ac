"""Merges keys and values into a config, after checking names and types.

yacs would stop at the first wrong key, without suggesting similar ones.
"""

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from resnest_d2.errors import UserError

from .keys import ABSENT, get_key, leaves

_SHOWN = 5
_LISTS = (list, tuple)
_VALUES = (bool, int, float, str, list, tuple)


def merge(cfg: CfgNode, values: Mapping[Any, object], *, origin: str) -> None:
    """Sets keys of a config.

    Args:
        cfg: config, changed in place.
        values: dotted names and values; a value may be given as a string.
        origin: source of the values in error messages.

    Raises:
        UserError: a key does not exist (similar keys are suggested) or has another type.
    """
    values = {str(key): value for key, value in values.items()}
    unknown = [key for key in values if get_key(cfg, key, ABSENT) is ABSENT]
    if unknown:
        known = [key for key, _ in leaves(cfg)]
        lines = [f"{key}{_close(key, known)}" for key in unknown[:_SHOWN]]
        more = f", and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise UserError(f"{origin}: there is no key {', '.join(lines)}{more}.")
    for key, value in values.items():
        cfg.merge_from_list([key, _fit(key, value, get_key(cfg, key), origin)])


def _close(key: str, known: list[str]) -> str:
    """Similar keys, and keys with the same last name in other groups."""
    leaf = key.rpartition(".")[2]
    elsewhere = [name for name in known if name.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.75)
    near = list(dict.fromkeys([*near, *elsewhere]))[:3]
    return f" (close: {', '.join(near)})" if near else ""


def _fit(key: str, value: Any, current: object, origin: str) -> object:
    """Converts a value to the type of a key, because yacs evaluates strings as Python."""
    if isinstance(current, dict):
        raise UserError(
            f"{origin}: {key} is {value!r}, but it is a group of keys: "
            f"{', '.join(f'{key}.{name}' for name in list(current)[:_SHOWN])} ..."
        )
    read = _decoded(value)
    if isinstance(current, str):
        if value is None:  # nothing after the colon
            return ""
        if isinstance(value, str):  # quoted: a folder named 2024 stays a string
            return value if isinstance(read, str) else repr(value)
    if isinstance(current, float) and type(read) is int:
        return float(read)
    if current is None and (read is None or isinstance(read, _VALUES)):
        return read
    if type(read) is type(current) or (isinstance(read, _LISTS) and isinstance(current, _LISTS)):
        return read
    raise UserError(
        f"{origin}: {key} is {read!r}, {_kind(read)}; it must be {_kind(current)}, like its "
        f"current value {current!r}."
    )


def _decoded(value: Any) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # a plain string
        return value


def _kind(value: Any) -> str:
    kinds = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
    kinds |= {list: "a list", tuple: "a list", type(None): "nothing"}
    return kinds.get(type(value), f"a {type(value).__name__}")
