"""Download of a file, with retries, resuming and a hash check."""

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
    """SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_hash(path: str | os.PathLike, head: str) -> None:
    """Checks the beginning of a file's SHA-256.

    Raises:
        UserError: the hash differs.
    """
    found = sha256_of(path)
    if not found.startswith(head):
        raise UserError(
            f"{path} is corrupt: its SHA-256 begins {found[: len(head)]}, but must begin {head}"
        )


def fetch(
    url: str, target: Path, *, hash_head: str | None = None, attempts: int = 4, pause: float = 1.0
) -> None:
    """Downloads a file.

    After a broken connection, the download is resumed from ``<target>.partial``. A later call
    resumes it too if the hash is known, because only the hash proves that the parts fit together.

    Args:
        url: http or https URL.
        target: path of the file.
        hash_head: beginning of its SHA-256; None if unknown.
        attempts: number of attempts.
        pause: seconds before the second attempt, doubled for each further one.

    Raises:
        DownloadError: the file cannot be fetched.
        UserError: the file does not have the expected hash; it is deleted.
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
                partial.unlink(missing_ok=True)  # longer than the file on the server
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
                f"{url}: {error}; the download was removed. Try again, or report it to the "
                "server's owner."
            ) from None
    os.replace(partial, target)


def _download(url: str, partial: Path) -> None:
    """Downloads the rest of a file.

    Raises:
        OSError, HTTPException: the connection failed or ended early.
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
