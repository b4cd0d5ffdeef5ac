import hashlib

import pytest

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
