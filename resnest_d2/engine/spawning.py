"""Starts the processes of --num-gpus on this machine, and ends with them."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import NamedTuple

from resnest_d2.errors import UserError, report_defect

from .cluster import Group
from .processes import SAVING_S, LostProcessError, end_with_parent, membership

_PATIENCE_S = 5.0  # for the other processes to notice an error by themselves
_ADVICE = {  # signal that ended a process -> its usual reason
    "SIGKILL": ": the system may be out of memory. Lower SOLVER.IMS_PER_BATCH, "
    "DATALOADER.NUM_WORKERS or --num-gpus.",
    "SIGBUS": ": shared memory (/dev/shm) may be full. Lower DATALOADER.NUM_WORKERS, or set it "
    "to 0.",
}


class Machines(NamedTuple):
    """Machines that train together.

    Attributes:
        number: of machines.
        rank: of this one.
        url: where their processes meet; for a single machine may be "", which no other can reach.
    """

    number: int = 1
    rank: int = 0
    url: str = ""


def spawn(action: Callable[[], object], processes: int, *, machines: Machines) -> None:
    """Calls a function in several processes, which join one group.

    Args:
        action: what to call; it can be pickled.
        processes: their number on this machine.
        machines: that train together.

    Raises:
        UserError: the first user error in one of them, or one was killed.
        Defect: any other error in one of them, whose traceback is in its log.
        KeyboardInterrupt: stopped by a signal.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    context = multiprocessing.get_context("spawn")
    errors = context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="resnest-d2-", ignore_cleanup_errors=True) as folder:
        url = machines.url or f"file://{folder}/rendezvous"
        size, first = processes * machines.number, processes * machines.rank
        children = [
            context.Process(
                target=_child, args=(Group(first + i, size, i, url, "spawn"), action, errors)
            )
            for i in range(processes)
        ]
        told: list[BaseException] = []
        try:
            for child in children:
                child.start()
            _wait(children, errors, told)
        except KeyboardInterrupt:
            _terminate(children)
            _wait(children, errors, told, stopped=True)
            raise
        finally:
            for child in children:
                if child.is_alive():
                    child.kill()
    error = _outcome([(c.pid or 0, c.exitcode or 0) for c in children], told)
    if error is not None:
        raise error


def _child(group: Group, action: Callable[[], object], errors: SimpleQueue) -> None:
    """Calls the function and sends its error to the parent, which would only see the exit code."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_with_parent(parent.join)
    if group.url.startswith("file://"):
        _stay_on_loopback()
    try:
        with membership(group):
            action()
    except KeyboardInterrupt:
        errors.put(KeyboardInterrupt())
        sys.exit(130)
    except LostProcessError as error:
        errors.put(error)
        sys.exit(1)
    except UserError as error:
        errors.put(UserError(str(error)))  # others need more than a text to be unpickled
        sys.exit(1)
    except Exception as error:
        errors.put(report_defect(error))
        sys.exit(1)


def _stay_on_loopback() -> None:
    """Lets the libraries of a group on one machine listen on no network, unless the user says."""
    names = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    for library in ("GLOO", "NCCL") if names else ():
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", names[0])


def _wait(
    children: list[SpawnProcess],
    errors: SimpleQueue,
    told: list[BaseException],
    *,
    stopped: bool = False,
) -> None:
    """Waits for all processes; after the first failure the others are stopped, at last killed.

    Args:
        children: the processes.
        errors: that they send.
        told: the same errors, in their order; filled here, as a full pipe would hold them up.
        stopped: whether they have been asked to stop.
    """
    failed_at = time.monotonic() if stopped else None
    while alive := [child for child in children if child.is_alive()]:
        connection.wait([child.sentinel for child in alive], timeout=0.5)
        while not errors.empty():
            told.append(errors.get())
        if failed_at is None and any(child.exitcode for child in children):
            failed_at = time.monotonic()
        waited = 0.0 if failed_at is None else time.monotonic() - failed_at
        if waited > _PATIENCE_S and not stopped:
            stopped = True
            _terminate(children)
        if waited > _PATIENCE_S + SAVING_S:
            for child in children:
                child.kill()
    while not errors.empty():
        told.append(errors.get())


def _terminate(children: list[SpawnProcess]) -> None:
    for child in children:
        if child.pid is not None:
            child.terminate()


def _outcome(ends: list[tuple[int, int]], told: list[BaseException]) -> BaseException | None:
    """The error that ends a run of several processes, if there is one.

    Args:
        ends: pid and exit code of each process; below zero: the signal that ended it.
        told: errors that they sent, in their order.
    """
    for error in told:
        if not isinstance(error, LostProcessError | KeyboardInterrupt):
            return error  # the cause of any other end
    stopped = any(isinstance(error, KeyboardInterrupt) for error in told)
    for number, (pid, code) in enumerate(ends):
        if code < 0 and code != -signal.SIGTERM:
            name = _signal_name(-code)
            verb = "killed" if name == "SIGKILL" else "ended"
            advice = _ADVICE.get(name, "; what it printed last may tell the reason.")
            return UserError(f"Process {number} (pid {pid}) was {verb} by {name}{advice}")
    if stopped or any(code == -signal.SIGTERM for _, code in ends):
        return KeyboardInterrupt()
    if told:
        return told[0]
    for number, (pid, code) in enumerate(ends):
        if code:
            return UserError(f"Process {number} (pid {pid}) ended with exit code {code}.")
    return None


def _signal_name(number: int) -> str:
    known = {int(entry): entry.name for entry in signal.Signals}
    return known.get(number, f"signal {number}")
