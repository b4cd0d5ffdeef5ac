"""Bars on a terminal, lines elsewhere; what an interruption leaves."""

import sys

import pytest

from resnest_d2 import progress
from resnest_d2.progress import close_all, counted, on_terminal


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "on_terminal", lambda: True)


@pytest.fixture(autouse=True)
def as_before():
    yield
    progress.show()


def test_a_pipe_gets_lines_and_no_bar(capsys):
    assert not on_terminal()
    with progress.progress(100, "Image", number=4, apart=0.0) as bar:
        for _ in range(100):
            bar.set_postfix_str("loss 2.5", refresh=False)
            bar.update()
    shown = capsys.readouterr()
    assert shown.out == "" and not set("\r\x1b█|") & set(shown.err)
    lines = shown.err.splitlines()
    assert [line.split(",")[:2] for line in lines] == [
        [f"Image {n}/100", " loss 2.5"] for n in (25, 50, 75, 100)
    ]
    assert all(line.endswith("left") for line in lines)


def test_a_line_is_not_of_what_was_done_before(capsys):
    with progress.progress(20, "Image", initial=10, number=2, apart=0.0) as bar:
        for _ in range(10):
            bar.update()
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["Image 20/20"]


def test_short_work_prints_no_line(capsys):
    assert list(counted([3, 4, 5], "Images")) == [3, 4, 5]
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 100_000, 200))  # seconds
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress(10_000, "Batch", number=1) as bar:
        for _ in range(12):
            bar.update()
    assert len(capsys.readouterr().err.splitlines()) in (3, 4)  # every ten minutes


def test_work_of_unknown_size(capsys):
    assert list(counted(iter("ab"), "Images", total=2)) == ["a", "b"]
    with progress.progress(None, "bytes", apart=0.0) as bar:
        bar.update(5)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_room_for_what_is_typed(terminal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    with progress.progress(4, "Image", mininterval=0) as bar:
        for _ in range(4):
            bar.update()
    shown = capsys.readouterr().err
    assert "\r" in shown and "Image: 100%" in shown and "4/4" in shown and "\x1b" not in shown
    assert shown.endswith("\n")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_can_be_hidden(is_terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    progress.show(bars=False, lines=False)
    with progress.progress(2, "Image", apart=0.0) as bar:
        bar.set_postfix_str("loss 1")
        bar.update(2)
    progress.show()
    assert list(counted([1], "Image", shown=False)) == [1]
    assert capsys.readouterr().err == ""


def test_what_was_interrupted_is_closed(terminal, capsys):
    outer, inner = progress.progress(4, "Outer"), progress.progress(2, "Inner", leave=False)
    close_all()
    close_all()
    assert outer.disable and inner.disable
    last = capsys.readouterr().err.rpartition("\r")[2]
    assert last.endswith("\n") and "Inner" not in last
