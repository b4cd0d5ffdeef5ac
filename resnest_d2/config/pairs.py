"""KEY VALUE pairs, and the arguments that set keys beside them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from resnest_d2.errors import UserError


def require_pairs(opts: Sequence) -> None:
    """Refuses overrides of which a key or a value is missing.

    Raises:
        UserError: an odd number of them.
    """
    if len(opts) % 2:
        raise UserError(f"Overrides come in pairs KEY VALUE, got {list(opts)}.")


def with_keys(
    opts: Sequence,
    flags: Mapping[str, Mapping[str, object]],
    spelled: Callable[[str], str] = str,
) -> list[str]:
    """Appends the keys that arguments set to KEY VALUE pairs.

    Args:
        opts: the pairs.
        flags: argument -> key that it sets -> value, for every argument that was given.
        spelled: how the user writes an argument.

    Raises:
        UserError: an argument and a pair set the same key, or a key has no value.
    """
    require_pairs(opts)
    opts = list(opts)
    for flag, keys in flags.items():
        for key in keys:
            if key in opts[::2]:
                raise UserError(f"{spelled(flag)} and {key} both set {key}; leave one of them out.")
        for key, value in keys.items():
            # Quotes keep a folder named 2024 a string.
            opts += [key, repr(str(value)) if isinstance(value, str | Path) else str(value)]
    return opts
