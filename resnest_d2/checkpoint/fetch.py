"""Download of one file: retried, resumed, checked, and there as a whole or not at all."""

import hashlib
import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from resnest_d2.errors import UserError

_CHUNK = 1 << 20


class DownloadError(UserError, OSError):
    """An address that could not be fetched."""


def sha256_of(path: str | os.PathLike) -> str:
    """A file's SHA-256 in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_hash(path: str | os.PathLike, head: str) -> None:
    """Compare the beginning of a file's SHA-256.

    Raises:
        ValueError: another; both are named.
    """
    found = sha256_of(path)
    if not found.startswith(head):
        raise UserError(
            f"{path} is corrupt: its SHA-256 begins {found[: len(head)]}, but must begin {head}"
        )


def fetch(
    url: str, target: Path, *, hash_head: str | None = None, attempts: int = 4, pause: float = 1.0
) -> None:
    """Download a file.

    What a broken connection has left in ``<target>.partial`` is gone on with, also by the next
    call where the hash makes sure that the parts belong together.

    Args:
        url: http or https.
        target: where the file goes.
        hash_head: what its SHA-256 begins with; None for unknown.
        attempts: how often to try.
        pause: seconds before the second attempt; doubled each time.

    Raises:
        DownloadError: it cannot be fetched.
        ValueError: it came, but is another file than expected; it is removed.
    """
    partial = target.with_name(target.name + ".partial")
    if hash_head is None:
        partial.unlink(missing_ok=True)
    for attempt in range(attempts):
        try:
            _download(url, partial)
            break
        except (OSError, HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                partial.unlink(missing_ok=True)  # longer than the file there is now
                refused = False
            if refused or attempt == attempts - 1:
                raise DownloadError(f"{url} cannot be fetched ({error})") from error
            time.sleep(pause * 2**attempt)
    if hash_head:
        try:
            check_hash(partial, hash_head)
        except UserError as error:
            partial.unlink()
            raise UserError(
                f"{url}: {error}; the download was removed. Try again, or tell whoever keeps the "
                "server."
            ) from None
    os.replace(partial, target)


def _download(url: str, partial: Path) -> None:
    """Fetch the rest of a file.

    Raises:
        OSError, HTTPException: the connection failed, or ended early.
    """
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "resnest_d2"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=30) as response:
        resumed = response.status == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(
            total=total, initial=have, unit="B", unit_scale=True, desc=partial.stem, disable=None
        )
        with open(partial, "ab" if resumed else "wb") as file, bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                have += len(chunk)
    if total is not None and have < total:
        raise DownloadError(f"the connection ended after {have} of {total} bytes")
