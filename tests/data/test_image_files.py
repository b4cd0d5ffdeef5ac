"""Only the listed formats are opened, and only so many pixels, wherever an image is read."""

import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from detectron2.utils import logger
from PIL import EpsImagePlugin, Image

from resnest_d2.data.convert.duplicates import fingerprint
from resnest_d2.data.image_files import FORMATS, open_image, read_pixels, reading_image
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.data.validate.images import image_size, inspect_image, require_8_bits
from resnest_d2.errors import UserError
from resnest_d2.report.images import thumbnail
from resnest_d2.report.matching import MatchedImage

FIRST = "only the first of each image is read."
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\nshowpage\n"


def png(width, height):
    """A PNG of some size in its header, with one row of pixels."""

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * (3 * width + 1))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.fixture(autouse=True)
def guarded(monkeypatch):
    """No test starts Ghostscript, or changes Pillow's limit for others."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)

    def started(*args, **kwargs):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)


def mapped(path, cfg):
    record = {"file_name": path, "image_id": 7, "height": 40, "width": 60, "annotations": []}
    return NamingDatasetMapper(cfg, is_train=False)(record)


def inspected(path):
    if fault := inspect_image(path, decode=False).fault:
        raise UserError(fault[1])


READERS = {
    "predict": lambda path, cfg: read_pixels(path, "RGB"),
    "training": mapped,
    "import": lambda path, cfg: image_size(path),
    "depth": lambda path, cfg: require_8_bits(path),
    "check": lambda path, cfg: inspected(path),
    "split": lambda path, cfg: fingerprint(path),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EPS, "no image in one of the formats BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"),
        (b"no image", "no image in one of the formats"),
        (png(60_000, 60_000), "more than 178,956,970 pixels; set RESNEST_D2_MAX_PIXELS"),
    ],
    ids=["eps", "text", "bomb"],
)
def test_what_is_refused_by_its_header(reader, content, message, tmp_path, cfg, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as sahi sets it for the whole process
    if reader == "split":
        pytest.importorskip("imagehash", reason="the extra split is not installed")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError) as caught:
        READERS[reader](str(tmp_path / "a.png"), cfg)
    assert message in str(caught.value)


def test_a_page_has_no_thumbnail_of_them(tmp_path):
    (tmp_path / "a.png").write_bytes(EPS)
    none = np.zeros((0, 0))
    matched = MatchedImage({"width": 60, "height": 40}, [], [], none, none)
    assert thumbnail(matched, str(tmp_path / "a.png")).uri == ""
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    assert thumbnail(matched, str(tmp_path / "a.png")).uri


@pytest.mark.parametrize("format", FORMATS)
def test_every_listed_format_is_read(format, tmp_path):
    Image.new("RGB", (60, 40), (255, 0, 0)).save(tmp_path / "a", format)
    pixels = read_pixels(str(tmp_path / "a"), "BGR")
    assert pixels.shape == (40, 60, 3) and pixels[20, 30, 2] > 250


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP", "MPO"])
@pytest.mark.parametrize("number", [1, 3])
def test_only_the_first_frame_is_read_and_that_is_said(
    format, number, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logger, "_LOG_COUNTER", Counter())
    path = str(tmp_path / "a")
    first, *others = (Image.new("RGB", (60, 40), (200 - 50 * i, 0, 0)) for i in range(number))
    first.save(path, format, save_all=True, append_images=others)
    pixels = read_pixels(path, "RGB")
    assert np.array_equal(read_pixels(path, "RGB"), pixels)
    assert pixels.shape == (40, 60, 3) and 195 < pixels[20, 30, 0] < 205
    several = number > 1 and format != "MPO"  # whose further images are previews
    assert caplog.messages == [f"{path} has several frames or pages; {FIRST}"] * several
    assert [inspect_image(path, decode=d).frames for d in (True, False)] == [several] * 2


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    for limit, allowed in (("200", True), ("199", False), ("9", False)):
        monkeypatch.setenv("RESNEST_D2_MAX_PIXELS", limit)
        if allowed:
            assert image_size(str(tmp_path / "a.png")) == (20, 10)
            continue
        with pytest.raises(UserError, match=f"a.png cannot be read: it has more than {limit} pix"):
            image_size(str(tmp_path / "a.png"))
    monkeypatch.setenv("RESNEST_D2_MAX_PIXELS", "4000000000")
    (tmp_path / "b.png").write_bytes(png(60_000, 60_000))
    assert image_size(str(tmp_path / "b.png")) == (60_000, 60_000)  # without decoding it
    for wrong in ("", "many", "-1", "0", "9" * 5000):
        monkeypatch.setenv("RESNEST_D2_MAX_PIXELS", wrong)
        with pytest.raises(UserError, match="RESNEST_D2_MAX_PIXELS is .*; give a number"):
            image_size(str(tmp_path / "a.png"))


@pytest.mark.parametrize("error", [OSError("x"), SyntaxError("x"), IndexError("x"), TypeError("x")])
def test_whatever_a_decoder_raises_names_the_image(error, tmp_path):
    with pytest.raises(UserError, match=f"a.png cannot be read: {type(error).__name__}: x"):
        with reading_image("a.png"):
            raise error
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"a.png cannot be read: {type(error).__name__}: x"):
        with open_image(tmp_path / "a.png"):
            raise error
