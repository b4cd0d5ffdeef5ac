"""Tables of a dataset: shares with their counts, and the most frequent confusions."""

import math

import numpy as np
import pytest

from resnest_d2.report import html
from resnest_d2.report.analysis import Analysis
from resnest_d2.report.figures import draw_bars, draw_matrix
from resnest_d2.report.sections import Share, class_rows, confusions, shares


def analysis(table):
    """An analysis with a confusion matrix of classes "a", "b" ... and the background."""
    classes = [chr(ord("a") + k) for k in range(len(table) - 1)]
    rest = dict.fromkeys(Analysis._fields)
    return Analysis(**{**rest, "classes": classes, "confusion": np.array(table), "task": "bbox"})


def test_shares_have_their_counts():
    found = analysis([[3, 1, 4], [0, 0, 0], [5, 2, 0]])
    assert shares(found) == {"precision": Share(3, 11), "recall": Share(3, 8)}
    first, second = class_rows(found, {"bbox": {"AP-a": 0.04}}, [6, 0])
    assert (first["precision"], first["recall"]) == (Share(3, 8), Share(3, 8))
    assert (second["precision"], second["recall"]) == (Share(0, 3), Share(0, 0))
    assert (first["images"], first["number"], second["number"]) == (6, 0, 1)
    assert Share(3, 8).percent == 37.5 and math.isnan(Share(0, 0).percent)


def test_the_most_frequent_confusions():
    table = np.diag([9] * 10 + [0])
    table[:, -1], table[-1, :] = 5, 7  # the background is no class
    for n in range(1, 9):
        table[n, n - 1] = n
    table[0, 9] = 20
    rows = confusions(analysis(table))
    assert rows[:3] == [
        ("a", "j", Share(20, 34)),
        ("i", "h", Share(8, 22)),
        ("h", "g", Share(7, 21)),
    ]
    assert len(rows) == 9  # all pairs that were confused
    table[:10, :10] = 1
    assert len(confusions(analysis(table))) == 10
    assert confusions(analysis(table[1:, 1:])) == []  # nine classes: the matrix shows them


@pytest.mark.parametrize(("number", "shape"), [(10, ""), (11, "wide")])
def test_a_matrix_of_many_names_is_wide(number, shape):
    table = np.eye(number, dtype=int)
    assert draw_matrix("", table, ["n"] * number, labels=("", "")).shape == shape


@pytest.mark.parametrize(("number", "shape"), [(10, ""), (30, "tall")])
def test_bars_of_many_names_are_tall(number, shape):
    names = [str(n) for n in range(number)]
    series = {"box": [1.0] * number, "mask": [1.0] * number}
    assert draw_bars("", names, series, xlabel="").shape == shape


def test_texts_are_shown_without_control_characters():
    template = html._environment().from_string("<b>{{ name }}</b>")  # as every page's
    assert template.render(name="<i>\x1b[2J\u202e") == r"<b>&lt;i&gt;\x1b[2J\u202e</b>"
