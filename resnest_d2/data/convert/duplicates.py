"""Groups of near-duplicate images: video frames, resized, recompressed, brightened, cropped copies.

Images are compared by perceptual hashes of imagehash (extra ``split``,
https://github.com/JohannesBuchner/imagehash): the signs of 16 x 16 low frequencies. A copy that is
cropped by a tenth has another hash, so the whole of each image is also compared with parts of the
others.

Shapes: N images, W windows, B = 256 bits.
"""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from resnest_d2.data.image_files import open_image
from resnest_d2.errors import MissingPackageError, UserError
from resnest_d2.progress import counted

MAX_DISTANCE = 72
"""Bits of 256 up to which images are near-duplicates. On photographs of blood cells, random crops
that keep 90% of each side differ by at most 72, different images by 90 or more."""
_SIDE = 16  # of the hash
_LONGEST = 512  # pixels of a side that are looked at
_FLAT = 8  # range of grey values of an image without structure, whose hash would be of noise
# Shares cut off at the left, top, right and bottom.
_WINDOWS = (
    *((c, c, c, c) for c in (0.0, 0.05, 0.1)),
    *((0.08, 0, 0, 0), (0, 0.08, 0, 0), (0, 0, 0.08, 0), (0, 0, 0, 0.08)),
    *((0.08, 0.08, 0, 0), (0, 0.08, 0.08, 0), (0, 0, 0.08, 0.08), (0.08, 0, 0, 0.08)),
)
_BLOCK = 512  # images compared at a time


class Fingerprint(NamedTuple):
    """Hashes of an image's windows (W, B), or the pixels of one without structure."""

    hashes: np.ndarray | None
    pixels: bytes


def require_imagehash() -> None:
    """Raises the error that names the extra.

    Raises:
        MissingPackageError: imagehash is not installed.
    """
    if find_spec("imagehash") is None:
        raise MissingPackageError(
            "Near-duplicate images are found with imagehash, which is not installed: "
            "pip install 'resnest-d2[split]'. Without it, --ignore-duplicates splits images "
            "wherever they are."
        )


def fingerprint(path: str) -> Fingerprint:
    """Reads an image and hashes its windows.

    Raises:
        UnreadableError: no image that can be read.
    """
    from imagehash import phash

    with open_image(path) as opened:
        opened.draft("L", (_LONGEST, _LONGEST))  # a JPEG is decoded at a fraction of its size
        image = _grey(ImageOps.exif_transpose(opened))
        image.thumbnail((_LONGEST, _LONGEST))
    low, high = image.getextrema()
    if high - low < _FLAT:  # type: ignore[operator]
        return Fingerprint(None, image.resize((_SIDE, _SIDE)).tobytes())
    w, h = image.size
    parts = [
        image.crop(
            (int(w * x0), int(h * y0), max(1, round(w * (1 - x1))), round(h * (1 - y1)) or 1)
        )
        for x0, y0, x1, y1 in _WINDOWS
    ]
    return Fingerprint(np.stack([phash(part, _SIDE).hash.ravel() for part in parts]), b"")


def _grey(image: Image.Image) -> Image.Image:
    """In 8 bits; of more bits, which Pillow would cut off, the range that is used."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, float)
        values = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
        return Image.fromarray((255 * values).astype(np.uint8))
    return image.convert("L")


def group_images(
    paths: Sequence[str],
    keys: Sequence[object],
    *,
    max_distance: int = MAX_DISTANCE,
    progress: bool = True,
) -> np.ndarray:
    """Groups images with equal keys and near-duplicates; two groups that share one are one group.

    Args:
        paths: (N,) files of the images.
        keys: (N,) such as a video of each image.
        max_distance: bits of 256 that near-duplicates differ by at most; none are looked for if it
            is negative.
        progress: show a progress bar.

    Returns:
        (N,) number of each image's group, from 0 in the order of the images.

    Raises:
        MissingPackageError: imagehash is not installed.
        UnreadableError: an image cannot be read.
    """
    labels = _numbered(keys)
    if max_distance >= 0:
        require_imagehash()
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow releases the GIL
            found = threads.map(fingerprint, paths)
            prints = list(counted(found, "Images", total=len(paths), shown=progress))
        flat = _numbered([p.pixels or i for i, p in enumerate(prints)])
        for number in np.unique(flat):
            _join(labels, np.flatnonzero(flat == number))
        hashed = np.array([i for i, p in enumerate(prints) if p.hashes is not None], int)
        if len(hashed):
            hashes = np.stack([p.hashes for p in prints if p.hashes is not None])
            for row, near in _near(hashes, max_distance):
                _join(labels, hashed[np.append(near, row)])
    return _numbered(labels.tolist())


def _near(hashes: np.ndarray, max_distance: int) -> Iterator[tuple[int, np.ndarray]]:
    """Each image and those with a window near its whole, from hashes (N, W, B), for each window."""
    least = hashes.shape[2] - 2 * max_distance  # of the product of two hashes' signs
    wholes = np.where(hashes[:, 0], np.float32(1), np.float32(-1))  # (N, B)
    for window in range(hashes.shape[1]):
        parts = np.where(hashes[:, window], np.float32(1), np.float32(-1)).T  # (B, N)
        for start in range(0, len(wholes), _BLOCK):
            near = wholes[start : start + _BLOCK] @ parts >= least
            for i in np.flatnonzero(near.any(1)):
                yield start + int(i), np.flatnonzero(near[i])


def _join(labels: np.ndarray, members: np.ndarray) -> None:
    joined = np.unique(labels[members])
    if len(joined) > 1:
        labels[np.isin(labels, joined)] = joined[0]


def _numbered(keys: Sequence[object]) -> np.ndarray:
    """Numbers equal keys equally, from 0 in their order."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], int)


def group_keys(images: Sequence[dict], group_by: str | None) -> list[object]:
    """Keys of images that belong together, such as frames of a video.

    Args:
        images: entries of "images".
        group_by: field of the entries, or else a regular expression on their file names; the key is
            what its groups match, or all of it without groups. None: each image is alone.

    Raises:
        UserError: neither a field nor a regular expression, or one that an image lacks.
    """
    if group_by is None:
        return list(range(len(images)))
    if any(group_by in image for image in images):
        keys = [image.get(group_by) for image in images]
        lacking = f"have no field {group_by}"
    else:
        try:
            pattern = re.compile(group_by)
        except re.error as error:
            raise UserError(
                f"--group-by is {group_by!r}: no field of an image, and no regular expression "
                f"({error})."
            ) from error
        found = [pattern.search(image["file_name"]) for image in images]
        keys = [match and (match.groups() or match[0]) for match in found]
        lacking = f"have no field {group_by} and file names without a match of it"
    if without := [i["file_name"] for i, key in zip(images, keys, strict=True) if key is None]:
        raise UserError(f"--group-by: {len(without)} images {lacking}, such as {without[0]}.")
    return [str(key) for key in keys]
