"""A process as a member of a group that trains together, in the way of detectron2's launch().

The first error in a process is the error of all; a process that ends without a word is named; none
outlives its parent.
"""

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import DEFAULT_TIMEOUT
from detectron2.utils import comm

from resnest_d2.compat.pytorch import is_lost_process
from resnest_d2.errors import UserError, report_defect

from .cluster import Group, find_group

SAVING_S = 120.0  # for a stopped process to save its checkpoint


class LostProcessError(UserError):
    """Another process of the group ended without an error of its own."""


@contextlib.contextmanager
def joined_group() -> Iterator[Group | None]:
    """Joins the group that a launcher has set up for this process, if there is one.

    Of an error in several processes, only the first is raised; the others end with exit code 1.
    Within another such context it does nothing.

    Raises:
        UserError: see :func:`find_group`; or a GPU is missing, or machines with different numbers
            of processes.
        LostProcessError: another process was killed.
    """
    if dist.is_available() and dist.is_initialized():
        yield None
        return
    group = find_group(os.environ)
    if group is not None and "TORCHELASTIC_RUN_ID" in os.environ:
        _end_with_agent()
    if group is None or group.size == 1:
        yield group
        return
    with membership(group):
        if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
            share = (os.cpu_count() or 1) // comm.get_local_size()
            torch.set_num_threads(max(1, min(torch.get_num_threads(), share)))
        yield group


@contextlib.contextmanager
def membership(group: Group) -> Iterator[None]:
    """This process as a member of a group, whose first error is the error of all."""
    _stop_once()
    if torch.cuda.is_available():
        if group.local_rank >= torch.cuda.device_count():
            raise UserError(
                f"LOCAL_RANK is {group.local_rank}, but this process sees "
                f"{torch.cuda.device_count()} GPUs: start at most one process for each GPU, and "
                "let all processes of a machine see all of its GPUs."
            )
        torch.cuda.set_device(group.local_rank)
    store = _meet(group)
    ending = "failed"
    try:
        _form_local_groups(group)
        yield
        ending = "done"
    except KeyboardInterrupt:
        ending = "stopped"
        raise
    except Exception as error:
        told = _told(error, store, group)
        if told is error:
            raise
        if told is None:
            sys.exit(1)
        raise told from error
    finally:
        with contextlib.suppress(dist.DistError):  # the process that keeps the store has ended
            store.set(f"ended/{group.rank}", ending)


def _meet(group: Group) -> dist.Store:
    """Initializes the process group; returns its store, for the keys of this package.

    Raises:
        UserError: the processes do not find each other.
    """
    gpu = torch.cuda.is_available()
    try:
        if group.url.startswith("file://"):
            store: dist.Store = dist.FileStore(group.url.removeprefix("file://"), group.size)
        else:
            met = dist.rendezvous(group.url, group.rank, group.size, timeout=DEFAULT_TIMEOUT)
            store = next(met)[0]
        store.set_timeout(DEFAULT_TIMEOUT)
        # An agent may keep the store over a restart, with the addresses of processes that are gone.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            store=dist.PrefixStore(f"default_pg/{attempt}", store),
            rank=group.rank,
            world_size=group.size,
            timeout=DEFAULT_TIMEOUT,
        )
        store = dist.PrefixStore(f"resnest_d2/{attempt}", store)
        place = f"pid {os.getpid()} on {socket.gethostname()}"
        store.set(f"place/{group.rank}", place)
    except dist.DistError as error:
        where = os.environ.get("MASTER_ADDR", "") if group.url == "env://" else group.url
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"Process {group.rank} of {group.size} does not find the others at {where} ({reason}); "
            "check that all of them were started and that the address is that of the first."
        ) from error
    return store


def _form_local_groups(group: Group) -> None:
    """Forms detectron2's groups of the processes on each machine.

    Raises:
        UserError: machines with different numbers of processes, or ranks not in their order.
    """
    places = comm.all_gather(group.local_rank)
    on_each = max(places) + 1
    if places != [rank % on_each for rank in range(group.size)] or group.size % on_each:
        raise UserError(
            f"The processes have LOCAL_RANK {places}, in the order of their ranks: start the same "
            "number of processes on each machine, and number them machine by machine (SLURM: "
            "--ntasks-per-node, --distribution=block)."
        )
    comm.create_local_process_group(on_each)
    comm.synchronize()


def _told(error: Exception, store: dist.Store, group: Group) -> Exception | None:
    """What a process raises for an error; None where another one has raised its own."""
    lost = is_lost_process(error)
    told = error if lost or isinstance(error, UserError) else report_defect(error)
    try:
        store.set(f"ended/{group.rank}", "failed")
        ends = _silent_ends(store, group) if lost else ""
        first = store.add("told", 1) == 1
    except dist.DistError:  # the process that keeps the store has ended
        ends, first = "process 0 ended without an error of its own", True
    if lost:
        told = LostProcessError(
            f"This training has lost a process: {ends}. The system may have killed it for want of "
            "memory; its launcher's output tells more."
        )
    return told if first else None


def _silent_ends(store: dist.Store, group: Group) -> str:
    """Names the processes that have ended without an error of their own."""
    others = [rank for rank in range(group.size) if rank != group.rank]
    with contextlib.suppress(KeyboardInterrupt):  # from a launcher that has seen the end
        for _ in range(20):
            running = [rank for rank in others if not store.check([f"ended/{rank}"])]
            if not running:
                break
            time.sleep(0.1)
    ends = [f"process {r} ({store.get(f'place/{r}').decode()}) was killed" for r in running]
    return ", ".join(ends) or "another one was stopped"


def _stop_once() -> None:
    """Makes a KeyboardInterrupt of the first signal to stop, and ignores further ones.

    A terminal, a cluster and the launcher may each send one, which would interrupt the saving.
    """

    def stop(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def end_with_parent(wait: Callable[[], object]) -> None:
    """Stops this process as by SIGTERM when its parent has ended, and kills it if it hangs then.

    Args:
        wait: returns when the parent has ended.
    """

    def watch() -> None:
        wait()
        signal.raise_signal(signal.SIGTERM)
        time.sleep(SAVING_S)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    threading.Thread(target=watch, daemon=True).start()


@functools.cache
def _end_with_agent() -> None:
    """Ends this process with torchrun's agent; once, as groups may be nested."""
    agent = os.getppid()

    def wait() -> None:
        while os.getppid() == agent:
            time.sleep(1)

    end_with_parent(wait)
