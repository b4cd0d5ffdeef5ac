"""Fonts: DejaVu Sans first, another one of the machine for what it lacks, never an unfit one."""

from types import SimpleNamespace

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from resnest_d2.painting import fonts
from resnest_d2.painting.fonts import base_font, font_with


@pytest.fixture
def machine(monkeypatch):
    """Sets the fonts of the machine beside DejaVu Sans: (file, name, style), and newer files."""
    base_font()  # found before they are replaced

    def has(*entries, since=()):
        listed = [
            SimpleNamespace(fname=str(path), name=name, style=style, weight=400)
            for path, name, style in entries
        ]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", listed)
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(map(str, since)))
        fonts._others.cache_clear()

    yield has
    monkeypatch.undo()
    fonts._others.cache_clear()


def write_font(path, characters):
    """A font whose glyphs are squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"g{i}" for i in range(len(characters)))]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): n for c, n in zip(characters, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Made", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_letters_are_those_of_dejavu(machine, tmp_path):
    machine((write_font(tmp_path / "a.ttf", "a猫"), "Other Sans", "normal"))
    assert font_with("a") == font_with("ß") == font_with("ق") == base_font()


def test_another_font_of_the_machine_has_what_is_missing(machine, tmp_path):
    machine()
    assert font_with("猫") is None
    oblique = write_font(tmp_path / "a.ttf", "猫")
    upright = write_font(tmp_path / "b.ttf", "猫")
    serif = write_font(tmp_path / "0.ttf", "猫犬")
    machine(
        (oblique, "Some Sans", "italic"),
        (serif, "Some Serif", "normal"),
        (upright, "Some Sans", "normal"),
    )
    assert font_with("猫") == str(upright) and font_with("犬") == str(serif)
    assert font_with("馬") is None


def test_a_font_installed_after_matplotlibs_list_is_found(machine, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    new = write_font(tmp_path / "new.ttf", "猫")
    machine(since=[tmp_path / "broken.ttf", tmp_path / "gone.ttf", new])
    assert font_with("猫") == str(new)


def test_fonts_of_boxes_and_broken_fonts_are_not_used(machine, tmp_path):
    path = write_font(tmp_path / "a.ttf", "猫")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    machine(
        (path, "Last Resort High-Efficiency", "normal"),
        (tmp_path / "broken.ttf", "Broken Sans", "normal"),
        (tmp_path / "gone.ttf", "Gone Sans", "normal"),
    )
    assert font_with("猫") is None


def test_a_name_is_drawn_with_the_fonts_of_its_characters(machine, tmp_path):
    from resnest_d2.painting.texts import line_of

    machine((write_font(tmp_path / "a.ttf", "猫"), "Other Sans", "normal"))
    line = line_of("猫 cat", 17, longest=500)  # a size of no other test, which would be remembered
    assert [text for text, _ in line.pieces] == ["猫", " cat"]
    assert line.pieces[0][1].path == str(tmp_path / "a.ttf")
    line_of.cache_clear()
