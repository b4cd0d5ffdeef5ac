#!/usr/bin/env python3
"""Benchmarks backbones, detectors, training steps, COCO evaluation, prediction, and their growth.

Models of the same setting take turns, and are compared by medians with the first. Each row has the
share that it reaches of the rate of fp32 matrix products that run in between; 1 FMA is 2 FLOP.
Weights are random. With --device cuda, backbones, detectors and training steps run in the forms of
benchmarking/forms.py. Detectors get exactly the given number of proposals: the RPN's NMS_THRESH is
1 and its TOPK is that number. Libraries that are not installed are skipped with a message.

Example: tools/benchmark.py --what backbone detector --size 448x640 800x1216 \\
    --backends plain,eager --repeats 5 --threads 2 --output output/benchmark
"""

import argparse
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from benchmarking import gpu, growth, measure, report
from benchmarking.measure import Case
from benchmarking.models import backbone_cases, detector_cases
from benchmarking.prediction import prediction_settings
from benchmarking.scoring import scoring_settings
from benchmarking.training import CONFIG, training_cases

from resnest_d2.deploy.cpu.abilities import abilities
from resnest_d2.errors import UserError, run_program
from resnest_d2.outputs import require_new

KINDS = ("backbone", "detector", "training", "scoring", "predict", "growth")
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_ResNeSt_50_FPN_1x.yaml"


def size(text: str) -> tuple[int, int]:
    """Parses a size such as 800x1216 into height and width."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"got {text!r}; give height x width, such as 800x1216")
    return int(parts[0]), int(parts[1])


def authors_folder(text: str) -> str:
    """Parses authors=FOLDER."""
    name, _, folder = text.partition("=")
    if name != "authors" or not folder:
        raise argparse.ArgumentTypeError(f"got {text!r}; give authors=FOLDER")
    return folder


def names(text: str) -> list[str]:
    """Parses a list of names separated by commas."""
    return [name for name in text.split(",") if name]


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--what", nargs="+", choices=KINDS, default=["backbone"], help="what to benchmark")
    add("--size", nargs="+", type=size, default=[(800, 1216)], help="size of the images")
    add("--depth", nargs="+", type=int, default=[50], help="depth of the ResNeSt")
    add("--proposals", nargs="+", type=int, default=[1000], help="proposals of the detectors")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="where the models run")
    add("--forms", type=names, default=[], help="some of the forms on cuda; default: all")
    add(
        "--backends",
        type=names,
        default=["plain", "eager"],
        help="plain,eager,inductor,openvino; with a precision eager:bf16, openvino:int8",
    )
    add("--config", default=MASK_RCNN, help="config of the detector")
    add("--train-config", default=CONFIG, help="config of the training step")
    add("--train-size", type=size, default=(448, 640), help="image size of the training step")
    add("--batch", nargs="+", type=int, default=[2], help="images per training step")
    add("--backbone-batch", nargs="+", type=int, default=[1], help="images of backbones on cuda")
    add("--checkpoint", type=names, default=["none", "light", "block"], help="none,light,block")
    add("--annotations", help="COCO file for the evaluation; default: the built-in shapes")
    add(
        "--model",
        default="output/demo",
        help="detector for the prediction: a run's folder, or a name",
    )
    add(
        "--peer",
        type=authors_folder,
        metavar="authors=FOLDER",
        help="a copy of github.com/zhanghang1989/ResNeSt: its ResNeSt takes part on the CPU",
    )
    add("--images", help="folder of images to predict on")
    add("--number", type=int, default=40, help="number of images to predict on")
    add("--repeats", type=int, default=5, help="runs of each case after a warm-up")
    add("--threads", type=int, default=torch.get_num_threads(), help="number of torch's threads")
    add("--output", default="output/benchmark", help="folder for table, JSON and plots")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--append", action="store_true", help="to the rows of an earlier run in that folder")
    add("--debug", action="store_true", help="print the traceback of an error")
    growth.add_options(parser)
    return parser


def settings(args: argparse.Namespace, skip) -> Iterator[list[Case]]:
    """Yields the cases of one setting at a time, to keep few models in memory."""
    if args.device == "cuda":
        if args.peer:
            raise UserError("--peer is for --device cpu.")
        yield from gpu.settings(args, skip)
        return
    if "backbone" in args.what:
        for one, depth in itertools.product(args.size, args.depth):
            yield backbone_cases(
                one, depth=depth, backends=args.backends, skip=skip, authors=args.peer
            )
    if "detector" in args.what:
        for one, depth, proposals in itertools.product(args.size, args.depth, args.proposals):
            yield detector_cases(
                one,
                config=args.config,
                depth=depth,
                proposals=proposals,
                backends=args.backends,
                skip=skip,
                authors=args.peer,
            )
    if "training" in args.what:
        for depth, batch in itertools.product(args.depth, args.batch):
            yield training_cases(
                args.train_size,
                depth=depth,
                batch=batch,
                checkpoint=args.checkpoint,
                config=args.train_config,
                skip=skip,
            )
    if "scoring" in args.what:
        yield from scoring_settings(args.annotations, skip)
    if "predict" in args.what:
        if not args.images:
            raise UserError("--what predict needs --images, a folder.")
        yield from prediction_settings(
            args.model, args.images, number=args.number, backends=args.backends, skip=skip
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of a benchmark; an error ends in a sentence, its traceback in a log."""
    args = parser().parse_args(argv)
    return run_program(partial(benchmark, args), name="benchmark.py", debug=args.debug)


def benchmark(args: argparse.Namespace) -> None:
    """Measure, print the tables and write them with the plots."""
    written = Path(args.output) / "benchmark.json"
    require_new([written], overwrite=args.append or args.overwrite)
    torch.set_num_threads(args.threads)
    logging.getLogger("detectron2").setLevel(logging.ERROR)
    rows, reasons = report.read(Path(args.output)) if args.append else [], {}
    for cases in settings(args, lambda name, why: reasons.setdefault(name, why)):
        if cases:
            times, products = measure.take_turns(cases, repeats=args.repeats, device=args.device)
            limit_size = measure.LIMIT_SIZE[args.device]
            rows += measure.to_rows(cases, times, products, limit_size=limit_size)
            report.write(rows, Path(args.output))  # keep results if a later case fails
            print(f"{cases[0].what} {cases[0].setting}", file=sys.stderr, flush=True)
    if "growth" in args.what:
        for row in growth.growth_rows(args):
            rows.append(row)
            report.write(rows, Path(args.output))
            print(f"growth of {row['model']} {row['setting']}", file=sys.stderr, flush=True)
    print(report.text(rows))
    for name, why in reasons.items():
        print(f"Skipped: {name}: {why}")
    can = ", ".join(abilities()) or "unknown"
    print(f"{args.threads} threads of a processor with {can}; medians of {args.repeats}.")
    print(f"Written to {args.output}.")


if __name__ == "__main__":
    sys.exit(main())
