"""Text of any script: drawn with a font that has it, or in ASCII, and shortened."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from resnest_d2.painting import fonts, texts
from resnest_d2.painting.texts import line_of


@pytest.fixture(autouse=True)
def only_dejavu(monkeypatch):
    """No other font of the machine is known."""
    monkeypatch.setattr(fonts, "_others", dict)
    line_of.cache_clear()
    yield
    line_of.cache_clear()


def text_of(name, **options):
    line = line_of(name, 14, **{"longest": 10_000, **options})
    return "".join(text for text, _ in line.pieces)


def drawn(name):
    """Dark pixels of a text on white."""
    image = Image.new("L", (300, 40), 255)
    line_of(name, 20, longest=290).draw(ImageDraw.Draw(image), 5, 5, 0)
    return np.asarray(image) < 128


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("斑马", "BanMa"),
        ("ねこ cat", "neko cat"),
        ("고양이", "GoYangI"),
        ("नमस्ते", "nmste"),
        ("Кошка Ελληνικά é", "Кошка Ελληνικά é"),
        ("e\u0301tat", "e\u0301tat"),
        ("😀", "😀"),  # DejaVu has some
        ("🐈", ":cat2:"),
        ("👩\u200d🔬", ":woman::microscope:"),
        ("\ue000x", "?x"),
        ("US$1 or $x^2$ a\\b_%s {0}", "US$1 or $x^2$ a\\b_%s {0}"),
        ("a\nb\x1b[31m\x00", r"a\nb\x1b[31m\x00"),
        ("abc\u202edef\ud800", r"abc\u202edef\ud800"),
        ("  a ", "a"),
        ("", ""),
        ("\u0301\ufe0f", ""),
    ],
)
def test_what_is_drawn(name, expected):
    assert text_of(name) == expected


def test_no_character_is_an_empty_box():
    box = drawn("\ue000")  # becomes a question mark
    assert (box == drawn("?")).all()
    line = line_of("斑马 🐈 नमस्ते قطة", 14, longest=1000)
    for text, font in line.pieces:
        assert all(fonts.font_with(c) == font.path for c in text)


def test_right_to_left_text_is_drawn_in_its_order():
    if not features.check("raqm"):
        pytest.skip("Pillow without raqm: these texts are transliterated")
    assert text_of("חתול") == "חתול"
    columns = drawn("ח" + "." * 9).any(0)  # dots follow on the left
    assert columns[:60].sum() < columns.sum() and drawn("." * 9)[:, 5:60].any()
    first = drawn("אב")
    assert not (first == drawn("בא")).all()


def test_without_raqm_shaped_scripts_are_transliterated(monkeypatch):
    monkeypatch.setattr(texts.features, "check", lambda name: False)
    assert text_of("قطة") == "qth" and text_of("חתול cat") == "htvl cat"


@pytest.mark.parametrize("name", ["x" * 500, "斑马" * 300, "word " * 60, "قطة" * 100])
@pytest.mark.parametrize("longest", [60, 100, 333])
def test_long_names_end_in_dots_and_keep_the_score(name, longest):
    line = line_of(name, 14, longest=longest, after=" 97%")
    assert line.width <= longest + 1
    text = "".join(text for text, _ in line.pieces)
    assert text.endswith("… 97%") and len(text) < 200


def test_a_name_that_fits_is_complete():
    width = line_of("elephant", 14, longest=1000).width
    assert text_of("elephant", longest=width + 1) == "elephant"
    assert text_of("elephant", longest=width - 3) == "eleph…"


def test_names_of_a_million_characters_cost_no_more():
    assert len(text_of("x" * 10**6)) == 201


def test_the_size_is_what_is_drawn():
    pixels = drawn("Hello").nonzero()
    line = line_of("Hello", 20, longest=290)
    assert 5 <= pixels[1].min() and pixels[1].max() <= 5 + line.width
    assert 5 <= pixels[0].min() and pixels[0].max() < 5 + line.height
    assert line_of("g", 20, longest=290).height == line.height
