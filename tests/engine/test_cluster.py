"""Groups of processes, read from the environment variables of their launchers."""

import pytest

from resnest_d2.engine.cluster import Group, find_group, first_host, is_restart
from resnest_d2.errors import UserError

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "42", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_NODELIST": "gpu[01-08]", "SLURM_STEP_NUM_NODES": "2",
}  # fmt: skip
IN_SRUN = Group(3, 4, 1, "tcp://gpu07:15042", "srun")


def changed(env, **changes):
    """Variables with other values; None removes one."""
    return {name: value for name, value in {**env, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("env", "group"),
    [
        ({}, None),
        (TORCHRUN, Group(3, 4, 1, "env://", "torchrun")),
        ({**SRUN, **TORCHRUN}, Group(3, 4, 1, "env://", "torchrun")),  # torchrun by srun
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1"}, None),
        (SRUN, IN_SRUN),
        (changed(SRUN, SLURM_STEP_ID="1"), IN_SRUN._replace(url="tcp://gpu07:16039")),
        (changed(SRUN, SLURM_JOB_ID="123456789"), IN_SRUN._replace(url="tcp://gpu07:21789")),
        (changed(SRUN, SLURM_STEP_NUM_NODES="1"), IN_SRUN._replace(url="tcp://127.0.0.1:15042")),
        (
            changed(SRUN, SLURM_STEP_NODELIST=None, SLURM_STEP_NUM_TASKS=None),
            IN_SRUN._replace(url="tcp://gpu01:15042"),
        ),
        (changed(SRUN, WORLD_SIZE="4", RANK=""), IN_SRUN),
        (
            changed(SRUN, MASTER_ADDR="fe80::1", MASTER_PORT="7"),
            IN_SRUN._replace(url="tcp://[fe80::1]:7"),
        ),
        # One process: a step of one task, a batch script without srun, salloc's shell.
        (changed(SRUN, SLURM_STEP_NUM_TASKS="1"), None),
        ({"SLURM_JOB_ID": "42", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
        ({"SLURM_JOB_ID": "42", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "n1"}, None),
    ],
)
def test_the_group_of_a_launcher_is_found(env, group):
    assert find_group(env) == group


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (changed(TORCHRUN, RANK=None), "WORLD_SIZE and LOCAL_RANK .* RANK are missing"),
        (changed(TORCHRUN, LOCAL_RANK=""), "LOCAL_RANK are missing.*torchrun"),
        (changed(TORCHRUN, MASTER_PORT=None), "MASTER_PORT are missing"),
        (changed(TORCHRUN, RANK="4"), "RANK is 4, but WORLD_SIZE is 4"),
        (changed(TORCHRUN, RANK="-1"), "RANK is -1"),
        (changed(TORCHRUN, WORLD_SIZE="0"), "WORLD_SIZE is 0"),
        (changed(TORCHRUN, LOCAL_RANK="5"), "LOCAL_RANK is 5"),
        (changed(TORCHRUN, WORLD_SIZE="two"), "WORLD_SIZE is 'two'"),
        (changed(TORCHRUN, MASTER_PORT="70000"), "MASTER_PORT is 70000"),
        (changed(SRUN, WORLD_SIZE="8"), "WORLD_SIZE is 8, but srun gave this process 4"),
        (changed(SRUN, SLURM_PROCID=None), "SLURM_PROCID is missing"),
        (changed(SRUN, SLURM_STEP_NODELIST="gpu[07-"), "'gpu\\[07-', cannot be read.*MASTER_ADDR"),
    ],
)
def test_contradictions_end_in_a_sentence(env, words):
    with pytest.raises(UserError, match=words):
        find_group(env)


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("n1", "n1"),
        ("login,n[1-2]", "login"),
        ("gpu-[003-007,012],login", "gpu-003"),
        ("rack[2,4]-node[09-10].cluster,x", "rack2-node09.cluster"),
        ("a-b1,a-b2", "a-b1"),
    ],
)
def test_the_first_host_of_slurms_list(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize("nodes", ["", ",n1", "n[1", "n]1", "n[a-b]", "n[1;2]", "n 1"])
def test_what_is_no_list_of_hosts_is_refused(nodes):
    with pytest.raises(UserError, match="cannot be read"):
        first_host(nodes)


@pytest.mark.parametrize("name", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_restart_is_found(name):
    assert [is_restart({name: value}) for value in ("", "0", "2")] == [False, False, True]
