"""What is read of what was given."""

import cv2
import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from resnest_d2.inference.sources import _frames, open_source, read_pixels


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


def test_a_folder_by_name(tmp_path):
    for name in ("b.JPG", "a.png", "._a.png", "notes.txt", "c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    source = open_source(tmp_path)
    assert (source.number, source.single) == (2, False)
    assert [p.name for p in source.images] == ["a.png", "b.JPG"]


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for i in range(5):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * i), np.uint8))
    writer.release()
    return str(tmp_path / "v.avi")


def test_frames_of_a_video(video):
    source = open_source(video)
    frames = list(source.images)
    assert (source.number, source.single) == (5, False)
    assert [f.name for f in frames] == [f"v.avi#{i}" for i in range(5)]
    for frame in frames:
        assert frame.path == video
        assert abs(int(frame.read("RGB")[0, 0, 0]) - 40 * frame.frame) < 6
        assert np.array_equal(frame.read("BGR"), frame.read_later("BGR"))


def test_a_video_that_breaks_off_ends_in_one_that_cannot_be_read(video):
    assert [p.frame for p in _frames(video, 7)] == list(range(5))
    *whole, last = _frames(video, 9)
    assert len(whole) == 5 and (last.name, last.path) == ("v.avi#5", video)
    with pytest.raises(ValueError, match="breaks off after 5 of 9 frames"):
        last.read("RGB")


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
        (3, None, TypeError, "is a int; give a path"),
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
    with pytest.raises(ValueError, match="cannot read .*a.mp4 as a video"):
        open_source(tmp_path / "a.mp4")
