"""The group of processes that a launcher has set up, read from its environment variables.

torchrun and Kubernetes' operators give each process RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT (https://pytorch.org/docs/stable/elastic/run.html). SLURM's srun gives it SLURM_PROCID
and variables of its step (https://slurm.schedmd.com/srun.html). A batch script without srun has
SLURM_PROCID, too, but no step: it is one process.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from resnest_d2.errors import UserError

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_MASTER = ("MASTER_ADDR", "MASTER_PORT")
_STEP = ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS")
_TASKS = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
_NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
_NUM_NODES = ("SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
# Below the ports that systems hand out by themselves, which begin at 32768.
_FIRST_PORT, _NUM_PORTS = 15000, 15000


class Group(NamedTuple):
    """Place of a process in its group.

    Attributes:
        rank: of all processes.
        size: number of processes.
        local_rank: on this machine; the number of its GPU.
        url: where the processes meet, as of :func:`torch.distributed.init_process_group`.
        launcher: "torchrun" (or another that sets RANK), or "srun".
    """

    rank: int
    size: int
    local_rank: int
    url: str
    launcher: str


def find_group(env: Mapping[str, str]) -> Group | None:
    """The group that a launcher has set up for this process; None if it was started alone.

    Args:
        env: environment variables.

    Raises:
        UserError: variables are missing, contradict each other or are not what they should be.
    """
    env = {name: value for name, value in env.items() if value}
    given = [name for name in _RANKS if name in env]
    step = _slurm_step(env) if len(given) < len(_RANKS) else {}
    if not (given or step):
        return None
    for name in given:
        if step and _number(env, name) != int(step[name]):
            raise UserError(
                f"{name} is {env[name]}, but srun gave this process {step[name]}: unset {name}."
            )
    values = {**step, **{name: env[name] for name in (*_RANKS, *_MASTER) if name in env}}
    missing = [name for name in (*_RANKS, *_MASTER) if name not in values]
    if missing:
        raise UserError(
            f"{' and '.join(given)} in the environment announce a group of processes, but "
            f"{' and '.join(missing)} are missing: start the program with torchrun, set them too "
            "(LOCAL_RANK is 0 where each machine has one process), or unset all of them."
        )
    address = values["MASTER_ADDR"]
    host = f"[{address}]" if ":" in address else address
    url = f"tcp://{host}:{values['MASTER_PORT']}" if step else "env://"
    rank, size, local_rank, port = (_number(values, name) for name in (*_RANKS, "MASTER_PORT"))
    faults = {
        f"WORLD_SIZE is {size}; it is the number of processes, 1 or more.": size < 1,
        f"RANK is {rank}, but WORLD_SIZE is {size}: ranks begin at 0 and end below it.": (
            not 0 <= rank < size
        ),
        f"LOCAL_RANK is {local_rank}; it is at least 0 and at most RANK, which is {rank}.": (
            not 0 <= local_rank <= rank
        ),
        f"MASTER_PORT is {port}; choose 1 to 65535.": not 0 < port < 65536,
    }
    for sentence, holds in faults.items():
        if holds:
            raise UserError(sentence)
    return Group(rank, size, local_rank, url, launcher="srun" if step else "torchrun")


def is_restart(env: Mapping[str, str]) -> bool:
    """Whether an elastic agent has restarted this process, or SLURM its job.

    Args:
        env: environment variables.
    """
    return any(_number(env, name) > 0 for name in _RESTARTS if env.get(name))


def first_host(nodes: str) -> str:
    """The first host of a list in SLURM's notation: ``gpu-[003-007,012],login`` -> ``gpu-003``.

    Args:
        nodes: as in SLURM_JOB_NODELIST.

    Raises:
        UserError: not a list of hosts.
    """
    found = re.match(r"(?:[^\s,\[\]]|\[\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*\])+(?=,|$)", nodes)
    if found is None:
        raise UserError(
            f"SLURM's list of nodes, {nodes!r}, cannot be read; set MASTER_ADDR to the host of "
            "the first process."
        )
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", found[0])


def _slurm_step(env: Mapping[str, str]) -> dict[str, str]:
    """torchrun's variables for a task of srun; empty for a step of one task, and without srun.

    Raises:
        UserError: variables of the step are missing or not what they should be.
    """
    if not any(name in env for name in _STEP):
        return {}
    tasks = _first(env, _TASKS)
    if int(tasks) == 1:
        return {}
    host = first_host(_first(env, _NODES, numeric=False)) if "MASTER_ADDR" not in env else ""
    one_node = next((env[name] for name in _NUM_NODES if name in env), "") == "1"
    job = int(_first(env, ("SLURM_JOB_ID", "SLURM_JOBID")))
    step = int(env.get("SLURM_STEP_ID") or env.get("SLURM_STEPID") or 0)
    return {
        "RANK": _first(env, ("SLURM_PROCID",)),
        "WORLD_SIZE": tasks,
        "LOCAL_RANK": _first(env, ("SLURM_LOCALID",)),
        "MASTER_ADDR": "127.0.0.1" if one_node else host,
        # Steps of a job may run at the same time; 997 is prime to the number of ports.
        "MASTER_PORT": str(_FIRST_PORT + (job + 997 * step) % _NUM_PORTS),
    }


def _first(env: Mapping[str, str], names: tuple[str, ...], *, numeric: bool = True) -> str:
    """Value of the first of some variables that is set."""
    for name in names:
        if name in env:
            return str(_number(env, name)) if numeric else env[name]
    raise UserError(f"{names[0]} is missing beside SLURM's other variables: start with srun.")


def _number(env: Mapping[str, str], name: str) -> int:
    if not re.fullmatch(r"\s*-?\d{1,18}\s*", env[name]):
        raise UserError(f"{name} is {env[name]!r} in the environment; it must be a number.")
    return int(env[name])
