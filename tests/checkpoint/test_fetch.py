import hashlib
import time
import urllib.request

import pytest

from resnest_d2.checkpoint import download
from resnest_d2.checkpoint.fetch import DownloadError, fetch

CONTENT = bytes(range(256)) * 20
HEAD = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.pth"


def left(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_whole(server, target):
    server.files["a.pth"] = CONTENT
    fetch(server.address("a.pth"), target, hash_head=HEAD)
    assert target.read_bytes() == CONTENT and left(target) == ["a.pth"]
    assert server.asked == [("a.pth", None)]


@pytest.mark.parametrize("head", [HEAD, None])
def test_broken_off_and_gone_on_with(server, target, head):
    server.files["a.pth"], server.cut["a.pth"] = CONTENT, 1000
    fetch(server.address("a.pth"), target, hash_head=head, pause=0)
    assert target.read_bytes() == CONTENT
    assert server.asked == [("a.pth", None), ("a.pth", "bytes=1000-")]


def test_gone_on_with_by_the_next_call(server, target):
    server.files["a.pth"], server.cut["a.pth"] = CONTENT, 1000
    with pytest.raises(DownloadError, match="ended after 1000 of 5120 bytes"):
        fetch(server.address("a.pth"), target, hash_head=HEAD, attempts=1)
    assert left(target) == ["a.pth.partial"]
    fetch(server.address("a.pth"), target, hash_head=HEAD)
    assert target.read_bytes() == CONTENT and server.asked[-1] == ("a.pth", "bytes=1000-")


def test_without_a_hash_the_next_call_begins_anew(server, target):
    target.with_name("a.pth.partial").write_bytes(b"of another file")
    server.files["a.pth"] = CONTENT
    fetch(server.address("a.pth"), target)
    assert target.read_bytes() == CONTENT and server.asked == [("a.pth", None)]


def test_a_part_longer_than_the_file(server, target):
    target.with_name("a.pth.partial").write_bytes(CONTENT + b"more")
    server.files["a.pth"] = CONTENT
    fetch(server.address("a.pth"), target, hash_head=HEAD, pause=0)
    assert target.read_bytes() == CONTENT


def test_another_file_is_refused_and_removed(server, target):
    server.files["a.pth"] = CONTENT + b"x"
    with pytest.raises(ValueError, match=f"is corrupt.*must begin {HEAD}; the download was remov"):
        fetch(server.address("a.pth"), target, hash_head=HEAD)
    assert left(target) == []


def test_busy_servers_are_asked_again(server, target):
    server.files["a.pth"], server.fail["a.pth"] = CONTENT, 2
    fetch(server.address("a.pth"), target, pause=0)
    assert target.read_bytes() == CONTENT and len(server.asked) == 3


def test_what_is_not_there_is_asked_once(server, target):
    with pytest.raises(DownloadError, match="/b.pth cannot be fetched .*404"):
        fetch(server.address("b.pth"), target, pause=0)
    assert len(server.asked) == 1 and left(target) == []


def test_no_server(target):
    with pytest.raises(DownloadError, match="127.0.0.1:9/a.pth cannot be fetched"):
        fetch("http://127.0.0.1:9/a.pth", target, attempts=2, pause=0)


# What a server answers, the limits, and words of the error; nothing of it is kept.
REFUSED = {
    "a login page": ({"Content-Type": "text/html; charset=utf-8"}, {}, "refused.*is a web page"),
    "XHTML": ({"Content-Type": "application/xhtml+xml"}, {}, "refused.*is a web page"),
    "gzip": ({"Content-Encoding": "gzip"}, {}, r"refused: the answer is compressed \(gzip\)"),
    "too large": ({}, {"MAX_BYTES": 5000}, "refused: the server has more than"),
    "too large, and no word of it": (
        {"Content-Length": "unknown"},
        {"MAX_BYTES": 5000},
        "refused: the server sends more than",
    ),
    "too large a promise": ({"Content-Length": "9" * 30}, {}, "refused: the server has more than"),
    "too small a part": ({"Content-Length": "6000"}, {}, "ended after 5120 of 6000 bytes"),
    "a negative length": ({"Content-Length": "-1"}, {"MAX_BYTES": 5000}, "sends more than"),
}


@pytest.mark.parametrize("answer", REFUSED)
@pytest.mark.parametrize("head", [HEAD, None])
def test_refused_answers(answer, head, server, target, monkeypatch):
    server.files["a.pth"] = CONTENT
    server.headers["a.pth"], limits, words = REFUSED[answer]
    for name, value in limits.items():
        monkeypatch.setattr(download, name, value)
    with pytest.raises(DownloadError, match=words):
        fetch(server.address("a.pth"), target, hash_head=head, attempts=1, pause=0)
    refused = "refused" in words or "sends" in words
    assert left(target) == ([] if refused or not head else ["a.pth.partial"])


def test_a_trickle_ends(server, target, monkeypatch):
    server.files["a.pth"], server.trickle["a.pth"] = CONTENT, 0.05
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.4)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"cannot be fetched \(\d+ bytes came in 0 seconds"):
        fetch(server.address("a.pth"), target, attempts=1)
    assert time.monotonic() - began < 5 and left(target) == []


def test_a_download_that_takes_too_long_ends(server, target, monkeypatch):
    server.files["a.pth"], server.trickle["a.pth"] = CONTENT, 0.05
    monkeypatch.setattr(download, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.4)
    with pytest.raises(DownloadError, match="refused: it takes more than 0 hours"):
        fetch(server.address("a.pth"), target, attempts=4, pause=0)
    assert len(server.asked) == 1 and left(target) == []


def test_redirects_are_followed_within_the_web(server, target):
    server.files["b.pth"], server.moved["a.pth"] = CONTENT, server.address("b.pth")
    fetch(server.address("a.pth"), target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,x"])
def test_redirects_to_other_protocols_are_refused(to, server, target):
    server.moved["a.pth"] = to
    with pytest.raises(DownloadError, match="(?i)redirect.* to .*(file|ftp|data):"):
        fetch(server.address("a.pth"), target, pause=0)
    assert len(server.asked) == 1 and left(target) == []


def test_https_is_not_left_for_http():
    request = urllib.request.Request("https://example.org/a.pth")
    redirects = download.Redirects()
    with pytest.raises(DownloadError, match="redirected from https to http://example.org/b.pth"):
        redirects.redirect_request(request, None, 302, "", {}, "http://example.org/b.pth")
    new = redirects.redirect_request(request, None, 302, "", {}, "https://example.org/b.pth")
    assert new.full_url == "https://example.org/b.pth"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a/b",
        "http://",
        "http://[::",
        "http://a:port/",
        "http://a/\n",
        "",
    ],
)
def test_what_is_no_address_of_the_web_is_not_asked(url, target):
    with pytest.raises(DownloadError, match="is no http or https address"):
        fetch(url, target, pause=0)


def test_another_part_than_that_asked_for_is_not_joined(server, target):
    server.files["a.pth"] = CONTENT
    target.with_name("a.pth.partial").write_bytes(CONTENT[:1000])
    server.headers["a.pth"] = {"Content-Range": "bytes 0-5119/5120"}
    fetch(server.address("a.pth"), target, hash_head=HEAD, pause=0)
    assert target.read_bytes() == CONTENT and len(server.asked) == 2
