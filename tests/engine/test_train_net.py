"""train_net.py as a user runs it: trains, stops, resumes, scores, and refuses what is wrong."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CONFIG = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"
SMALL = """
    INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 SOLVER.IMS_PER_BATCH 2 SOLVER.WARMUP_ITERS 0
    DATALOADER.NUM_WORKERS 0 MODEL.FPN.OUT_CHANNELS 32 MODEL.ROI_BOX_HEAD.FC_DIM 32
    MODEL.ROI_MASK_HEAD.CONV_DIM 32 MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0
""".split()


def command(output, *args, data=(), config=CONFIG):
    head = [sys.executable, str(ROOT / "train_net.py"), "--config-file", config]
    flags = [a for a in args if a.startswith("--")]
    opts = [a for a in args if not a.startswith("--")]
    return [*head, *flags, *SMALL, *data, "OUTPUT_DIR", str(output), *opts]


def train_net(*args, code=0, **kwargs):
    done = subprocess.run(command(*args, **kwargs), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Keys for twelve training and six test images out of the built-in set."""
    from resnest_d2.data.shapes import prepare_shapes

    source = Path(prepare_shapes())
    folder = tmp_path_factory.mktemp("data")
    for split, number in (("train", 12), ("val", 6)):
        content = json.loads((source / f"shapes_{split}.json").read_text())
        ids = {image["id"] for image in content["images"][:number]}
        content["images"] = content["images"][:number]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
        (folder / f"{split}.json").write_text(json.dumps(content))
        (folder / split).symlink_to(source / f"shapes_{split}")
    sets = '[["some_train", "train.json", "train"], ["some_val", "val.json", "val"]]'
    keys = ["DATASETS.ROOT", str(folder), "DATASETS.COCO", sets]
    return [*keys, "DATASETS.TRAIN", '("some_train",)', "DATASETS.TEST", '("some_val",)']


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Folder and output of a run of six iterations that evaluates after three."""
    output = tmp_path_factory.mktemp("trained")
    opts = "SOLVER.MAX_ITER 6 SOLVER.CHECKPOINT_PERIOD 3 TEST.EVAL_PERIOD 3".split()
    return output, train_net(output, *opts, data=data)


def test_leaves_everything_of_a_run(trained):
    output, done = trained
    names = "config.yaml environment.txt log.txt metrics.json results.json best.json"
    for name in [*names.split(), "model_best.pth", "model_final.pth", "model_0000002.pth"]:
        assert (output / name).stat().st_size > 0, name
    page = (output / "report.html").read_text()  # of the last evaluation, with all before it
    assert "Reproduce this run" in page and "no new report" not in done.stdout
    assert list(output.glob("events.out.tfevents*"))
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    last = next(line for line in lines if "total_loss" in line and line["iteration"] == 5)
    assert last["total_loss"] > 0 and any("segm/AP" in line for line in lines)
    assert "sys.platform" in (output / "environment.txt").read_text()
    if not torch.cuda.is_available():
        assert (output / "log.txt").read_text().count("No CUDA device: running on the CPU") == 1
        assert re.search(r"^device +CPU, \d+ thread", done.stdout, flags=re.M)
    assert re.search(r"\| some_val +\| mask \|", done.stdout)
    assert "total_loss" in (output / "log.txt").read_text()
    assert not set("\r\x1b") & set(done.stdout + done.stderr)  # no bar in a pipe
    assert re.search(r"^Iteration 6/6, loss \S+, mask AP \S+, 00:00 left$", done.stderr, flags=re.M)
    assert len((done.stdout + done.stderr).splitlines()) <= 40


def test_report_has_the_numbers_of_the_last_evaluation(trained):
    output, _ = trained
    results = json.loads((output / "results.json").read_text())["some_val"]
    logged = {}
    for line in (output / "metrics.json").read_text().splitlines():
        logged.update(json.loads(line))
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    for label, task in (("box", "bbox"), ("mask", "segm")):
        page = (output / "report.html").read_text()  # names the weights if another was better
        row = re.search(f"<th>{label}(?:, model_final[^<]*)?</th>(.*?)</tr>", page)[1]
        metrics = [results[task][name] for name in names]
        shown = ["–" if value is None else f"{value:.2f}" for value in metrics]
        assert re.findall("<td>(.*?)</td>", row) == shown
        assert [logged.get(f"{task}/{name}") for name in names] == metrics


def test_scores_the_same_again(trained, data, tmp_path):
    output, _ = trained
    before = json.loads((output / "results.json").read_text())
    train_net(tmp_path, "--eval-only", "MODEL.WEIGHTS", f"{output}/model_final.pth", data=data)
    again = json.loads((tmp_path / "results.json").read_text())
    assert json.dumps(again) == json.dumps(before) and set(before["some_val"]) == {"bbox", "segm"}


def test_its_own_config_reads_again(trained, tmp_path):
    output, _ = trained
    opts = ["--eval-only", "--resume", "OUTPUT_DIR", str(output)]
    head = [sys.executable, str(ROOT / "train_net.py"), "--config-file", f"{output}/config.yaml"]
    done = subprocess.run([*head, *opts], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "model_final.pth" in done.stdout


def wait_for(path):
    deadline = time.time() + 300
    while not (path.exists() and path.stat().st_size) and time.time() < deadline:
        time.sleep(0.2)


def test_resumes_a_run_that_was_stopped(data, tmp_path):
    opts = "SOLVER.MAX_ITER 400 SOLVER.CHECKPOINT_PERIOD 1000 TEST.EVAL_PERIOD 0".split()
    process = subprocess.Popen(
        command(tmp_path, *opts, data=data),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(tmp_path / "metrics.json")  # until twenty iterations are done
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 130, text[-2000:]
    stopped = int(re.search(r"Stopped after (\d+) iterations", text)[1])
    assert stopped >= 20
    done = train_net(tmp_path, "--resume", "SOLVER.MAX_ITER", str(stopped + 2), data=data)
    assert f"resumed after {stopped} iterations" in done.stdout
    assert f"Starting training from iteration {stopped}" in (tmp_path / "log.txt").read_text()
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert final["iteration"] == stopped + 1
    # Neither an iteration nor a step of the learning rate was lost or done twice.
    assert final["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == stopped + 2


def test_two_processes_on_the_cpu(data, tmp_path):
    opts = "SOLVER.MAX_ITER 2 MODEL.RESNETS.NORM SyncBN MODEL.ROI_MASK_HEAD.NORM SyncBN".split()
    opts += ["--num-gpus=2", "--dist-url=auto"]
    env_free = train_net(tmp_path, *opts, data=data)
    assert "World size: 2" in (tmp_path / "log.txt").read_text()
    assert re.search(r"^device +2 processes, each on CPU", env_free.stdout, flags=re.M)
    assert len(re.findall("^Iteration 2/2", env_free.stderr, flags=re.M)) == 1
    assert (tmp_path / "results.json").exists()


def test_two_processes_that_are_stopped(data, tmp_path):
    opts = "SOLVER.MAX_ITER 400 SOLVER.CHECKPOINT_PERIOD 2 DATASETS.TEST ()".split()
    process = subprocess.Popen(
        command(tmp_path, *opts, "--num-gpus=2", "--dist-url=auto", data=data),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(tmp_path / "model_0000001.pth")
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Traceback" not in text, text[-2000:]
    stopped = int(re.search(r"Stopped after (\d+) iterations", text)[1])
    last = (tmp_path / "last_checkpoint").read_text()
    assert last == f"model_{stopped - 1:07d}.pth"
    saved = torch.load(tmp_path / last, weights_only=True)
    assert saved["trainer"]["iteration"] == stopped - 1 >= 1


def test_another_number_of_classes_is_one_line(trained, coco_files, tmp_path):
    output, _ = trained
    coco_files()
    keys = ["DATASETS.ROOT", str(tmp_path), "DATASETS.TEST", "()", "DATASETS.TRAIN", '("two",)']
    keys += ["DATASETS.COCO", '[["two", "train.json", "images"]]', "SOLVER.MAX_ITER", "1"]
    done = train_net(tmp_path / "out", "MODEL.WEIGHTS", f"{output}/model_best.pth", data=keys)
    lines = [line for line in done.stdout.splitlines() if "re-initialised" in line]
    assert len(lines) == 1 and "tensors loaded" in lines[0]


def test_bar_on_a_terminal(data, tmp_path):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))  # rows, columns
    process = subprocess.Popen(
        command(tmp_path, "SOLVER.MAX_ITER", "21", "DATASETS.TEST", "()", data=data),
        cwd=ROOT,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the terminal closes with the process
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    text = shown.decode()
    assert re.search(r"\b21/21 \[", text) and re.search(r"loss [\d.]+\]", text)
    assert "total_loss: " not in text  # those lines go to the log alone
    assert "total_loss: " in (tmp_path / "log.txt").read_text()


# Each run's exit code and sentence, in one process because starting Python takes longest.
MISTAKEN = """
import json, sys, train_net
for argv in json.loads(sys.argv[1]):
    print("RUN", file=sys.stderr)
    print(train_net.main(argv), file=sys.stderr)
"""


def test_mistakes_are_a_sentence(data, tmp_path):
    mistakes = [
        (["--eval-only"], "Evaluation without a checkpoint"),
        (["--eval-only", "DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "nowhere.pth does not exist"),
        (["DATASETS.TRAIN", "('gone',)"], "No data set is named gone"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "7"], "NUM_CLASSES is 7, but some_train has 3 classes"),
        (["MODEL.RESNETS.STRIDE_IN_1X1", "True"], "AVD and STRIDE_IN_1X1 are both True"),
        (["MODEL.RESNETS.RADIXX", "2"], "RADIXX"),
    ]
    commands = [command(tmp_path, *args, data=data)[2:] for args, _ in mistakes]
    driver = [sys.executable, "-c", MISTAKEN, json.dumps(commands)]
    done = subprocess.run(driver, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    ends = done.stderr.split("RUN\n")[1:]
    for (args, message), end in zip(mistakes, ends, strict=True):
        *_, sentence, code = end.splitlines()
        assert sentence.startswith("train_net.py: ") and message in sentence, (args, end)
        assert code == "1", args


def test_a_mistake_of_two_processes_is_a_sentence(data, tmp_path):
    args = ["--num-gpus=2", "--dist-url=auto", "DATASETS.TEST", "('gone',)"]
    done = train_net(tmp_path, *args, data=data, code=1)
    assert "set is named gone" in done.stderr and "Traceback" not in done.stderr


def test_refuses_to_resume_another_model(trained, data):
    output, _ = trained
    opts = ["--resume", "SOLVER.MAX_ITER", "9", "MODEL.MASK_ON", "True"]
    done = train_net(output, *opts, "MODEL.ROI_MASK_HEAD.NUM_CONV", "3", data=data, code=1)
    assert (
        "cannot be resumed with another model" in done.stderr
        and "roi_heads.mask_head" in done.stderr
    )


def test_refuses_to_score_a_backbone(trained, data, tmp_path):
    output, _ = trained
    weights = torch.load(output / "model_final.pth", weights_only=True)["model"]
    backbone = {k: v for k, v in weights.items() if "bottom_up" in k}
    torch.save({"model": backbone}, tmp_path / "backbone.pth")
    opts = ["--eval-only", "MODEL.WEIGHTS", str(tmp_path / "backbone.pth")]
    done = train_net(tmp_path, *opts, data=data, code=1)
    assert "refuses an incomplete detector" in done.stderr and "roi_heads" in done.stderr


def test_a_broken_image_is_named(coco_files, tmp_path):
    coco_files()
    image = tmp_path / "images" / "2.png"
    image.write_bytes(image.read_bytes()[:-40])  # its header is sound
    keys = ["DATASETS.ROOT", str(tmp_path), "DATASETS.TEST", "()", "DATASETS.TRAIN", '("bad",)']
    keys += ["DATASETS.COCO", '[["bad", "train.json", "images"]]', "SOLVER.IMS_PER_BATCH", "1"]
    done = train_net(tmp_path / "out", data=keys, code=1)
    assert "2.png (image id 2) cannot be used" in done.stderr
