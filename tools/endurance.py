#!/usr/bin/env python3
"""Trains and predicts for long, and prints the memory, open files and threads on the way.

A small detector on a few of the built-in shapes, on the CPU, with a data worker, evaluations and
checkpoints. Numbers that keep growing are leaks:

    tools/endurance.py --detector cascade --iterations 10000 --output output/endurance
"""

import argparse
from pathlib import Path
from typing import Any

import psutil
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from kill_runs import CONFIGS, SMALL, write_data
from tabulate import tabulate

from resnest_d2 import Predictor, load_config, register_datasets
from resnest_d2.engine import Trainer

SAMPLES = 10
HEADERS = ["", "MiB", "of workers", "files", "threads", "of workers", "processes"]


class Samples(HookBase):
    """What this process and its children hold, at ten times of a training, and at its start."""

    def __init__(self, number: int):
        """
        Args:
            number: of iterations or images, of which the first 2 % are a warm-up.
        """
        self.moments = {number // 50, *(number * i // SAMPLES for i in range(1, SAMPLES + 1))}
        self.rows: list[list[Any]] = []

    def after_step(self) -> None:
        """Called by the trainer after each iteration."""
        self.take(self.trainer.iter + 1)

    def take(self, number: int) -> None:
        """Adds a row if it is time."""
        if number not in self.moments:
            return
        own = psutil.Process()
        children = own.children(recursive=True)
        memory = [p.memory_full_info().uss / 2**20 for p in (own, *children)]
        threads = [p.num_threads() for p in (own, *children)]
        sizes = [memory[0], sum(memory[1:]), own.num_fds(), threads[0], sum(threads[1:])]
        self.rows.append([number, *map(round, sizes), len(children)])
        print(*self.rows[-1], flush=True)


def train(detector: str, data: list[str], output: Path, iterations: int) -> tuple[Samples, CfgNode]:
    """Trains a detector of kill_runs.py, without a limit to its patience.

    Returns:
        The samples, and the config of what was trained.
    """
    period = str(max(1, iterations // 20))
    keys = [*SMALL, *data, "SOLVER.MAX_ITER", str(iterations)]
    keys += ["SOLVER.EARLY_STOPPING.ENABLED", "False", "DATALOADER.NUM_WORKERS", "1"]
    keys += ["TEST.EVAL_PERIOD", period, "SOLVER.CHECKPOINT_PERIOD", period, "TEST.REPORT", "True"]
    keys += ["SOLVER.CHECKPOINTS_TO_KEEP", "3", "SOLVER.REFERENCE_WORLD_SIZE", "0"]
    cfg = load_config(CONFIGS[detector], [*keys, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(output)])
    register_datasets(cfg)
    trainer, samples = Trainer(cfg), Samples(iterations)
    trainer.register_hooks([samples])
    trainer.train()
    cfg.MODEL.WEIGHTS = str(output / "model_final.pth")
    return samples, cfg


def predict(cfg: CfgNode, images: int) -> Samples:
    """Draws what a trained detector finds on images, and converts it to COCO's records."""
    paths = sorted(map(str, Path(cfg.DATASETS.COCO[0][2]).glob("*.png")))
    predictor, samples = Predictor(cfg, device="cpu", score_threshold=0.3), Samples(images)
    stream = predictor.stream([paths[i % len(paths)] for i in range(images)])
    for number, prediction in enumerate(stream, 1):
        prediction.to_coco(number)
        prediction.draw()
        samples.take(number)
    assert number == images and not stream.failed, (number, stream.failed)
    return samples


def main() -> None:
    """Prints a table for the training and one for the prediction."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--detector", choices=CONFIGS, default="mask")
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--output", type=Path, required=True, help="folder of the run; empty")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = write_data(args.output / "data")
    trained, cfg = train(args.detector, data, args.output / "run", args.iterations)
    predicted = predict(cfg, args.images)
    print(tabulate(trained.rows, headers=["iteration", *HEADERS[1:]], tablefmt="pipe"))
    print(tabulate(predicted.rows, headers=["image", *HEADERS[1:]], tablefmt="pipe"))


if __name__ == "__main__":
    main()
