"""Annotated videos: H.264 by PyAV where its build has an encoder, else MPEG-4 by OpenCV.

The file takes its place when the video ends or is stopped, and has all frames until then.
"""

import contextlib
import os
import shutil
import tempfile
from fractions import Fraction
from typing import Any, Protocol

import av
import cv2
import numpy as np
from PIL import Image

from resnest_d2.errors import UserError
from resnest_d2.files import make_folder, whole_file

_H264 = ("libx264", "libopenh264")  # PyAV's own builds have the first
_FINEST = 65_535  # largest denominator of a frame rate in MP4


def h264_encoder() -> str | None:
    """Name of an H.264 encoder that PyAV's build has; None without one."""
    for name in _H264:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            av.codec.Codec(name, "w")
            return name
    return None


class _Encoder(Protocol):
    def add(self, pixels: np.ndarray) -> None: ...

    def close(self) -> None: ...


class VideoWriter:
    """Writes images as the frames of a video, all with the size of the first.

    H.264 has even sides: of an odd one the last row or column is repeated.

    Attributes:
        path: path of the file, which ends in .mp4.
        frames: number of frames so far.
        encoder: name of the encoder.
    """

    def __init__(self, path: str | os.PathLike, fps: float):
        """
        Args:
            path: path of the file.
            fps: frames per second.
        """
        self.path, self.frames = os.fspath(path), 0
        self.encoder = h264_encoder() or "mp4v"
        self._rate = Fraction(fps).limit_denominator(_FINEST)
        self._size: tuple[int, int] | None = None
        self._stack = contextlib.ExitStack()
        self._encoder: _Encoder

    def add(self, image: Image.Image) -> None:
        """Encodes the next frame.

        Raises:
            UserError: it cannot be encoded.
            WriteError: it cannot be written; no part of the file is left.
        """
        if self._size is None:
            self._size = image.size
            width, height = (side + side % 2 for side in image.size)
            make_folder(os.path.dirname(self.path))
            kind = _OpenCV if self.encoder == "mp4v" else _PyAV
            file = self._stack.enter_context(whole_file(self.path))
            with self._failing():
                self._encoder = kind(file, self.encoder, self._rate, (width, height))
        pixels = np.asarray(image if image.size == self._size else image.resize(self._size))
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with self._failing():
            self._encoder.add(pixels)
        self.frames += 1

    def close(self) -> None:
        """Completes the file."""
        if self._size is not None:
            with self._failing():
                self._encoder.close()
            self._stack.close()

    @contextlib.contextmanager
    def _failing(self) -> Any:
        """Around what encodes: an error removes the file, whose context it goes through."""
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._size = None
            with self._stack:
                if isinstance(error, OSError):
                    raise
                raise UserError(f"{self.path} cannot be encoded: {error}.") from error


class _PyAV:
    def __init__(self, file: Any, name: str, rate: Fraction, size: tuple[int, int]):
        self._container = av.open(file, "w", format="mp4")
        stream: Any = self._container.add_stream(name, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"  # what browsers play
        if name == "libx264":
            stream.options = {"crf": "20", "preset": "veryfast"}
        self._stream = stream

    def add(self, pixels: np.ndarray) -> None:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


class _OpenCV:
    """Writes to a file of its own, as OpenCV takes only a path, and copies it at the end."""

    def __init__(self, file: Any, name: str, rate: Fraction, size: tuple[int, int]):
        self._file, self._folder = file, tempfile.TemporaryDirectory(prefix="resnest_d2_")
        self._path = os.path.join(self._folder.name, "video.mp4")
        code = cv2.VideoWriter.fourcc(*name)
        self._writer = cv2.VideoWriter(self._path, code, float(rate), size)
        if not self._writer.isOpened():
            raise UserError("Neither PyAV nor OpenCV can write videos here; leave them out.")

    def add(self, pixels: np.ndarray) -> None:
        self._writer.write(np.ascontiguousarray(pixels[:, :, ::-1]))

    def close(self) -> None:
        self._writer.release()
        with self._folder, open(self._path, "rb") as source:
            shutil.copyfileobj(source, self._file)
