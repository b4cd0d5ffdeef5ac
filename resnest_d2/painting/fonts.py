"""Fonts of the machine, and which of them has a character.

DejaVu Sans comes with matplotlib. Other fonts are looked at once, when it lacks a character.
"""

import logging
import re
from collections.abc import Iterator
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

logger = logging.getLogger(__name__)

# Fonts whose glyphs stand for other characters, or are boxes with the character's number.
_UNFIT = re.compile(r"cm[a-z]+\d+|STIX(Size|NonUni)|Last ?Resort|Adobe Blank|.*Emoji", re.I)


def font_with(character: str) -> str | None:
    """File of a font that has a character, DejaVu Sans if possible; None if there is none."""
    code = ord(character)
    base = base_font()
    return base if code in _characters(base) else _others().get(code)


@lru_cache
def base_font() -> str:
    """File of DejaVu Sans."""
    return font_manager.findfont("DejaVu Sans")


@lru_cache(maxsize=64)
def load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A font for drawing, ``size`` pixels high."""
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=1)
def _others() -> dict[int, str]:
    """The best font of the machine for each character that some font has."""
    found: dict[int, str] = {}
    fit = (f for f in _fonts() if not _UNFIT.match(f.name))
    for font in sorted(fit, key=_rank):
        for code in _characters(font.fname):
            found.setdefault(code, font.fname)
    return found


def _fonts() -> Iterator[font_manager.FontEntry]:
    """Fonts in matplotlib's list, which it makes once, and those installed since."""
    listed = font_manager.fontManager.ttflist
    yield from listed
    for path in sorted({*font_manager.findSystemFonts()} - {font.fname for font in listed}):
        try:
            yield font_manager.ttfFontProperty(FT2Font(path))
        except (OSError, RuntimeError) as error:
            logger.debug("The font %s is not used: %s", path, error)


def _rank(font: font_manager.FontEntry) -> tuple[bool, bool, int, str]:
    """Upright fonts before oblique ones, sans serif before others, regular before bold."""
    weight = font.weight if isinstance(font.weight, int) else 400
    plain = font.style == "normal"
    sans = re.search(r"sans|gothic|hei|droid|arial|segoe", font.name, re.I)
    return not plain, not sans, abs(weight - 400), font.fname


@lru_cache(maxsize=1)
def _base_characters() -> frozenset[int]:
    return frozenset(_read_characters(base_font()))


def _characters(path: str) -> frozenset[int]:
    return _base_characters() if path == base_font() else frozenset(_read_characters(path))


def _read_characters(path: str) -> list[int]:
    """Codes of the characters that a font can draw at any size; none if it is broken."""
    try:
        font = FT2Font(path)
        return list(font.get_charmap()) if font.scalable else []
    except (OSError, RuntimeError) as error:
        logger.debug("The font %s is not used: %s", path, error)
        return []
