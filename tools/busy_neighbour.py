#!/usr/bin/env python3
"""Measures how much a busy neighbour slows down training and prediction on the CPU.

A training step, one image and a folder of images are timed alone, beside a process that takes one
core (a loop in Python), and beside a torch process with a thread for each core. Each way of waiting
for other threads (see docs/training.md) has a process of its own; they take turns, so that a
change of the machine's speed affects all of them:

    tools/busy_neighbour.py --waiting default passive --repeats 7 --output output/neighbour.json
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tabulate import tabulate

CONFIG = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"
TORCH_LOOP = "import torch; x = torch.rand(512, 512)\nwhile True: x = (x @ x).clamp_(0, 1)"
NEIGHBOURS = {"none": "", "Python loop": "while True: pass", "torch": TORCH_LOOP}
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
NAMES = ("action", "neighbour", "waiting")
KINDS = ("training step", "one image", "folder")


def environment(waiting: str) -> dict[str, str]:
    """Variables of a process that waits as torch does by itself, passively, or spins N times."""
    known = {"default": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
    return known[waiting] if waiting in known else {"GOMP_SPINCOUNT": str(int(waiting))}


def start(arguments: Sequence[str], added: dict[str, str], **options) -> subprocess.Popen:
    """Starts Python with this environment, without the variables of OpenMP that it has."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.Popen([sys.executable, *arguments], env={**kept, **added}, **options)


def actions(args: argparse.Namespace, folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed, with random weights and noise as images."""
    import torch
    from benchmarking.training import training_inputs
    from detectron2.utils.events import EventStorage

    from resnest_d2 import Predictor, Trainer, load_config, register_datasets
    from resnest_d2.deploy import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(args.threads)
    cfg = load_config(args.config, ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(folder)])
    register_datasets(cfg)
    cfg.MODEL.WEIGHTS = str(folder / "weights.pth")
    cfg.INPUT.MIN_SIZE_TEST = args.size[0]
    model = Trainer.build_model(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    inputs = training_inputs(args.size, args.batch)
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    predictor = Predictor(cfg, device="cpu")
    images = [i["image"].byte().permute(1, 2, 0).contiguous().numpy() for i in inputs] * 4

    def train() -> None:
        with EventStorage():
            optimizer.zero_grad()
            sum(model(inputs).values()).backward()
            optimizer.step()

    def predict(number: int) -> None:
        list(predictor.stream(images[:number], channels="RGB"))

    run = (train, partial(predict, 1), partial(predict, len(images)))
    return dict(zip(KINDS, run, strict=True))


def serve(args: argparse.Namespace) -> None:
    """Answers every name of an action on standard input with its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        known = actions(args, Path(folder))
        for action in known.values():
            action()
            action()
        answers, sys.stdout = sys.stdout, sys.stderr
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            begin = time.perf_counter()
            known[line.strip()]()
            print(time.perf_counter() - begin, file=answers, flush=True)


def ask(process: subprocess.Popen, action: str) -> float:
    """Seconds that a process of :func:`serve` takes for an action."""
    process.stdin.write(f"{action}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@contextlib.contextmanager
def beside(neighbour: str) -> Iterator[None]:
    """Context in which another process computes."""
    process = start(["-c", NEIGHBOURS[neighbour]], {}) if NEIGHBOURS[neighbour] else None
    time.sleep((3 if "torch" in NEIGHBOURS[neighbour] else 0.5) if process else 0)
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def measure(args: argparse.Namespace) -> list[dict]:
    """Rows of what was timed: action, neighbour, waiting, all seconds."""
    sizes = ["--config", args.config, "--size", *map(str, args.size), "--batch", str(args.batch)]
    command = [__file__, "--serve", *sizes, "--threads", str(args.threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    servers: dict[str, subprocess.Popen] = {}
    seconds: dict[tuple[str, ...], list[float]] = {}
    try:
        for waiting in args.waiting:
            servers[waiting] = start(command, environment(waiting), **pipes)
            if servers[waiting].stdout.readline() != "ready\n":
                raise SystemExit(f"The process that waits with {waiting!r} ended.")
        for number, neighbour in itertools.product(range(args.repeats), NEIGHBOURS):
            with beside(neighbour):
                for action, waiting in itertools.product(KINDS, args.waiting):
                    own = seconds.setdefault((action, neighbour, waiting), [])
                    own.append(ask(servers[waiting], action))
                    told = f"{number + 1}: {neighbour}, {action}, {waiting}: {own[-1]:.3f} s"
                    print(told, file=sys.stderr, flush=True)
    finally:
        for server in servers.values():
            server.kill()
            server.wait()
    return [{**dict(zip(NAMES, key, strict=True)), "seconds": own} for key, own in seconds.items()]


def table(rows: list[dict]) -> str:
    """Medians and spreads, compared with those without a neighbour and of the first waiting."""
    medians = {tuple(r[name] for name in NAMES): statistics.median(r["seconds"]) for r in rows}
    first = rows[0]["waiting"]
    lines = []
    for row in sorted(rows, key=lambda row: KINDS.index(row["action"])):
        action, neighbour, waiting = key = tuple(row[name] for name in NAMES)
        spread = f"{min(row['seconds']):.3f}-{max(row['seconds']):.3f}"
        alone = medians[key] / medians[action, "none", waiting]
        lines.append([*key, medians[key], spread, alone])
        lines[-1].append(medians[key] / medians[action, neighbour, first])
    headers = [*NAMES, "s", "min-max", "/ alone", f"/ {first}"]
    floats = (*[""] * 3, ".3f", "", ".2f", ".2f")
    return tabulate(lines, headers=headers, tablefmt="pipe", floatfmt=floats)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--waiting", nargs="+", default=["default", "passive"], help="default, passive, or spins")
    add("--config", default=CONFIG, help="config of the detector")
    add("--size", nargs=2, type=int, default=(256, 320), help="height and width of the images")
    add("--batch", type=int, default=4, help="images per training step")
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=os.cpu_count(), help="number of torch's threads")
    add("--output", type=Path, help="JSON file to write")
    add("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args)
    rows = measure(args)
    print(table(rows))
    if args.output:
        args.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
