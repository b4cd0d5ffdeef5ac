"""What is read of what was given."""

import io
import os
import tempfile

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import read_image
from PIL import Image

from resnest_d2.data.image_files import read_pixels
from resnest_d2.errors import UserError
from resnest_d2.inference import addresses
from resnest_d2.inference.sources import FORMS, open_source
from resnest_d2.inference.videos import read_frames


def save(path, mode, values):
    image = Image.fromarray(values)
    (image if image.mode == mode else image.convert(mode)).save(path)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "1"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_reads_as_the_evaluation_does(tmp_path, mode, order):
    values = np.random.default_rng(0).integers(0, 256, (7, 9, 4), np.uint8)
    save(tmp_path / "a.png", mode, values)
    ours = read_pixels(str(tmp_path / "a.png"), order)
    assert np.array_equal(ours, read_image(str(tmp_path / "a.png"), order))
    assert ours.shape == (7, 9, 3)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_with_all_below_it(tmp_path):
    hidden = ("._a.png", ".git/d.png", "x/.e.png")
    touch(tmp_path, "b.JPG", "a.png", "notes.txt", "c.mp4", "x/a.webp", "x/y/0.png", *hidden)
    (tmp_path / "link").symlink_to(tmp_path / "x")
    source = open_source(tmp_path)
    assert (source.number, source.single) == (4, False)
    found = [os.path.relpath(p.path, tmp_path) for p in source.images]
    assert found == ["a.png", "b.JPG", "x/a.webp", "x/y/0.png"]
    assert source.notes == (
        f"{tmp_path}: 4 images in 3 folders; left out: 1 video, 1 other file, 3 hidden files and "
        "folders.",
    )


def test_a_folder_that_cannot_be_read_is_counted(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "x/b.png")
    real = os.scandir

    def scandir(path):
        if os.fspath(path) in denied:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    denied = [str(tmp_path / "x")]
    source = open_source(tmp_path)
    assert source.number == 1
    assert source.notes[0].endswith(": 1 image; left out: 1 folder that cannot be read.")
    denied = [str(tmp_path)]
    with pytest.raises(UserError, match=f"{tmp_path} cannot be read: Permission denied"):
        open_source(tmp_path)


def test_a_pattern(tmp_path, video):
    touch(tmp_path, "a.png", "b.png", "b.txt", "x/c.png", ".d.png")
    source = open_source(f"{tmp_path}/*.[pat][nvx][git]")
    assert [p.name for p in source.images][:3] == ["a.png", "b.png", "v.avi#0"]
    assert (source.number, source.single) == (7, False)
    assert source.notes[0].endswith(": 2 images, 1 video; left out: 1 other file.")
    deep = open_source(f"{tmp_path}/**/*.png")
    assert [p.name for p in deep.images] == ["a.png", "b.png", "c.png"]
    touch(tmp_path, "e[1].png")
    assert open_source(f"{tmp_path}/e[1].png").single  # what exists is no pattern
    with pytest.raises(FileNotFoundError, match=r"No file matches .*z\*.png"):
        open_source(f"{tmp_path}/z*.png")
    with pytest.raises(ValueError, match=r"None of the 1 files that match .*\*.txt is an image"):
        open_source(f"{tmp_path}/*.txt")


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for i in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * i), np.uint8))
    writer.release()
    return str(tmp_path / "v.avi")


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "#EXTM3U" + "G" * 182 + "\n#EXTINF:9,\n{}\n",
    ],
    ids=["HLS", "concat", "disguised"],
)
def test_a_playlist_opens_no_other_file(playlist, video, tmp_path):
    path = tmp_path / "list.mp4"
    path.write_text(playlist.format(os.path.basename(video)))
    with pytest.raises(UserError, match="list.mp4 is no video file"):
        open_source(path)


def test_frames_of_a_video(video):
    source = open_source(video)
    frames = list(source.images)
    assert (source.number, source.single, source.endless) == (5, False, False)
    assert [f.name for f in frames] == [f"v.avi#{i}" for i in range(5)]
    for frame in frames:
        assert frame.path == video and frame.fps == 5
        assert abs(int(frame.read("RGB")[0, 0, 0]) - 40 * frame.frame) < 6
        assert np.array_equal(frame.read("BGR"), frame.read_later("BGR"))


def test_every_other_frame(video):
    source = open_source(video, every=2)
    frames = list(source.images)
    assert source.number == 3 and [f.frame for f in frames] == [0, 2, 4]
    assert [round(int(f.read("RGB")[0, 0, 0]) / 40) for f in frames] == [0, 2, 4]
    assert frames[0].fps == 2.5
    with pytest.raises(ValueError, match="every is 0; choose 1"):
        open_source(video, every=0)


def test_a_video_that_breaks_off_ends_in_one_that_cannot_be_read(video):
    assert [p.frame for p in read_frames(video, 7)] == list(range(5))
    for every in (1, 2):
        *whole, last = read_frames(video, 9, every=every)
        assert len(whole) == (5, 3)[every - 1] and (last.name, last.path) == ("v.avi#5", video)
        with pytest.raises(ValueError, match="breaks off after 5 of 9 frames"):
            last.read("RGB")


class Camera:
    """OpenCV's capture of a camera or stream that gives some frames."""

    frames, opened = 4, []

    def __init__(self, address):
        self.opened.append(address)
        self.left = self.frames if address != 7 else 0

    def read(self):
        self.left -= 1
        there = self.left >= 0
        return there, np.full((4, 6, 3), self.left, np.uint8) if there else None

    def grab(self):
        return self.read()[0]

    def get(self, key):
        return 0.0  # as of many cameras

    def release(self):
        self.opened.append("released")


@pytest.mark.parametrize(
    ("given", "address", "name"),
    [
        ("0", 0, "camera_0"),
        (1, 1, "camera_1"),
        ("rtsp://me:secret@cam.local:554/live/1", None, "cam.local_live_1"),
    ],
)
def test_cameras_and_streams(given, address, name, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "opened", [])
    source = open_source(given, every=2)
    assert (source.number, source.single, source.endless) == (None, False, True)
    *frames, last = source.images
    assert Camera.opened == [given if address is None else address, "released"]
    assert [f.name for f in frames] == [f"{name}#0", f"{name}#2"]
    assert [int(f.read("RGB")[0, 0, 0]) for f in frames] == [3, 1]
    assert frames[0].path is None and frames[0].fps is None
    with pytest.raises(ValueError, match="the connection ended after 4 frames"):
        last.read("RGB")
    assert open_source([given, np.zeros((4, 4), np.uint8)]).endless


def test_a_camera_that_is_not_there(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(ValueError, match="There is no camera 7, or it gives no images"):
        open_source("7")
    monkeypatch.setattr(Camera, "frames", 0)
    with pytest.raises(ValueError, match=r"There is no stream rtsp://cam:8554/live, or it"):
        open_source("rtsp://me:secret@cam:8554/live")


@pytest.fixture
def png():
    """Random pixels (7, 9, 3), RGB, and their file's contents."""
    values = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return values, buffer.getvalue()


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, io.BytesIO])
def test_encoded_images(png, form):
    values, content = png
    source = open_source(form(content))
    (image,) = source.images
    assert source.single and (image.name, image.path) == ("the image", None)
    assert np.array_equal(image.read("RGB"), values)
    assert np.array_equal(image.read_later("BGR"), values[:, :, ::-1])
    with pytest.raises(ValueError, match="the image cannot be read: it is no image in one of"):
        next(open_source(form(b"no image")).images).read("RGB")


def test_an_open_file_keeps_its_name_and_need_not_stay_open(png, tmp_path):
    values, content = png
    (tmp_path / "a.bin").write_bytes(content)
    with open(tmp_path / "a.bin", "rb") as file:
        (image, _) = open_source([file, content]).images
    assert image.name == "a.bin" and np.array_equal(image.read("RGB"), values)
    with open(tmp_path / "a.bin", encoding="latin-1") as file:
        with pytest.raises(ValueError, match="opened as text; open it in mode 'rb'"):
            open_source(file)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.float64])
def test_tensors(png, dtype):
    values = torch.from_numpy(png[0]).permute(2, 0, 1)
    tensor = values if dtype == torch.uint8 else (values / 255).to(dtype)
    (image,) = open_source(tensor, "RGB").images
    assert np.array_equal(image.read("RGB"), png[0])
    assert np.array_equal(image.read("BGR"), png[0][:, :, ::-1])
    (turned,) = open_source(tensor, "BGR").images
    assert np.array_equal(turned.read("BGR"), png[0])
    alpha = torch.cat([tensor, tensor[:1]])
    grey, flat = open_source([tensor[:1], tensor[1]]).images  # need no order
    assert np.array_equal(next(open_source(alpha, "RGB").images).read("RGB"), png[0])
    assert np.array_equal(grey.read("RGB"), np.dstack([png[0][:, :, 0]] * 3))
    assert np.array_equal(flat.read("BGR"), np.dstack([png[0][:, :, 1]] * 3))


def test_grey_arrays_need_no_order():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (one, other) = open_source([grey, grey[:, :, None]]).images
    assert np.array_equal(one.read("BGR"), np.dstack([grey] * 3))
    assert np.array_equal(one.read("RGB"), other.read("RGB"))


@pytest.mark.parametrize(
    ("source", "channels", "error", "message"),
    [
        ("nowhere.jpg", None, FileNotFoundError, "no image, video or folder nowhere.jpg"),
        (["nowhere.jpg"], None, FileNotFoundError, "nowhere.jpg"),
        ([], None, ValueError, "the list is empty"),
        (-3, None, TypeError, "the image is a int; give a path, pattern or address, the number"),
        (True, None, TypeError, "is a bool; give"),
        (2.5, None, TypeError, "is a float; give .*, a torch tensor, an open file, or a list of"),
        ("ftp://a/b.jpg", None, ValueError, "an address of 'ftp'; choose from http, https, rtsp"),
        ("http://a:x/b.jpg", None, ValueError, "is no http or https address"),
        ("https://a/b.mp4?x=1", None, ValueError, "is a video; download it"),
        (torch.zeros(3, 4, 4), None, ValueError, "channel order of an array is missing"),
        (torch.zeros(5, 4, 3), "RGB", ValueError, r"tensor of dtype float32 and shape \(5, 4, 3"),
        (torch.zeros(1, 3, 4, 4), "RGB", ValueError, "several images as a list"),
        (torch.zeros(3, 4, 4).long(), "RGB", ValueError, "tensor of dtype int64"),
        (torch.full((3, 4, 4), 255.0), "RGB", ValueError, "values from 255 to 255; give 0 to 1"),
        (torch.full((3, 4, 4), -0.5), "RGB", ValueError, "from -0.5 to -0.5; give 0 to 1"),
        (torch.full((3, 4, 4), torch.nan), "RGB", ValueError, "from nan to nan; give 0 to 1"),
        (torch.zeros(3, 0, 4), "RGB", ValueError, "is no image"),
        ([None], None, TypeError, "image 0 is a NoneType"),
        (np.zeros((4, 4, 3), np.uint8), None, ValueError, "channels='BGR'"),
        (np.zeros((4, 4, 3), np.uint8), "GBR", ValueError, "channels is 'GBR'; choose from"),
        (np.zeros((4, 4, 3)), "RGB", ValueError, "dtype float64 and shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), "RGB", ValueError, r"shape \(2, 4, 4, 3\) is no"),
        (np.zeros((0, 4, 3), np.uint8), "RGB", ValueError, "is no image"),
    ],
)
def test_says_what_it_cannot_take(source, channels, error, message):
    with pytest.raises(error, match=message):
        open_source(source, channels)


def test_says_which_folder_and_video_it_cannot_take(tmp_path):
    with pytest.raises(ValueError, match="has no image"):
        open_source(tmp_path)
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(ValueError, match="no image .* in it, but 1 video; give videos by name"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="a.mp4 is no video file"):
        open_source(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    with pytest.raises(ValueError, match="cannot read .*a.mp4 as a video"):
        open_source(tmp_path / "a.mp4")


def test_every_form_is_of_the_table():
    words = [form.words for form in FORMS]
    assert len(set(words)) == len(words) == 7


def test_an_address(server, png, tmp_path, monkeypatch, weights_cache):
    values, content = png
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    server.files["x/a%20b.png?size=1"] = content
    url = server.address("x/a%20b.png?size=1")
    (image,) = open_source(url).images
    assert server.asked == [] and (image.name, image.path) == ("a b.png", url)
    assert np.array_equal(image.read("RGB"), values)
    assert np.array_equal(image.read_later("BGR"), values[:, :, ::-1])
    assert len(server.asked) == 1  # the drawing does not ask again
    assert not weights_cache.exists() and not list((tmp_path / "temporary").iterdir())


REFUSED = {
    "a page": ({"Content-Type": "text/html"}, b"<html>", "refused: the answer is a web page"),
    "JSON": ({"Content-Type": "application/json"}, b"{}", "of type application/json, and"),
    "a video": ({"Content-Type": "video/mp4"}, b"x", "of type video/mp4, and no image"),
    "no image": (
        {"Content-Type": "image/png"},
        b"no image",
        "it is no image in one of the formats",
    ),
    "of no type": ({}, b"no image", "no image in one of"),
    "too large": (
        {"Content-Type": "image/png"},
        b"x" * 3000,
        "server has more than 0.00",
    ),
}


@pytest.mark.parametrize("answer", REFUSED)
def test_an_address_that_is_no_image(answer, server, monkeypatch):
    limits = addresses.LIMITS._replace(bytes=2048, seconds=20.0)
    monkeypatch.setattr(addresses, "LIMITS", limits)
    server.headers["a"], server.files["a"], message = REFUSED[answer]
    (image,) = open_source(server.address("a")).images
    with pytest.raises(UserError, match=message):
        image.read("RGB")


def test_an_address_that_takes_too_long(server, monkeypatch):
    monkeypatch.setattr(addresses, "LIMITS", addresses.LIMITS._replace(seconds=0.1))
    server.files["a"], server.trickle["a"] = b"x" * 5000, 0.05
    (image,) = open_source(server.address("a")).images
    with pytest.raises(UserError, match="refused: it takes more than 0.1 seconds"):
        image.read("RGB")
    (missing,) = open_source(server.address("b")).images
    with pytest.raises(UserError, match=r"b cannot be fetched \(HTTP Error 404"):
        missing.read("RGB")
