"""Names of a foreign module that stand for something else for a while."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Set attributes that exist already, and set them back afterwards.

    Args:
        owner: a module or class.
        **values: the new values by name.

    Raises:
        AttributeError: the owner lacks one of the names; nothing is set then.
    """
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
