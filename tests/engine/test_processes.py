"""Trainings in two processes, as users start them: torchrun, an elastic agent, --num-gpus."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from resnest_d2.engine.cluster import Group
from resnest_d2.engine.folder_lock import FolderInUseError, lock_folder
from resnest_d2.engine.processes import membership
from resnest_d2.errors import UserError
from tests.small import FASTER, KEYS, data_keys, write_data

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
TORCHRUN += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
REFERENCE = """
from detectron2.engine import launch
from resnest_d2.engine import argument_parser, run
if __name__ == "__main__":
    launch(run, 2, dist_url="auto", args=(argument_parser().parse_args(),))
"""
# The second process is killed in the second iteration, before the agent has restarted it.
DYING = """
import os, signal, sys
from resnest_d2.engine import Trainer
from train_net import main
step = Trainer.run_step
def run_step(self):
    who = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    if self.iter == 1 and who == ("1", "0"):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self)
Trainer.run_step = run_step
sys.exit(main())
"""
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes") / "data"
    write_data(folder)
    return ["--config-file", FASTER], [*KEYS, *data_keys(folder, "p"), "DATASETS.TEST", "()"]


def start(program, keys, output, *flags, **opts):
    """A training in the background, with its messages in OUTPUT.txt beside its folder."""
    pairs = [text for pair in opts.items() for text in pair]
    command = [*program, *keys[0], *flags, *keys[1], "OUTPUT_DIR", str(output), "SEED", "1", *pairs]
    with open(f"{output}.txt", "w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=ENV)


def weights(output):
    return torch.load(output / "model_final.pth", weights_only=False)["model"]


def test_torchrun_trains_as_detectron2s_launch_to_the_bit(keys, tmp_path):
    script = tmp_path / "reference.py"
    script.write_text(REFERENCE)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    runs = {
        ours: start([*TORCHRUN, str(ROOT / "train_net.py")], keys, ours),
        theirs: start([sys.executable, str(script)], keys, theirs),
    }
    for output, run in runs.items():
        assert run.wait(600) == 0, Path(f"{output}.txt").read_text()[-3000:]
    expected, found = weights(theirs), weights(ours)
    assert len(expected) > 100
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert sorted(path.name for path in ours.glob("log.txt*")) == ["log.txt", "log.txt.rank1"]


def test_an_agents_restart_finishes_the_run(keys, tmp_path):
    script, output = tmp_path / "dying.py", tmp_path / "run"
    script.write_text(DYING)
    flags = {"SOLVER.MAX_ITER": "3", "SOLVER.CHECKPOINT_PERIOD": "1"}
    run = start([*TORCHRUN, "--max-restarts", "1", str(script)], keys, output, **flags)
    messages = Path(f"{output}.txt")
    assert run.wait(600) == 0, messages.read_text()[-3000:]
    assert "exitcode: -9" in messages.read_text()
    assert "Starting training from iteration 1" in (output / "log.txt").read_text()
    assert weights(output) and not list(output.glob("earlier_*"))


def test_restarted_processes_do_not_read_the_addresses_of_those_before(monkeypatch, tmp_path):
    stores = []
    monkeypatch.setattr(dist, "init_process_group", lambda *a, store, **kw: stores.append(store))
    for attempt in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
        monkeypatch.setattr("resnest_d2.engine.processes._stop_once", lambda: None)
        monkeypatch.setattr("resnest_d2.engine.processes._form_local_groups", lambda group: None)
        with membership(Group(0, 1, 0, f"file://{tmp_path}/store", "torchrun")):
            assert not stores[-1].check(["address"])
            stores[-1].set("address", attempt)
    assert [store.get("address") for store in stores] == [b"0", b"1"]


@pytest.fixture
def long_run(keys, tmp_path):
    """A run of --num-gpus 2 that has begun to train, and the pids of its processes."""
    output = tmp_path / "run"
    program = [sys.executable, str(ROOT / "train_net.py")]
    flags = {"SOLVER.MAX_ITER": "100000", "SOLVER.CHECKPOINT_PERIOD": "5"}
    run = start(program, keys, output, "--num-gpus", "2", **flags)
    deadline = time.monotonic() + 600
    while not (output / "last_checkpoint").exists():
        assert run.poll() is None and time.monotonic() < deadline, Path(f"{output}.txt").read_text()
        time.sleep(0.5)
    pids = [pid for pid in children(run.pid) if "spawn_main" in command_of(pid)]
    assert len(pids) == 2
    yield run, pids, output
    for pid in (run.pid, *pids):
        if command_of(pid):
            os.kill(pid, signal.SIGKILL)
    run.wait()


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid):
    """Command line of a process; empty of one that has ended."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_bytes().decode() if path.exists() else ""


def listening(pid):
    """Addresses that a process listens on, in the system's hexadecimal notation."""
    inodes = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                addresses.add(fields[1].split(":")[0])
    return addresses


def test_a_killed_launcher_leaves_no_process(long_run):
    run, pids, output = long_run
    holder = json.loads((output / ".run.lock").read_text())
    assert holder["pid"] in pids
    with pytest.raises(FolderInUseError, match=f"is in use by process {holder['pid']} on "):
        lock_folder(str(output))
    assert set().union(*map(listening, pids)) == {"0100007F"}  # 127.0.0.1
    run.kill()
    run.wait()
    deadline = time.monotonic() + 200
    while any(map(command_of, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert "--resume continues from there" in (output / "log.txt").read_text()


def test_a_killed_process_is_named_and_a_checkpoint_kept(long_run):
    run, pids, output = long_run
    first = json.loads((output / ".run.lock").read_text())["pid"]
    (second,) = set(pids) - {first}
    os.kill(second, signal.SIGKILL)
    assert run.wait(300) == 1
    messages = Path(f"{output}.txt").read_text()
    (told,) = [line for line in messages.splitlines() if line.startswith("train_net.py: ")]
    assert told.startswith(f"train_net.py: Process 1 (pid {second}) was killed by SIGKILL: the sys")
    assert "Traceback" not in messages
    assert "--resume continues from there" in (output / "log.txt").read_text()


MEMBER = """
import os, time
from resnest_d2.engine import joined_group
with joined_group():
    print(os.getpid(), flush=True)
    time.sleep(600)
"""
AGENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


def test_a_process_ends_with_its_agent():
    env = {**ENV, **ALONE, "TORCHELASTIC_RUN_ID": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", AGENT, MEMBER], env=env, **pipes) as agent:
        member = int(agent.stdout.readline())
        agent.kill()
        deadline = time.monotonic() + 30
        while command_of(member) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left := command_of(member):
            os.kill(member, signal.SIGKILL)
    assert not left


def test_a_process_computes_on_the_gpu_of_its_local_rank(monkeypatch, tmp_path):
    chosen, backends = [], []
    gpus = {"is_available": lambda: True, "device_count": lambda: 2, "set_device": chosen.append}
    for name, value in gpus.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(dist, "init_process_group", lambda kind, **kw: backends.append(kind))
    monkeypatch.setattr("resnest_d2.engine.processes._stop_once", lambda: None)
    monkeypatch.setattr("resnest_d2.engine.processes._form_local_groups", lambda group: None)
    url = f"file://{tmp_path}/store"
    with membership(Group(3, 4, 1, url, "torchrun")):
        assert (chosen, backends) == ([1], ["nccl"])
    with pytest.raises(UserError, match="LOCAL_RANK is 2, but this process sees 2 GPUs"):
        with membership(Group(2, 4, 2, url, "torchrun")):
            pass
    assert (chosen, backends) == ([1], ["nccl"])
