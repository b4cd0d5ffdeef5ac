"""One attempt at a download, with limits for any server.

A server may be anybody's. What it sends is limited in size and time, is never a web page, and
comes over the protocol that was asked for: https is not left for http, and neither for another.
"""

import time
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from threading import Thread
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from resnest_d2.errors import UserError, printable
from resnest_d2.progress import progress

MAX_BYTES = 8 << 30  # ten times the largest published file
MAX_SECONDS = 12 * 3600.0  # a whole download, all attempts together
# A server that sends fewer bytes in so many seconds is given up.
SLOW_BYTES, SLOW_SECONDS = 32 << 10, 60.0
_TIMEOUT = 30  # seconds without any answer
_CHUNK = 1 << 20
_SCHEMES = ("https", "http")
_PAGES = ("text/html", "application/xhtml+xml")
_ANYTHING = ("", "application/octet-stream", "binary/octet-stream")  # types that say nothing


class Limits(NamedTuple):
    """What a download may be, less than the limits of this module.

    Attributes:
        bytes: largest size of the file; None for :data:`MAX_BYTES`.
        seconds: longest time of all attempts together; None for :data:`MAX_SECONDS`.
        kind: kind of media, such as "image", that the answer must have if it states one.
        bar: show a progress bar on a terminal.
    """

    bytes: int | None = None
    seconds: float | None = None
    kind: str = ""
    bar: bool = True


class DownloadError(UserError, OSError):
    """An address that could not be fetched."""


class RefusedDownload(DownloadError):
    """An address whose answer is refused; another attempt would get the same."""


def check_address(url: str) -> None:
    """Checks that a URL is one of http or https that can be asked.

    Raises:
        RefusedDownload: it is not.
    """
    refused = RefusedDownload(f"{url!r} is no http or https address")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError as error:  # a port that is no number, brackets of no IPv6 address
        raise refused from error
    if not valid or url != printable(url) or " " in url:
        raise refused


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone, and from https to https alone."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See the class."""
        scheme = urlsplit(newurl).scheme
        if scheme not in _SCHEMES or (scheme == "http" and req.type == "https"):
            raise RefusedDownload(f"it is redirected from {req.type} to {printable(newurl)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class Download:
    """One attempt at the rest of a file, in a thread that is left behind if it takes too long.

    A server can stall in the name lookup, the handshake, the headers or the contents. From outside
    all of these look alike: too few bytes arrive.
    """

    def __init__(self, url: str, partial: Path, limits: Limits):
        self._url = url
        self._partial = partial
        self._limits = limits
        self._max_bytes = limits.bytes or MAX_BYTES
        self._have = partial.stat().st_size if partial.exists() else 0
        self._stopped = False
        self._error: BaseException | None = None

    def run(self, deadline: float) -> None:
        """Downloads.

        Args:
            deadline: of the whole download, in seconds of :func:`time.monotonic`.

        Raises:
            OSError, HTTPException: the connection failed, ended early or is too slow.
            RefusedDownload: the answer is none that is kept.
        """
        thread = Thread(target=self._catch, daemon=True)
        thread.start()
        have, since = self._have, time.monotonic()
        try:
            while thread.is_alive():
                thread.join(min(1.0, SLOW_SECONDS / 4))
                now = time.monotonic()
                if thread.is_alive() and now > deadline:
                    raise RefusedDownload(f"it takes more than {_duration(self._limits)}")
                if now - since >= SLOW_SECONDS:
                    if thread.is_alive() and (got := self._have - have) < SLOW_BYTES:
                        raise DownloadError(f"{got} bytes came in {now - since:.0f} seconds")
                    have, since = self._have, now
        finally:
            self._stopped = True
        if self._error:
            raise self._error

    def _catch(self) -> None:
        try:
            self._receive()
        except BaseException as error:  # raised again by run
            self._error = error

    def _receive(self) -> None:
        request = urllib.request.Request(self._url, headers={"User-Agent": "resnest_d2"})
        if self._have:
            request.add_header("Range", f"bytes={self._have}-")
        opener = urllib.request.build_opener(Redirects)
        with opener.open(request, timeout=_TIMEOUT) as response:
            total = self._check(response)
            bar = progress(
                total,
                printable(self._partial.stem),
                shown=self._limits.bar,
                initial=self._have,
                unit="B",
                unit_scale=True,
            )
            with open(self._partial, "ab" if self._have else "wb") as file, bar:
                # read1: read would wait for a whole chunk of a server that sends byte by byte
                while (chunk := response.read1(_CHUNK)) and not self._stopped:
                    self._have += len(chunk)
                    if self._have > self._max_bytes:
                        raise RefusedDownload(_too_large("sends", self._max_bytes))
                    file.write(chunk)
                    file.flush()  # nothing is written later, by a thread that was left behind
                    bar.update(len(chunk))
        if total is not None and self._have < total:
            raise DownloadError(f"the connection ended after {self._have} of {total} bytes")

    def _check(self, response: Any) -> int | None:
        """Checks the headers of an answer, and whether it continues the part that is there.

        Returns:
            Size of the whole file in bytes, if the server gives it.
        """
        kind = response.headers.get_content_type() if response.headers["Content-Type"] else ""
        if kind in _PAGES:
            raise RefusedDownload("the answer is a web page, perhaps to log in, and not a file")
        wanted = self._limits.kind
        if wanted and kind not in _ANYTHING and not kind.startswith(f"{wanted}/"):
            raise RefusedDownload(f"the answer is of type {printable(kind)}, and no {wanted}")
        if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise RefusedDownload(f"the answer is compressed ({printable(coding)})")
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {self._have}-")
        if not (self._have and response.status == 206 and begins):
            if response.status == 206:
                self._partial.unlink(missing_ok=True)
                raise DownloadError("the server sent another part than that asked for")
            self._have = 0
        length = response.headers.get("Content-Length", "")
        total = self._have + int(length) if length.isdecimal() else None
        if total is not None and total > self._max_bytes:
            raise RefusedDownload(_too_large("has", self._max_bytes))
        return total


def _too_large(verb: str, limit: int) -> str:
    size = f"{limit / 2**30:g} GiB" if limit >= 2**30 else f"{limit / 2**20:g} MiB"
    return f"the server {verb} more than {size}"


def _duration(limits: Limits) -> str:
    return f"{limits.seconds:g} seconds" if limits.seconds else f"{MAX_SECONDS / 3600:g} hours"
