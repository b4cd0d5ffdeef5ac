"""Tables of metrics: no NaN, classes in columns, other tasks beside."""

import math

import pytest

from resnest_d2.engine.metrics import class_table, result_tables


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def aps(number, value=1.0):
    return {"AP": 2.0, **{f"AP-class {i}": value + i for i in range(number)}}


@pytest.mark.parametrize("undefined", [math.nan, None])
def test_what_is_undefined_is_a_dash(undefined):
    results = {"val": {"bbox": {"AP": 41.987, "APs": undefined, "AP-cat": undefined, "AP-a-b": 1}}}
    assert cells(result_tables(results).splitlines()[2]) == [
        *("val", "box", "41.99", "-", "-", "-", "-", "-")
    ]
    assert [cells(line) for line in class_table(results).splitlines()[2:]] == [
        ["cat", "-"],
        ["a-b", "1.00"],
    ]


def test_a_few_classes_are_rows():
    results = {"val": {"bbox": aps(8), "segm": aps(8, 11.0)}}
    lines = [cells(line) for line in class_table(results).splitlines()]
    assert lines[0] == ["class", "box AP", "mask AP"] and len(lines) == 10
    assert lines[2] == ["class 0", "1.00", "11.00"] and lines[-1] == ["class 7", "8.00", "18.00"]


@pytest.mark.parametrize(("number", "rows", "columns"), [(9, 5, 2), (20, 7, 3), (80, 27, 3)])
def test_many_classes_are_columns(number, rows, columns):
    lines = [cells(line) for line in class_table({"val": {"bbox": aps(number)}}).splitlines()]
    assert lines[0] == ["class", "box AP"] * columns and len(lines) == rows + 2
    names = [line[2 * i] for i in range(columns) for line in lines[2:]]
    assert names == [f"class {i}" for i in range(number)] + [""] * (rows * columns - number)


def test_very_many_classes_are_left_to_the_log():
    assert class_table({"val": {"bbox": aps(101)}}) == ""
    assert class_table({"val": {"bbox": {"AP": 1.0}}}) == ""


def test_names_of_classes_cannot_break_the_table():
    results = {"a\nb": {"bbox": {"AP-two\nlines\x1b[2J": 1.0, f"AP-{'x' * 30}": 2.0}}, "c": {}}
    lines = class_table(results).splitlines()
    assert [len(line) for line in lines] == [len(lines[0])] * 4
    assert cells(lines[0])[0] == r"class of a\nb"
    metrics = {"a\nb\x1b[2J": {"bbox": {"AP": 1.0}, "sem\x1b[2J": {"mIoU": 1.0}}}
    shown = result_tables(metrics)
    assert r"| a\nb\x1b[2J" in shown and r"sem\x1b[2J" in shown and "\x1b" not in shown
    assert cells(lines[2])[0] == r"two\nlines\x1b[2J" and cells(lines[3])[0] == "x" * 17 + "..."


def test_other_tasks_have_tables_of_their_own():
    results = {
        "val": {
            "sem_seg": {"mIoU": 30.0, "IoU-road": 40.0},
            "bbox": {"AP": 1.0},
            "keypoints": {"AP": 3.0},
        }
    }
    first, second = result_tables(results).split("\n\n")
    assert [cells(line)[1] for line in first.splitlines()[2:]] == ["box", "keypoints"]
    heading, _, row = second.splitlines()
    assert cells(heading) == ["dataset", "", "mIoU"] and cells(row) == ["val", "sem_seg", "30.00"]
    assert result_tables({}) == ""
