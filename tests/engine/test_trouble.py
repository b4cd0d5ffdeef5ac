"""Trouble planted in trainings: each ends in one sentence, the last good checkpoint unharmed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
# In one process after another with train_net.py's main, because starting Python takes longest.
DRIVER = """
import json, multiprocessing, os, resource, shutil, signal, sys, threading, time
import train_net

config, folder = sys.argv[1:3]
codes = {}

def run(name, *opts, when=None, then=None, resumes=None):
    out = os.path.join(folder, resumes or name)
    flags = ["--resume"] if resumes else []
    over = threading.Event()
    def plant():
        while not over.wait(0.02):
            if os.path.exists(os.path.join(out, when)):
                return then(out)
    if when:
        threading.Thread(target=plant, daemon=True).start()
    sys.argv = ["train_net.py", "--config-file", config, *flags, "OUTPUT_DIR", out, *opts]
    print(f"TROUBLE {name}", file=sys.stderr, flush=True)
    print(f"TROUBLE {name}", flush=True)
    codes[name] = train_net.main()
    over.set()

first = "model_0000000.pth"
run("diverged", "SOLVER.BASE_LR", "1e12", "SOLVER.WARMUP_ITERS", "20",
    "SOLVER.WARMUP_FACTOR", "0.0")
run("category", "DATASETS.COCO", f"[['bad', '{folder}/bad.json', '{folder}/images']]",
    "DATASETS.TRAIN", "('bad',)")
run("interrupted", when=first, then=lambda out: os.kill(os.getpid(), signal.SIGINT))
done = int(open(os.path.join(folder, "interrupted", "last_checkpoint")).read()[6:13]) + 1
run("resumed", "SOLVER.MAX_ITER", str(done + 2), resumes="interrupted")
run("again", "SOLVER.MAX_ITER", str(done + 2), resumes="interrupted")

def terminate(out):  # as a cluster does, the data workers first
    for process in multiprocessing.active_children():
        process.terminate()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)

run("workers", "DATALOADER.NUM_WORKERS", "2", when=first, then=terminate)

def fill(out):
    used = max(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out))
    resource.setrlimit(resource.RLIMIT_FSIZE, (used // 2, -1))

run("full", when="last_checkpoint", then=fill)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
run("deleted", "DATALOADER.NUM_WORKERS", "1", when=first,
    then=lambda out: os.remove(os.path.join(folder, "images", "2.png")))
print("codes", json.dumps(codes))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("trouble")


@pytest.fixture
def outcomes(made, tiny_cfg, tmp_path):
    """Exit code, standard output and standard error of each trouble."""
    if not (made / "outcomes.json").exists():
        cfg = tiny_cfg(SOLVER__MAX_ITER=2000, SOLVER__CHECKPOINT_PERIOD=1, DATASETS__TEST=())
        _, json_file, images = cfg.DATASETS.COCO[0]
        (made / "images").symlink_to(images)
        data = json.loads(Path(json_file).read_text())
        data["annotations"][0]["category_id"] = 99
        (made / "bad.json").write_text(json.dumps(data))
        (made / "config.yaml").write_text(cfg.dump())
        command = [sys.executable, "-c", DRIVER, str(made / "config.yaml"), str(made)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        parts = {}
        for stream in (done.stdout, done.stderr):
            for part in stream.split("TROUBLE ")[1:]:
                name, _, text = part.partition("\n")
                parts.setdefault(name, []).append(text)
        codes = json.loads(done.stdout.rpartition("codes ")[2])
        (made / "outcomes.json").write_text(json.dumps([codes, parts]))
    return json.loads((made / "outcomes.json").read_text())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("diverged", "Training diverged at iteration"),
        ("deleted", "2.png (image id 2) cannot be used: FileNotFoundError"),
        ("category", "its category_id 99 is not among the categories"),
        ("full", "File too large"),
    ],
)
def test_ends_in_one_sentence(name, message, outcomes, made):
    codes, parts = outcomes
    output, error = parts[name]
    assert codes[name] == 1
    assert error.count("train_net.py: ") == 1 and message in error, error
    assert "Traceback" not in error + output and message not in output
    if name != "category":  # which never began
        last = (made / name / "last_checkpoint").read_text()
        weights = torch.load(made / name / last, weights_only=True)["model"]
        assert all(tensor.isfinite().all() for tensor in weights.values())
        assert not list((made / name).glob("*.partial"))


@pytest.mark.parametrize("name", ["interrupted", "workers"])
def test_a_signal_stops_it_and_is_no_failure(name, outcomes, made):
    codes, parts = outcomes
    output, error = parts[name]
    assert codes[name] == 130 and "Traceback" not in error
    assert "--resume continues from there" in output
    last = (made / name / "last_checkpoint").read_text()
    assert torch.load(made / name / last, weights_only=True)["trainer"]


def test_a_stopped_run_goes_on_and_a_finished_one_says_so(outcomes, made):
    codes, parts = outcomes
    assert codes["resumed"] == codes["again"] == 0
    start = int(re.search(r"resumed after (\d+) iterations", parts["resumed"][0])[1])
    final = torch.load(made / "interrupted" / "model_final.pth", weights_only=True)
    assert final["iteration"] == start + 1
    assert "Nothing is left to train" in parts["again"][1]
    assert "Nothing is left" not in parts["resumed"][1]
