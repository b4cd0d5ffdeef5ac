#!/usr/bin/env python3
"""Kills trainings at random, resumes them, and compares them with runs that were left alone.

Small detectors on the built-in shapes, with EMA, early stopping and augmentations, on the CPU. Each
kill must leave the same final weights, optimizer, metrics and AP, to the bit:

    tools/kill_runs.py --kills 20 --seed 0 --output output/kills
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tabulate import tabulate

from resnest_d2.data.shapes import prepare_shapes
from resnest_d2.engine import Trainer, argument_parser, launch
from resnest_d2.errors import run_program

TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")
SMALL = """
    SOLVER.MAX_ITER 11 SOLVER.STEPS (9,) SOLVER.IMS_PER_BATCH 2 SOLVER.WARMUP_ITERS 2
    SOLVER.CHECKPOINT_PERIOD 4 SOLVER.CHECKPOINTS_TO_KEEP 0 TEST.EVAL_PERIOD 3 TEST.REPORT False
    SOLVER.EARLY_STOPPING.ENABLED True SOLVER.EARLY_STOPPING.PATIENCE 4 MODEL.EMA.ENABLED True
    INPUT.MIN_SIZE_TRAIN (64,96) INPUT.MIN_SIZE_TEST 64 INPUT.AUG.MOSAIC 0.5
    MODEL.RESNETS.RES2_OUT_CHANNELS 64 MODEL.RESNETS.WIDTH_PER_GROUP 16
    MODEL.FPN.OUT_CHANNELS 16 MODEL.ROI_BOX_HEAD.FC_DIM 32 MODEL.ROI_MASK_HEAD.CONV_DIM 16
    MODEL.RPN.POST_NMS_TOPK_TRAIN 64 MODEL.RPN.POST_NMS_TOPK_TEST 64
    MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 32 MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0
""".split()
CONFIGS = {
    "box": "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml",
    "mask": "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml",
    "cascade": "quick_schedules/cascade_mask_rcnn_ResNeSt_14_FPN_quick.yaml",
}
# What a training imports, once for all of them.
IMPORTS = ["resnest_d2.engine.run", "resnest_d2.engine.trainer", "torch.utils.tensorboard"]
# The longest time in seconds from the beginning of what is interrupted to the kill.
MOMENTS = {"training": 0.3, "writing": 0.05, "evaluating": 0.3}


class Kill(NamedTuple):
    """A kill of the process, some seconds after something began for the n-th time."""

    signal: signal.Signals
    moment: str
    number: int
    delay: float


def write_data(folder: Path, *, images: int = 5) -> list[str]:
    """Writes annotation files of a few of the shapes; returns the config keys that name them."""
    source = Path(prepare_shapes())
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for split in ("train", "val"):
        content = json.loads((source / f"shapes_{split}.json").read_text())
        content["images"] = content["images"][:images]
        ids = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
        path = folder / f"{split}.json"
        path.write_text(json.dumps(content))
        sets.append([f"few_{split}", str(path), str(source / f"shapes_{split}")])
    keys = ["DATASETS.COCO", json.dumps(sets), "DATASETS.TRAIN", "('few_train',)"]
    return [*keys, "DATASETS.TEST", "('few_val',)"]


def differences(left: Path, right: Path) -> list[str]:
    """Names of what differs between two finished runs."""
    found = []
    for name in ("model_final.pth", "model_best.pth"):
        ours, theirs = (_flat(_load(folder / name)) for folder in (left, right))
        wrong = [k for k in ours.keys() | theirs.keys() if not _same(ours.get(k), theirs.get(k))]
        found += [f"{name} {key}" for key in sorted(wrong)]
    if _lines(left / "metrics.json") != _lines(right / "metrics.json"):
        found.append("metrics.json")
    for name in ("best.json", "results.json", "weights.json"):
        ours, theirs = (f.read_text() if f.is_file() else "" for f in (left / name, right / name))
        if ours != theirs:
            found.append(name)
    return found


def _load(path: Path) -> dict:
    """A checkpoint without what only tells when it was written."""
    content = torch.load(path, weights_only=True) if path.is_file() else {}
    for hook in content.get("trainer", {}).get("hooks", {}).values():
        for key in ("metrics_size", "unfinished"):
            hook.pop(key, None)
    return content


def _flat(tree: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict | list):
        return {name: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {k: v for key, part in items for k, v in _flat(part, f"{name}.{key}").items()}


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    return bool(left == right)


def _lines(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def train(config: str, output: Path, opts: Sequence[str], kill: Kill | None = None) -> int:
    """Trains in a process of its own; with a checkpoint in the folder it resumes.

    Args:
        config: config file.
        output: folder of the run.
        opts: config keys and values.
        kill: stops it.

    Returns:
        The exit code, negative for a signal.
    """
    args = ["--config-file", config, "OUTPUT_DIR", str(output), *opts]
    if output.exists():
        args.insert(0, "--resume")
    output.mkdir(parents=True, exist_ok=True)
    # Not a fork of this process, which could not train if it had used autograd's threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)
    process = context.Process(target=_child, args=(args, output, kill))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _child(args: list[str], output: Path, kill: Kill | None) -> None:
    multiprocessing.set_start_method(None, force=True)  # data workers start as they always do
    torch.set_num_threads(1)
    if kill:
        _set_trap(kill)
    with (
        open(output / "output.txt", "a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        parsed = argument_parser().parse_args(args)
        code = run_program(lambda: launch(parsed), name="kill_runs.py", debug=True)
    sys.exit(code)


def _set_trap(kill: Kill) -> None:
    calls = []

    def armed(function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            if len(calls) == kill.number:
                killer = threading.Timer(kill.delay, os.kill, (os.getpid(), kill.signal))
                killer.daemon = True
                killer.start()
            return function(*args, **kwargs)

        return call

    if kill.moment == "training":
        Trainer.run_step = armed(Trainer.run_step)
    elif kill.moment == "writing":
        torch.save = armed(torch.save)
    else:
        Trainer.test = staticmethod(armed(Trainer.test))  # as a class method, it is bound already


def draw_kill(chance: random.Random) -> Kill:
    """A kill at random."""
    moment = chance.choice([*MOMENTS])
    number = chance.randint(1, {"training": 11, "writing": 5, "evaluating": 4}[moment])
    kind = chance.choice([signal.SIGKILL, signal.SIGTERM])
    return Kill(kind, moment, number, chance.uniform(0, MOMENTS[moment]))


def main() -> int:
    """Exit code: 1 if a run differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="number of runs that are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs; empty")
    args = parser.parse_args()
    chance, rows, whole = random.Random(args.seed), [], {}
    data = write_data(args.output / "data")
    for number in range(args.kills):
        detector, workers = [*CONFIGS][number % len(CONFIGS)], number // len(CONFIGS) % 3
        opts = [*SMALL, *data, "DATALOADER.NUM_WORKERS", str(workers)]
        config = CONFIGS[detector]
        if (detector, workers) not in whole:
            whole[detector, workers] = args.output / f"whole_{detector}_{workers}"
            assert train(config, whole[detector, workers], opts) == 0
        kill, output = draw_kill(chance), args.output / f"killed_{number}"
        codes = [train(config, output, opts, kill)]
        last = output / "last_checkpoint"
        resumed = last.read_text() if last.exists() else "the start"
        codes.append(train(config, output, opts) if codes[0] else 0)
        wrong = differences(whole[detector, workers], output) if not codes[1] else ["failed"]
        place = f"{kill.moment} {kill.number} + {kill.delay:.2f} s"
        told = ", ".join(wrong[:3]) or "none"
        rows.append([number, detector, workers, kill.signal.name, place, codes[0], resumed, told])
        print(*rows[-1], flush=True)
    headers = ["", "detector", "workers", "signal", "while", "exit code", "resumed from"]
    print(tabulate(rows, headers=[*headers, "differences"], tablefmt="pipe"))
    return int(any(row[-1] != "none" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
