"""Frames of video files, cameras and network streams, read by OpenCV.

Shapes: H, W of the frame.
"""

import math
import os
import re
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import cv2
import numpy as np

from resnest_d2.errors import UserError
from resnest_d2.files import UnreadableError

from .arrays import in_order
from .images import Asked, InputImage, Source

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
STREAMS = ("rtsp", "rtsps", "rtmp")  # schemes of addresses
# AVI, Matroska and WebM, ASF, MPEG (program, elementary and transport stream), QuickTime and MP4.
_CONTAINERS = re.compile(
    rb"RIFF....AVI |\x1aE\xdf\xa3|0&\xb2u|\x00\x00\x01[\xba\xb3]|G.{187}G"
    rb"|\x00...(ftyp|styp|moov|free|skip|wide|pnot)|....mdat",
    re.DOTALL,
)


def open_video(path: str, asked: Asked) -> Source:
    """The frames of a video file, of which the first is read for a test.

    Raises:
        UserError: OpenCV cannot read it, or it is a playlist, which would open other files.
    """
    _check_container(path)
    video = cv2.VideoCapture(path)
    try:
        if not video.read()[0]:
            raise UserError(f"OpenCV cannot read {path} as a video.")
        number, fps = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), _rate(video, asked.every)
    finally:
        video.release()
    frames = read_frames(path, number, every=asked.every, fps=fps)
    return Source(frames, -(-number // asked.every) if number > 0 else None, single=False)


def _check_container(path: str) -> None:
    """FFmpeg looks at contents, not names: it follows a playlist (HLS, ffconcat) to other files."""
    try:
        with open(path, "rb") as file:
            head = file.read(192)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    if not _CONTAINERS.match(head):
        raise UserError(
            f"{path} is no video file: it begins as another kind of file. Convert the video to MP4."
        )


def _rate(video: cv2.VideoCapture, every: int) -> float | None:
    """Frames per second of every n-th frame; None if the video does not tell."""
    fps = video.get(cv2.CAP_PROP_FPS)
    return fps / every if math.isfinite(fps) and 0 < fps <= 1000 else None


def read_frames(
    path: str, number: int, *, every: int = 1, fps: float | None = None
) -> Iterator[InputImage]:
    """Yields the frames that can be decoded, and an unreadable one if the video is incomplete.

    Args:
        path: path of the video.
        number: number of frames that its header promises; 0 or less if unknown.
        every: take every n-th frame.
        fps: frames per second of those.
    """
    video, name = cv2.VideoCapture(path), os.path.basename(path)
    try:
        frame = 0
        while True:
            there, pixels = _next(video, taken=frame % every == 0)
            if not there:
                break
            if pixels is not None:
                now, later = partial(in_order, pixels, "BGR"), partial(_read_frame, path, frame)
                yield InputImage(f"{name}#{frame}", path, frame, now, later, fps)
            frame += 1
    finally:
        video.release()
    if number - frame > 2:  # some containers count one or two frames too many
        reason = f"the video breaks off after {frame} of {number} frames"
        missing = partial(_unreadable, reason)
        yield InputImage(f"{name}#{frame}", path, frame, missing, missing, fps)


def _next(video: cv2.VideoCapture, *, taken: bool) -> tuple[bool, np.ndarray | None]:
    """Whether there is another frame, and its pixels if it is taken."""
    if not taken:
        return video.grab(), None  # faster
    there, pixels = video.read()
    return there, pixels if there else None


def _unreadable(reason: str, order: str) -> np.ndarray:
    raise UnreadableError(reason)


def _read_frame(path: str, frame: int, order: str) -> np.ndarray:
    video = cv2.VideoCapture(path)
    try:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        there, pixels = video.read()
    finally:
        video.release()
    if not there:
        raise UnreadableError(f"frame {frame} of {path} cannot be read again")
    return in_order(pixels, "BGR", order)


def open_stream(address: str | int, asked: Asked) -> Source:
    """The frames of a camera by its number, or of a network stream by its address.

    They are yielded until the program is stopped or the connection ends. Names of frames have no
    password of the address.

    Raises:
        UserError: there is no such camera or stream.
    """
    if isinstance(address, int):
        name, what = f"camera_{address}", f"camera {address}"
    else:
        parts = urlsplit(address)
        path = parts.path.strip("/").replace("/", "_")
        name = "_".join(filter(None, (parts.hostname, path)))
        what = f"stream {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    video = cv2.VideoCapture(address)
    there, first = video.read()
    if not there:
        video.release()
        raise UserError(f"There is no {what}, or it gives no images.")
    frames = _live_frames(video, first, name, asked.every)
    return Source(frames, None, single=False, endless=True)


def _live_frames(
    video: cv2.VideoCapture, first: np.ndarray, name: str, every: int
) -> Iterator[InputImage]:
    fps, frame, there = _rate(video, every), 0, True
    pixels: np.ndarray | None = first
    try:
        while there:
            if pixels is not None:
                read = partial(in_order, pixels, "BGR")
                yield InputImage(f"{name}#{frame}", None, frame, read, read, fps)
            frame += 1
            there, pixels = _next(video, taken=frame % every == 0)
    finally:
        video.release()
    missing = partial(_unreadable, f"the connection ended after {frame} frames")
    yield InputImage(f"{name}#{frame}", None, frame, missing, missing, fps)
