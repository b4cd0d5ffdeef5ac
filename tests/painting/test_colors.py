"""Colours of classes: the same everywhere, apart from each other, with readable text on them."""

import pytest

from resnest_d2.painting.colors import color_of, ink_on, luminance


def contrast(a, b):
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_a_class_keeps_its_colour():
    assert [color_of(n) for n in (0, 1, 2)] == [(30, 144, 255), (255, 90, 60), (46, 196, 90)]
    assert color_of(1202) == color_of(1202)


def test_colours_differ():
    assert len({color_of(n) for n in range(200)}) == 200
    for a in range(20):
        for b in range(a):
            apart = sum(abs(x - y) for x, y in zip(color_of(a), color_of(b), strict=True))
            assert apart >= 60, (a, b)


@pytest.mark.parametrize("number", [*range(100), 1202])
def test_text_is_readable_on_every_colour_and_lines_on_black_and_white(number):
    color = color_of(number)
    assert contrast(color, ink_on(color)) > 4.5
    assert contrast(color, (0, 0, 0)) > 1.7 and contrast(color, (255, 255, 255)) > 1.1


def test_ink():
    assert ink_on((255, 255, 0)) == (0, 0, 0) and ink_on((90, 0, 90)) == (255, 255, 255)
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
