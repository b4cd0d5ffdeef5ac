"""Parsers of text from anywhere, with limits: JSON, YAML and XML.

A few bytes can be written to fill the memory or the stack: aliases of aliases in YAML, entities of
entities in XML, a hundred thousand brackets. Nothing in a text is run, and nothing is fetched.
"""

import json
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml

from resnest_d2.errors import UserError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_DEPTH = 100  # lists and mappings inside each other; annotations have 6
MAX_NODES = 200_000  # of YAML, every alias counted as what it stands for
_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_UNMARKED = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


def parse_json(
    text: str, source: str | os.PathLike, *, object_hook: Callable[[dict], Any] | None = None
) -> Any:
    """What a text in JSON holds.

    Args:
        text: of the file.
        source: path of the file, for the error.
        object_hook: as of :func:`json.loads`.

    Raises:
        UserError: not JSON, or nested too deep.
    """
    try:
        content = json.loads(text, object_hook=object_hook)
    except (ValueError, RecursionError) as error:  # ValueError: also of a number of 5,000 digits
        reason = _DEEP if isinstance(error, RecursionError) else error
        raise UserError(f"{source} is not JSON: {reason}.") from error
    if _is_deep(text):
        raise UserError(f"{source} is not JSON that can be read: {_DEEP}.")
    return content


def parse_yaml(text: str, source: str | os.PathLike) -> Any:
    """What a text in YAML holds.

    Args:
        text: of the file.
        source: path of the file, for the error.

    Raises:
        UserError: not YAML, or one that is too deep or too large.
    """
    try:
        return yaml.load(text, _BoundedLoader)  # a safe loader
    except Exception as error:  # PyYAML raises half a dozen kinds, of `!!bool 3` a KeyError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{source} is not YAML: {reason}.") from error


def parse_xml(path: str | os.PathLike) -> "Element":
    """Root of an XML file.

    Raises:
        UserError: not XML, nested too deep, or with entities. The message does not name the file.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        root = parse(path).getroot()
    except DefusedXmlException as error:
        raise UserError("it declares entities, which can fill the memory or read files") from error
    except Exception as error:  # a LookupError of an unknown encoding, among others
        raise UserError(f"it is not XML: {error}") from error
    level = [root]
    for _ in range(MAX_DEPTH):  # level by level, which needs no stack
        level = [child for element in level for child in element]
    if level:
        raise UserError(_DEEP)
    return root


class _BoundedLoader(yaml.SafeLoader):
    """Loader of plain values that counts what aliases and merge keys expand to."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = self._nodes = 0
        self._sizes: dict[yaml.Node | None, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark, alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        before = self._nodes
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=_DEEP, problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and node not in self._sizes:
            raise yaml.MarkedYAMLError(problem="an alias is inside its anchor", problem_mark=mark)
        self._nodes += self._sizes[node] if alias else 1
        if self._nodes > MAX_NODES:
            problem = f"it has more than {MAX_NODES:,} entries, aliases included"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if not alias:
            self._sizes[node] = self._nodes - before
        return node


def _is_deep(text: str) -> bool:
    """Whether JSON that was parsed is nested too deep; looks at its brackets alone.

    Of annotations of COCO's size that takes a small part of the parsing; going through all the
    values takes as long again.
    """
    escaped = text.encode("utf-8", "surrogatepass").replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = escaped.translate(_AS_BRACKETS, _UNMARKED).replace(b'""', b"")
    marks = re.sub(b'"[^"]*"', b"", marks)  # strings with brackets in them
    for _ in range(MAX_DEPTH):
        marks = marks.replace(b"[]", b"")  # the innermost ones
    return bool(marks)
