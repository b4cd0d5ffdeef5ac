"""Checks of images. check-data decodes them, because truncated ones open without error."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from PIL import Image

from resnest_d2.compat.vision import is_truncated_image
from resnest_d2.data.image_files import has_frames, open_image, reason_of
from resnest_d2.errors import UserError
from resnest_d2.progress import counted

from .entries import AnnotationFile, sound_entries
from .findings import Finding, listed
from .rules import missing_file

_ORIENTATION = 274  # EXIF's tag
_QUARTERS = (5, 6, 7, 8)  # its values for quarter turns


class ImageFacts(NamedTuple):
    """Properties of an image file.

    ``size`` is (width, height) after EXIF rotation, as in detectron2; ``digest`` is a hash of the
    pixels; ``frames`` is whether more frames follow the first. ``fault`` is the kind of finding and
    its reason if the image cannot be read.
    """

    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    digest: bytes = b""
    fault: tuple[str, str] | None = None
    frames: bool = False


def image_size(path: str) -> tuple[int, int]:
    """(width, height) as detectron2 reads an image, from its header alone.

    Raises:
        UserError: no image that can be read.
    """
    with open_image(path) as image:
        return image.size[::-1] if _orientation(image) in _QUARTERS else image.size


def _orientation(image: Image.Image, *, decode: bool = False) -> int:
    """EXIF's orientation; without decoding, that of a PNG is found before its pixels only.

    Pillow decodes a PNG to look for EXIF behind its pixels.
    """
    known = decode or image.format != "PNG" or "exif" in image.info
    return image.getexif().get(_ORIENTATION, 1) if known else 1


def _deep(image: Image.Image) -> str | None:
    """Checks that an image has no more than 8 bits per channel: Pillow cuts values off at 255."""
    if not image.mode.startswith(("I", "F")):
        return None
    return (
        f"it has more than 8 bits per channel (mode {image.mode}), which would be cut off at 255; "
        "scale its values to 0 .. 255 and save it with 8 bits"
    )


def require_8_bits(path: str) -> None:
    """Refuses an image with more than 8 bits per channel, by its header.

    Raises:
        UserError: more than 8 bits, or no image.
    """
    with open_image(path) as image:
        if fault := _deep(image):
            raise UserError(fault)


def inspect_image(path: str, *, decode: bool = True) -> ImageFacts:
    """Decodes an image, or reads its header alone. If that fails, the result has a ``fault``."""
    digest = b""
    try:
        with open_image(path) as image:
            if fault := _deep(image):
                return ImageFacts(fault=("pixels", fault))
            orientation, frames = _orientation(image, decode=decode), has_frames(image)
            if decode:
                pixels = hashlib.blake2b(image.tobytes(), digest_size=16)
                pixels.update(f"{image.size} {image.mode}".encode())
                digest = pixels.digest()
            width, height = image.size
    except UserError as error:
        cause = error.__cause__
        truncated = cause is not None and is_truncated_image(cause)
        kind = "truncated image" if truncated else "unreadable image"
        return ImageFacts(fault=(kind, reason_of(error, path)))
    size = (height, width) if orientation in _QUARTERS else (width, height)
    return ImageFacts(size, orientation, digest, frames=frames)


def inspect_images(
    paths: Sequence[str], *, decode: bool = True, progress: bool = True
) -> dict[str, ImageFacts]:
    """Decodes images, or reads their headers, with all threads.

    Args:
        paths: paths of the files; duplicates are read once.
        decode: decode the pixels.
        progress: show a progress bar.
    """
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow releases the GIL when decoding
        facts = threads.map(partial(inspect_image, decode=decode), unique)
        found = counted(facts, "Images", total=len(unique), shown=progress)
        return dict(zip(unique, found, strict=True))


def check_headers(file: AnnotationFile) -> list[Finding]:
    """Checks the images of a file by their headers: readable, of the annotated size, 8 bits."""
    present = _present(file)
    facts = inspect_images([path for *_, path in present], decode=False, progress=False)
    for _, image, path in present:
        fact = facts[path]
        if not fact.fault and fact.size != (image["width"], image["height"]):
            facts[path] = inspect_image(path)  # a PNG may have been rotated
    return list(_check_file(file, present, facts))


def check_images(files: list[AnnotationFile], *, progress: bool = True) -> list[Finding]:
    """Checks the images of one dataset. Missing files are found by :func:`check_entries`.

    Args:
        files: annotation files, the training set first.
        progress: show a progress bar.
    """
    present = [_present(file) for file in files]
    facts = inspect_images([path for images in present for *_, path in images], progress=progress)
    findings: list[Finding] = []
    for file, images in zip(files, present, strict=True):
        findings += _check_file(file, images, facts)
    return findings + list(_check_copies(files, present, facts))


def _present(file: AnnotationFile) -> list[tuple[int, dict, str]]:
    """Position, entry and path of each image whose file is there."""
    return [
        (i, image, os.path.realpath(os.path.join(file.image_root, image["file_name"])))
        for i, image in sound_entries(file, "images")
        if not missing_file(image, file.image_root)
    ]


def _check_file(file: AnnotationFile, images: list, facts: dict) -> Iterator[Finding]:
    turned = []
    for i, image, path in images:
        name, where = f"image id {image['id']}", ("images", i)
        fact, said = facts[path], (image["width"], image["height"])
        if fact.frames:
            reason = f"{image['file_name']} has several frames or pages; the first is read"
            yield Finding("several frames", file.json_file, name, reason, where)
        if fact.fault:
            kind, reason = fact.fault
            yield Finding(kind, file.json_file, name, f"{image['file_name']}: {reason}", where)
        elif fact.size == said:
            if fact.orientation in (2, 3, 4):  # these do not change the size
                turned.append(image["id"])
        else:
            quarter = fact.orientation in _QUARTERS and fact.size == said[::-1]
            reason = f"{image['file_name']} has {'{} x {}'.format(*fact.size)} pixels"
            if quarter:
                reason += f" after rotation by its EXIF orientation {fact.orientation}"
            reason += f", not {'{} x {}'.format(*said)}"
            kind = "EXIF orientation" if quarter else "image size"
            yield Finding(kind, file.json_file, name, reason, where)
    if turned:
        reason = (
            f"{len(turned)} rotated or mirrored by EXIF: were the boxes drawn on the rotated image?"
        )
        yield Finding("turned image", file.json_file, f"image id {listed(turned)}", reason)


def _check_copies(files: list[AnnotationFile], present: list, facts: dict) -> Iterator[Finding]:
    """Finds images with the same pixels; the one in the later set is to be kept."""
    seen: dict[bytes, tuple[AnnotationFile, dict, str]] = {}
    for file, images in reversed(list(zip(files, present, strict=True))):
        for i, image, path in images:
            digest = facts[path].digest
            other, twin, twin_path = seen.setdefault(digest, (file, image, path))
            if not digest or twin is image:
                continue
            name, reason = (
                f"image id {image['id']}",
                f"{image['file_name']} has the same pixels as ",
            )
            if other is not file:
                reason += f"{twin['file_name']}, image id {twin['id']} in {other.json_file}"
                yield Finding("in two sets", file.json_file, name, reason, ("images", i))
            elif twin_path != path:  # otherwise it is a finding of "listed twice"
                reason += f"{twin['file_name']}, image id {twin['id']}"
                yield Finding("same image", file.json_file, name, reason)
