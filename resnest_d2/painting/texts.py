"""Text of any script in one line: cleaned, transliterated where no font has it, shortened."""

import re
import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from anyascii import anyascii
from PIL import ImageDraw, ImageFont, features

from resnest_d2.errors import printable

from .colors import RGB
from .fonts import base_font, font_with, load_font

_LONGEST = 200  # characters that are looked at
# Scripts that run from right to left or join their letters, which takes Pillow's raqm.
_SHAPED = re.compile("[\u0590-\u109f\u1780-\u17ff\ufb1d-\ufdff\ufe70-\ufefc]")


class Line(NamedTuple):
    """A text that can be drawn; sizes are in pixels.

    Attributes:
        pieces: text and its font, from left to right.
        width: of the text.
        ascent: height above the baseline.
        height: of the text, the same for all texts of a size.
    """

    pieces: tuple[tuple[str, ImageFont.FreeTypeFont], ...]
    width: int
    ascent: int
    height: int

    def draw(self, canvas: ImageDraw.ImageDraw, x: float, y: float, color: RGB) -> None:
        """Draws the text with its upper left corner at (x, y)."""
        for text, font in self.pieces:
            canvas.text((x, y + self.ascent), text, fill=color, font=font, anchor="ls")
            x += font.getlength(text)


@lru_cache(maxsize=4096)
def line_of(name: str, size: int, *, longest: float, after: str = "") -> Line:
    """Lays out a name from a file, and what follows it.

    Args:
        name: any text; control characters are escaped.
        size: of the font in pixels.
        longest: width of the line at which the name is shortened with "…".
        after: plain text behind the name, such as a score; it is kept.
    """
    dots = [("…", base_font())]  # of the same font as most texts, which puts it at their end
    text = printable(name).strip()
    parts = _drawable(text[:_LONGEST])
    pieces = _pieces(parts + dots * (len(text) > _LONGEST), after, size)
    while parts and _width(pieces) > longest:
        parts = parts[:-1]
        pieces = _pieces(parts + dots, after, size)
    ascent, descent = load_font(base_font(), size).getmetrics()
    return Line(pieces, round(_width(pieces)), ascent, ascent + descent)


def _width(pieces: tuple[tuple[str, ImageFont.FreeTypeFont], ...]) -> float:
    return sum(font.getlength(text) for text, font in pieces)


def _pieces(
    parts: list[tuple[str, str]], after: str, size: int
) -> tuple[tuple[str, ImageFont.FreeTypeFont], ...]:
    """Text and font of the neighbours that have the same font, and what follows them."""
    joined = [
        ("".join(text for text, _ in group), load_font(path, size))
        for path, group in groupby(parts, key=lambda part: part[1])
    ]
    return *joined, *([(after, load_font(base_font(), size))] if after else [])


def _drawable(text: str) -> list[tuple[str, str]]:
    """Each character with the marks on it, or how it is written in ASCII, and its font."""
    parts: list[tuple[str, str]] = []
    holder = None  # font of the character that marks belong to
    for character in text:
        path = font_with(character)
        if _SHAPED.match(character) and not features.check("raqm"):
            path = None
        if unicodedata.category(character) not in ("Mn", "Mc", "Me", "Cf"):
            parts.append((character, path) if path else (anyascii(character) or "?", base_font()))
            holder = path
        elif holder is not None and path == holder:
            parts[-1] = parts[-1][0] + character, path
        elif plain := anyascii(character):
            parts.append((plain, base_font()))
    return parts
