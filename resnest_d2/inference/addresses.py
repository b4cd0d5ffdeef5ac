"""Images at http and https addresses, downloaded with limits when they are read.

The file is kept in memory as it came, for drawing it later, and nowhere else: no cache has it.
"""

import os
import tempfile
from functools import partial
from pathlib import Path
from threading import Lock
from urllib.parse import unquote, urlsplit

import numpy as np

from resnest_d2.checkpoint.download import Limits, check_address
from resnest_d2.checkpoint.fetch import fetch
from resnest_d2.data.image_files import read_pixels
from resnest_d2.errors import UserError, printable
from resnest_d2.outputs import path_inside

from .images import Asked, InputImage, Source
from .videos import VIDEOS

SCHEMES = ("http", "https")
LIMITS = Limits(bytes=256 << 20, seconds=60.0, kind="image", bar=False)


class _Download:
    """The contents of an address, fetched at the first call by one of several threads."""

    def __init__(self, url: str):
        self._url, self._lock = url, Lock()
        self._content: bytes | None = None

    def __call__(self) -> bytes:
        with self._lock:
            if self._content is None:
                with tempfile.TemporaryDirectory(prefix="resnest_d2_") as folder:
                    target = Path(folder) / "image"
                    fetch(self._url, target, attempts=2, limits=LIMITS)
                    self._content = target.read_bytes()
            return self._content


def open_address(url: str, asked: Asked) -> Source:
    """The image at an address, which is not asked yet.

    Raises:
        DownloadError: an address that cannot be asked.
        UserError: a video.
    """
    check_address(url)
    name = printable((path_inside(unquote(urlsplit(url).path)) or [""])[-1]) or "image"
    if os.path.splitext(name)[1].lower() in VIDEOS:
        raise UserError(f"{url} is a video; download it and give the file.")
    read = partial(_read, _Download(url), url)
    return Source(iter([InputImage(name, url, None, read, read)]), 1, single=True)


def _read(download: _Download, url: str, order: str) -> np.ndarray:
    return read_pixels(url, order, download())
