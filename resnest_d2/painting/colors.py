"""One colour per class, by its index, and the ink that is readable on it."""

import colorsys

RGB = tuple[int, int, int]

# Far apart in OKLab, each visible on black and on white.
_PALETTE = (
    *("1e90ff", "ff5a3c", "2ec45a", "ffc41e", "c04dff", "35dff0", "ff4fa3", "a4dc2c"),
    *("ff8c1a", "7a6bff", "ffb0ea", "1f8f64", "b08a10", "8fcfff", "d42062", "98f0b4"),
    *("985098", "b0583c", "3f66e0", "e6d690"),
)


def color_of(number: int) -> RGB:
    """RGB of a class, the same in every drawing.

    Classes beyond the palette have hues that differ by the golden angle.

    Args:
        number: index of the class, from 0.
    """
    if number < len(_PALETTE):
        red, green, blue = bytes.fromhex(_PALETTE[number])
        return red, green, blue
    hue = (number * 0.618034) % 1
    saturation, value = ((0.85, 1.0), (0.5, 0.9), (0.75, 0.8))[number % 3]
    red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def ink_on(color: RGB) -> RGB:
    """Black or white, whichever has more contrast; always more than 4.5 : 1.

    Contrast: https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio
    """
    light = luminance(color)
    white = 1.05 / (light + 0.05)
    return (255, 255, 255) if white > (light + 0.05) / 0.05 else (0, 0, 0)


def luminance(color: RGB) -> float:
    """Relative luminance of an sRGB colour, 0 of black and 1 of white."""
    linear = (
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
        for v in (c / 255 for c in color)
    )
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
