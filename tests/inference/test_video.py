"""Videos are written with the rate and size that they are given."""

import cv2
import pytest
from PIL import Image

from resnest_d2.errors import UserError
from resnest_d2.inference import video
from resnest_d2.inference.video import VideoWriter, h264_encoder


def image(value, size=(64, 48)):
    return Image.new("RGB", size, (value, 0, 255 - value))


def frames_of(path):
    """Frames (H, W, 3) in RGB, rate and size."""
    capture = cv2.VideoCapture(str(path))
    found = []
    while (read := capture.read())[0]:
        found.append(read[1][:, :, ::-1])
    sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    return found, capture.get(cv2.CAP_PROP_FPS), tuple(int(capture.get(side)) for side in sides)


@pytest.mark.parametrize("encoder", ["H.264", "mp4v"])
@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_frames_rate_and_size(encoder, size, tmp_path, monkeypatch):
    if encoder == "mp4v":
        monkeypatch.setattr(video, "h264_encoder", lambda: None)
    elif h264_encoder() is None:
        pytest.skip("this PyAV has no encoder of H.264")
    writer = VideoWriter(tmp_path / "x" / "v.mp4", 30000 / 1001)
    for value in range(0, 250, 10):
        writer.add(image(value, size))
    assert not (tmp_path / "x" / "v.mp4").exists()
    writer.close()
    frames, fps, found = frames_of(tmp_path / "x" / "v.mp4")
    assert len(frames) == writer.frames == 25 and found == (64, 48)
    assert fps == pytest.approx(30000 / 1001, abs=0.01)
    for value, frame in zip(range(0, 250, 10), frames, strict=True):
        assert abs(frame.mean(axis=(0, 1)) - (value, 0, 255 - value)).max() < 12
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["v.mp4"]
    assert writer.encoder == ("mp4v" if encoder == "mp4v" else h264_encoder())


def test_a_frame_of_another_size_is_resized(tmp_path):
    writer = VideoWriter(tmp_path / "v.mp4", 2.5)
    writer.add(image(0))
    writer.add(image(250, (32, 24)))
    writer.close()
    frames, fps, size = frames_of(tmp_path / "v.mp4")
    assert (len(frames), fps, size) == (2, 2.5, (64, 48))


def test_without_frames_nothing_is_written(tmp_path):
    VideoWriter(tmp_path / "v.mp4", 25).close()
    assert not list(tmp_path.iterdir())


def test_no_part_is_left_of_a_video_that_cannot_be_encoded(tmp_path, monkeypatch):
    import av

    if h264_encoder() is None:
        pytest.skip("this PyAV has no encoder of H.264")
    writer = VideoWriter(tmp_path / "v.mp4", 25)
    writer.add(image(0))

    def failing(pixels):
        raise av.error.InvalidDataError(1, "broken")

    monkeypatch.setattr(writer._encoder, "add", failing)
    with pytest.raises(UserError, match="v.mp4 cannot be encoded: .*broken"):
        writer.add(image(1))
    writer.close()
    assert not list(tmp_path.iterdir())
