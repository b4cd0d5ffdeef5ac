"""How train_net.py starts its processes, and what it makes of their ends."""

import argparse
import contextlib
import os
import pickle
import queue
import signal
import sys

import pytest

from resnest_d2.engine import launch
from resnest_d2.engine.processes import LostProcessError
from resnest_d2.engine.spawning import Machines
from resnest_d2.errors import Defect, MissingFileError, UserError

module = sys.modules["resnest_d2.engine.run"]
spawning = sys.modules["resnest_d2.engine.spawning"]
LOST = LostProcessError("a process is lost")
TORCHRUN = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "a", "MASTER_PORT": 1}


def arguments(**changed):
    """Command line of a training in one process."""
    flags = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    modes = {"resume": False, "overwrite": False, "eval_only": False, "dry_run": False}
    return argparse.Namespace(**{**flags, **modes, **changed})


@pytest.fixture
def started(monkeypatch):
    """What a launch starts: the arguments of run() and of spawn()."""
    calls = []
    monkeypatch.setattr(module, "run", lambda args: calls.append(args))
    monkeypatch.setattr(module, "spawn", lambda action, *args, **kw: calls.append((*args, kw)))
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 0)
    return calls


@pytest.mark.parametrize(
    ("flags", "number", "machines"),
    [
        ({"num_gpus": 2}, 2, Machines(1, 0, "")),
        ({"num_gpus": 2, "dist_url": "tcp://127.0.0.1:5"}, 2, Machines(1, 0, "")),
        ({"num_gpus": 2, "dist_url": "tcp://n1:5"}, 2, Machines(1, 0, "tcp://n1:5")),
        (
            {"num_machines": 2, "machine_rank": 1, "dist_url": "tcp://n1:5"},
            1,
            Machines(2, 1, "tcp://n1:5"),
        ),
    ],
)
def test_processes_of_one_machine_meet_where_no_other_can(flags, number, machines, started):
    launch(arguments(**flags))
    assert started == [(number, {"machines": machines})]


@pytest.mark.parametrize(
    ("flags", "env", "words"),
    [
        ({"num_gpus": 0}, {}, "--num-gpus is 0"),
        ({"num_gpus": 2}, TORCHRUN, "torchrun has started 1 already"),
        ({"num_machines": 2, "dist_url": "tcp://n1:5"}, TORCHRUN, "torchrun has started 1"),
        ({"num_machines": 2}, {}, "--dist-url is auto, which other machines do not find"),
        (
            {"num_machines": 2, "machine_rank": 2},
            {},
            "--machine-rank is 2, but --num-machines is 2",
        ),
    ],
)
def test_contradictory_options_are_refused(flags, env, words, started, monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match=words):
        launch(arguments(**flags))
    assert not started


@pytest.mark.parametrize(
    ("restarts", "flags", "resume", "overwrite"),
    [
        ("0", {"overwrite": True}, False, True),
        ("1", {"overwrite": True}, True, False),
        ("1", {"eval_only": True}, False, False),
    ],
)
def test_a_restart_by_the_agent_resumes(restarts, flags, resume, overwrite, started, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    launch(arguments(**flags))
    assert (started[0].resume, started[0].overwrite) == (resume, overwrite)


def run_child(action, told, monkeypatch, *, url="tcp://n1:5"):
    """Does what a process does, without starting one."""
    monkeypatch.setattr(spawning, "end_with_parent", lambda wait: None)
    monkeypatch.setattr(spawning, "membership", lambda group: contextlib.nullcontext())
    spawning._child(spawning.Group(1, 2, 1, url, "spawn"), action, told)


def errors_of(error, monkeypatch):
    """What a process sends for an error."""

    def fail():
        raise error

    told = queue.SimpleQueue()
    with pytest.raises(SystemExit):
        run_child(fail, told, monkeypatch)
    return pickle.loads(pickle.dumps(told.get()))


@pytest.mark.parametrize(
    ("url", "given", "expected"),
    [
        ("file:///tmp/rendezvous", None, "lo"),
        ("file:///tmp/rendezvous", "eth7", "eth7"),
        ("tcp://n1:5", None, None),
    ],
)
def test_processes_of_one_machine_listen_on_loopback(url, given, expected, monkeypatch):
    names = {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    kept |= dict.fromkeys(names, given) if given else {}
    monkeypatch.setattr(os, "environ", kept)
    monkeypatch.setattr(spawning.socket, "if_nameindex", lambda: [(2, "eth0"), (1, "lo")])
    seen = []
    run_child(
        lambda: seen.append({os.environ.get(name) for name in names}), None, monkeypatch, url=url
    )
    assert seen == [{expected}]


def test_a_mistake_stays_one(monkeypatch):
    sent = errors_of(MissingFileError("a.json is gone"), monkeypatch)
    assert isinstance(sent, UserError) and str(sent) == "a.json is gone"
    assert isinstance(errors_of(LOST, monkeypatch), LostProcessError)


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError])
def test_a_defect_comes_with_its_traceback(kind, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = errors_of(kind("planted"), monkeypatch)
    assert isinstance(sent, Defect)
    assert str(sent).startswith(f"internal error: {kind.__name__} at tests/engine/test_run.py")
    (log,) = tmp_path.iterdir()
    assert "in fail" in log.read_text() and "in fail" in sent.traceback


STOPPED = KeyboardInterrupt()


@pytest.mark.parametrize(
    ("codes", "told", "expected"),
    [
        ((0, 0), [], None),
        ((1, 1), [UserError("first"), LOST], UserError("first")),
        ((130, 1), [STOPPED, UserError("first")], UserError("first")),
        ((-9, 1), [LOST], UserError("Process 0 (pid 10) was killed by SIGKILL: the system may")),
        ((130, -9), [STOPPED], UserError("Process 1 (pid 11) was killed by SIGKILL: the system")),
        ((0, -7), [], UserError("Process 1 (pid 11) was ended by SIGBUS: shared memory")),
        ((0, -11), [], UserError("Process 1 (pid 11) was ended by SIGSEGV; what it printed")),
        ((130, 130), [STOPPED, STOPPED], STOPPED),
        ((130, -15), [LOST], STOPPED),
        ((1, 0), [LOST], LOST),  # on another machine
        ((3, 0), [], UserError("Process 0 (pid 10) ended with exit code 3.")),
    ],
)
def test_the_cause_of_an_end_is_named(codes, told, expected):
    found = spawning._outcome([(10 + i, code) for i, code in enumerate(codes)], told)
    assert type(found) is type(expected)
    assert str(found).startswith(str(expected))


def test_a_stop_counts_once(monkeypatch):
    from resnest_d2.engine.processes import _stop_once

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        _stop_once()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
