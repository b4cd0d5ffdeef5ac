"""Signals that come while a file is written act when it is whole."""

import contextlib
import os
import signal
import threading

import pytest
import torch

from resnest_d2.files import whole_file
from resnest_d2.signals import signals_act, signals_wait


def interrupt(times=1):
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_acts_at_the_end_of_the_outermost_context():
    before, done = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        with signals_wait():
            with signals_wait():
                interrupt(2)
                done.append("inner")
            done.append("outer")
        done.append("behind")
    assert done == ["inner", "outer"] and signal.getsignal(signal.SIGINT) is before
    with signals_wait():
        pass  # it was not kept


def test_a_signal_acts_at_once_where_it_may():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with signals_wait():
            interrupt()
            with signals_act():
                done.append("not reached")
    with pytest.raises(KeyboardInterrupt):
        with signals_wait():
            with signals_act():
                done.append("inside")
                with signals_wait():
                    interrupt()
                    done.append("whole")
                done.append("not reached")
    assert done == ["inside", "whole"]


@pytest.mark.parametrize("waiting", [False, True])
def test_a_signal_may_come_again_while_it_is_handled(waiting):
    handled = []

    def handler(number, frame):
        handled.append(number)
        if len(handled) < 3:
            with signals_wait() if waiting else contextlib.nullcontext():
                signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with signals_wait():
            with signals_act():
                signal.raise_signal(signal.SIGTERM)
                assert handled == [signal.SIGTERM] * 3
        assert handled == [signal.SIGTERM] * 3  # none is left
    finally:
        signal.signal(signal.SIGTERM, before)


class Deleted:
    def __del__(self):
        interrupt()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_python_swallows_is_not_lost():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with signals_wait():
            with signals_act():
                Deleted()  # an error in it is printed and ignored
                done.append("swallowed")
            done.append("whole")
            with signals_act():
                done.append("not reached")
    assert done == ["swallowed", "whole"]


def test_handlers_of_the_program_are_kept():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_wait():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert came == []
            with signals_act():
                assert came == [signal.SIGTERM]
                signal.raise_signal(signal.SIGTERM)
                assert came == [signal.SIGTERM] * 2
        assert came == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ignored)


def test_other_threads_work_without_signals():
    done = []

    def work():
        with signals_wait(), signals_act():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


class Interrupting:
    """A tensor's stand-in that stops the program while it is saved."""

    def __reduce__(self):
        raise KeyboardInterrupt


def test_an_interruption_is_no_failed_write(tmp_path):
    path = tmp_path / "a.pth"
    path.write_text("before")
    for content in (Interrupting(), {"weights": torch.zeros(9), "last": Interrupting()}):
        with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
            torch.save(content, file)
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:  # as torch's archive does when it is closed
            raise RuntimeError("unexpected pos 64 vs 0") from error
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_a_second_signal_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    remove = os.remove

    def interrupted(path):
        interrupt()
        remove(path)

    monkeypatch.setattr(os, "remove", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as file:
        file.write(b"part")
        interrupt()
    assert list(tmp_path.iterdir()) == []
