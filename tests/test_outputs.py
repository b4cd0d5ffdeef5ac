"""What may be written: no input, nothing that exists unasked, nothing outside of its folder."""

import os

import pytest

from resnest_d2.errors import UserError
from resnest_d2.outputs import (
    OutputExistsError,
    free_folder,
    free_name,
    name_fault,
    path_inside,
    require_empty,
    require_new,
    same_file,
    short_name,
)


def test_what_exists_is_replaced_only_if_asked(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    require_new(paths, overwrite=False)
    paths[1].write_text("mine")
    require_new(paths, overwrite=True)
    with pytest.raises(OutputExistsError, match="b.txt exists"):
        require_new(paths, overwrite=False)
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(OutputExistsError, match="link exists"):
        require_new([tmp_path / "link"], overwrite=False)


def linked(source, target):
    target.symlink_to(source)


@pytest.mark.parametrize(
    "make",
    [
        lambda source: source,
        lambda source: f"{source.parent}/../{source.parent.name}/./{source.name}",
        lambda source: os.path.relpath(source),
        lambda source: (linked(source, source.parent / "soft"), source.parent / "soft")[1],
        lambda source: (os.link(source, source.parent / "hard"), source.parent / "hard")[1],
        lambda source: (linked(source.parent, source.parent / "up"), source.parent / "up/a")[1],
    ],
    ids=["same", "dots", "relative", "symbolic", "hard", "folder"],
)
def test_an_input_is_never_an_output(make, tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UserError, match="an input, which is never changed; give another"):
        require_new(
            [tmp_path / "new", make(tmp_path / "a")], overwrite=True, sources=["b", tmp_path / "a"]
        )


def test_two_outputs_are_two_files(tmp_path):
    with pytest.raises(UserError, match="are the same output"):
        require_new([tmp_path / "a", f"{tmp_path}/./a"], overwrite=True)


def test_a_folder_with_files_is_written_to_only_if_asked(tmp_path):
    require_empty(tmp_path / "new", overwrite=False)
    require_empty(tmp_path, overwrite=False)
    (tmp_path / "a").touch()
    require_empty(tmp_path, overwrite=True)
    with pytest.raises(OutputExistsError, match="has files; give another output"):
        require_empty(tmp_path, overwrite=False)
    with pytest.raises(OutputExistsError, match="a is a file; give a folder"):
        require_empty(tmp_path / "a", overwrite=True)
    assert not same_file(tmp_path / "a", tmp_path / "gone") and same_file(tmp_path, f"{tmp_path}/.")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cells_val", None),
        ("cells v1.2 (ä)", None),
        ("..a", None),
        ("console", None),
        ("", "no name"),
        (".", "no name"),
        ("..", "no name"),
        ("../../x", "contains '/'"),
        ("/etc/x", "contains '/'"),
        ("..\\x", "contains"),
        ("a\0b", "contains"),
        ("a\nb", "contains"),
        ("\x1b[2J", "contains"),
        ("nul", "a device"),
        ("COM1.txt", "a device"),
        ("ä" * 101, "202 bytes"),
    ],
)
def test_a_name_is_of_one_file(name, reason):
    fault = name_fault(name)
    assert fault is None if reason is None else reason in fault


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a.jpg", ["a.jpg"]),
        ("a/b.jpg", ["a", "b.jpg"]),
        ("./a//b.jpg", ["a", "b.jpg"]),
        ("a\\b.jpg", ["a", "b.jpg"]),
        ("12:30/b.jpg", ["12:30", "b.jpg"]),
        ("1:30.jpg", ["1:30.jpg"]),
        ("../../b.jpg", ["b.jpg"]),
        ("a/../../b.jpg", ["b.jpg"]),
        ("..\\..\\b.jpg", ["b.jpg"]),
        ("/etc/b.jpg", ["b.jpg"]),
        ("\\\\host\\b.jpg", ["b.jpg"]),
        ("C:\\x\\b.jpg", ["b.jpg"]),
    ],
)
def test_a_path_stays_inside(path, parts):
    assert path_inside(path) == parts


def test_free_names_are_distinct_where_case_does_not_count():
    taken = set()
    names = [free_name(stem, ".jpg", taken) for stem in ("a", "A", "a", "ö" * 200, "ö" * 200)]
    assert names[:3] == ["a.jpg", "A_2.jpg", "a_3.jpg"]
    assert names[3] == "ö" * 100 + ".jpg" and names[4] == "ö" * 100 + "_2.jpg"
    assert short_name("aö", 2) == "a" and short_name("\udcff") == "?"


def test_a_free_folder_is_empty_or_new(tmp_path):
    folder = str(tmp_path / "predict")
    assert free_folder(folder) == folder
    (tmp_path / "predict").mkdir()
    assert free_folder(folder) == folder
    (tmp_path / "predict" / "a.jpg").touch()
    (tmp_path / "predict_2").touch()
    assert free_folder(folder) == f"{folder}_3"
