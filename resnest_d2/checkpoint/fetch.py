"""Download of a file, with retries, resuming and a hash check."""

import hashlib
import os
import time
import urllib.error
from http.client import HTTPException
from pathlib import Path

from resnest_d2.errors import UserError

from . import download
from .download import Download, DownloadError, Limits, RefusedDownload, check_address

_CHUNK = 1 << 20
ANY = Limits()  # those of .download


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
    url: str,
    target: Path,
    *,
    hash_head: str | None = None,
    attempts: int = 4,
    pause: float = 1.0,
    limits: Limits = ANY,
) -> None:
    """Downloads a file.

    After a broken connection, the download is resumed from ``<target>.partial``. If the hash is
    known, a later call resumes it too, because only the hash proves that the parts fit together.
    Otherwise, and of an answer that is refused, no part is kept.

    Args:
        url: http or https URL.
        target: path of the file.
        hash_head: beginning of its SHA-256; None if unknown.
        attempts: number of attempts.
        pause: seconds before the second attempt, doubled for each further one.
        limits: limits of the file, if they are to be lower than those of :mod:`.download`.

    Raises:
        DownloadError: the file cannot be fetched, or is beyond the limits.
        UserError: the file does not have the expected hash; it is deleted.
    """
    check_address(url)
    partial = target.with_name(target.name + ".partial")
    if hash_head is None:
        partial.unlink(missing_ok=True)
    try:
        _fetch(url, partial, limits, attempts=attempts, pause=pause)
    except BaseException as error:
        if hash_head is None or isinstance(error, RefusedDownload):
            partial.unlink(missing_ok=True)
        raise
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


def _fetch(url: str, partial: Path, limits: Limits, *, attempts: int, pause: float) -> None:
    deadline = time.monotonic() + (limits.seconds or download.MAX_SECONDS)
    for attempt in range(attempts):
        try:
            Download(url, partial, limits).run(deadline)
            return
        except (OSError, HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and 300 <= error.code < 500
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                partial.unlink(missing_ok=True)  # longer than the file on the server
                refused = False
            if isinstance(error, RefusedDownload):
                raise RefusedDownload(f"{url} is refused: {error}") from error
            if refused or attempt == attempts - 1 or time.monotonic() > deadline:
                raise DownloadError(f"{url} cannot be fetched ({error})") from error
            time.sleep(pause * 2**attempt)
