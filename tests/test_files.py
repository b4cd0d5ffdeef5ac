"""Files of the user: what is read and written, and the sentences where that fails."""

import errno
import fcntl
import os

import pytest

from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import (
    WriteError,
    make_folder,
    read_json,
    read_text,
    read_yaml,
    whole_file,
    whole_files,
    writing,
)


def test_reads_what_is_there(tmp_path):
    (tmp_path / "a").write_text('{"ä": [1, null]}', encoding="utf-8")
    assert read_text(tmp_path / "a") == '{"ä": [1, null]}'
    assert read_json(tmp_path / "a") == read_yaml(tmp_path / "a") == {"ä": [1, None]}


@pytest.mark.parametrize("read", [read_text, read_json, read_yaml])
def test_names_the_file_that_cannot_be_read(read, tmp_path):
    with pytest.raises(MissingFileError, match="There is no file .*gone"):
        read(tmp_path / "gone")
    with pytest.raises(UserError, match=f"{tmp_path} cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="bytes is not text in UTF-8"):
        read(tmp_path / "bytes")


def test_names_the_file_that_is_of_another_format(tmp_path):
    (tmp_path / "a").write_text("{")
    with pytest.raises(UserError, match="a is not JSON: Expecting.*line 1"):
        read_json(tmp_path / "a")
    with pytest.raises(UserError, match="a is not YAML: .*line 1, column 2"):
        read_yaml(tmp_path / "a")


def test_a_folder_is_made_or_named(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(WriteError, match=f"{path} cannot be made"):
            make_folder(path)


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # who may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(WriteError, match="cannot be written to"):
        make_folder(tmp_path)


def test_a_missing_folder_is_the_reason(tmp_path):
    reason = r"b/a cannot be written \(No such file or directory\); give another place\.$"
    with pytest.raises(WriteError, match=reason), whole_file(tmp_path / "b" / "a"):
        pass


def test_only_a_failed_write_is_one(tmp_path):
    with pytest.raises(RuntimeError, match="of torch") as caught:
        with whole_file(tmp_path / "a"):
            raise RuntimeError("of torch")
    assert not isinstance(caught.value, WriteError)
    with pytest.raises(RuntimeError, match="of torch"):  # an error that was handled before
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            with whole_file(tmp_path / "a"):
                raise RuntimeError("of torch")  # noqa: B904
    with pytest.raises(WriteError, match="a cannot be written .*No space left.*MB free"):
        with whole_file(tmp_path / "a"):
            try:
                raise OSError(28, "No space left on device")
            except OSError:
                raise RuntimeError("of torch")  # noqa: B904
    assert list(tmp_path.iterdir()) == []


def test_several_files_take_their_places_together(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    paths[0].write_text("before")
    with pytest.raises(ZeroDivisionError), whole_files(paths, "w") as files:
        for file in files:
            file.write("after")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and paths[0].read_text() == "before"
    with whole_files(paths, "w") as files:
        for file in files:
            file.write("after")
    assert [path.read_text() for path in paths] == ["after"] * 2
    assert len(list(tmp_path.iterdir())) == 2


def test_the_name_of_a_partial_file_fits_and_is_unique(tmp_path):
    path = tmp_path / ("ä" * 125 + ".json")  # 255 bytes
    with whole_file(path, "w") as one, whole_file(path, "w") as other:
        one.write("one" * 9)
        other.write("other")
    assert path.read_text() == "one" * 9 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("path", [os.devnull, "."])
def test_what_is_no_regular_file_is_not_replaced(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WriteError, match="no regular file"):
        with whole_file(path) as file:
            file.write(b"x")
    assert not os.path.isfile(os.devnull)


def test_what_a_killed_process_left_is_removed(tmp_path):
    names = ["a.pth.0123abcd.resnest_d2.partial", "b.89abcdef.resnest_d2.partial", "mine.partial"]
    for name in names:
        (tmp_path / name).write_text("part of a file")
    with open(tmp_path / names[1]) as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # its process is alive
        with whole_file(tmp_path / "a.pth") as file:
            file.write(b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", *names[1:]]
    assert (tmp_path / "a.pth").read_bytes() == b"whole"


def test_a_file_that_is_removed_before_it_is_locked_is_begun_again(tmp_path, monkeypatch):
    lock, removed = fcntl.flock, []

    def remove_first(file, operation):
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()  # as another process does between open and flock
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with whole_file(tmp_path / "a.pth") as file:
        file.write(b"whole")
    assert removed and [p.name for p in tmp_path.iterdir()] == ["a.pth"]
    assert (tmp_path / "a.pth").read_bytes() == b"whole"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(WriteError, match="a cannot be written .*Read-only file system"):
        with writing(tmp_path / "a"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    with pytest.raises(RuntimeError, match="of a tracer"):
        with writing(tmp_path / "a"):
            raise RuntimeError("of a tracer") from OSError("which it handled")


def test_what_the_disk_refuses_at_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as of a shared file system

    (tmp_path / "a").write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="a cannot be written .*No space left.*MB free"):
        with whole_file(tmp_path / "a") as file:
            file.write(b"after")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"
