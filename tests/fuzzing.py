"""Mutated COCO files, and what becomes of each on its way from the check to the report.

A server process with a memory limit forks a child per file, so that a crash, a hang or a traceback
is an outcome like any other. By hand: ``python tests/fuzzing.py 20000 --seed 1``.
"""

import argparse
import contextlib
import copy
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

HEIGHT, WIDTH = 40, 60
CLASSES = 16  # of the models; a mutated file has no more
SECONDS = 60  # of processor time for one file, and of ten times as many on the clock
MEMORY = 2 << 30  # bytes, beyond the imported modules
ODD = [
    *(None, True, False, 0, 1, -1, 2, 7, 1.0, 0.5, 1.5, -0.0, 1e-300, 1e9, -1e9, 1e308, 2**31),
    *(2**53 + 1, 2**64, -(2**70), 10**400, -(10**400), float("nan"), float("inf"), -float("inf")),
    *("", "1", "1.0", "nan", "text", "0.png", "../0.png", "\x1b[2J", "\ud800", "a" * 5000),
    *([], {}, [[]], [[], []], [0], [1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5], ["1", "2", "3", "4"]),
    *([[1, 1, 9, 1, 9, 9]], [[1e9, 1, 9, 1, 9, 9]], [[1, 1, 1, 1, 1, 1]], [None] * 4, [[[1]]]),
    *({"size": [40, 60], "counts": [405, 30, 1965]}, {"size": [60, 40], "counts": "zz"}),
    *({"size": [40, 60], "counts": [2400]}, {"size": [4e4, 6e5], "counts": [24]}, {"counts": ""}),
    *([5, 5, 2, 9, 9, 1], [5, 5, 3, 9, 9, 2], {"id": 1}, {"id": 1, "name": "cat"}),
]
OPERATIONS = ("replace", "odd", "delete", "duplicate", "copy", "scale", "rename", "bytes")
FIGURES = 8  # the figures of every eighth report are drawn: they take most of the time
BEFORE = {  # what a child does first: it leaves the figures out, or has a defect
    "no figures": lambda: _no_figures(),
    "raise": lambda: 1 / 0,
    "memory": lambda: bytearray(2 * MEMORY),
    "signal": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}
DEFECTS = ("signal", "traceback", "hang", "disagreement")


def sound_data() -> dict:
    """Three images with nine objects of two classes, one of them a crowd, one an RLE."""
    polygon = [10, 5, 30, 5, 30, 35, 10, 35]
    annotations = [
        {"id": i, "image_id": 1 + i % 3, "category_id": 1 + i % 2, "area": 600, "iscrowd": 0}
        | {"bbox": [10 + i, 5, 20, 30], "segmentation": [[v + i * (1 - j % 2) for j, v in e]]}
        for i, e in ((i, list(enumerate(polygon))) for i in range(9))
    ]
    annotations[4] |= {"iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [405, 30, 1965]}}
    return {
        "info": {"description": "sound"},
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)
        ],
        "categories": [
            {"id": 1, "name": "cat", "keypoints": ["left", "right"], "skeleton": [[1, 2]]},
            {"id": 2, "name": "dog"},
        ],
        "annotations": [
            a | ({"keypoints": [12, 6, 2, 20, 9, 1], "num_keypoints": 2} if i % 2 == 0 else {})
            for i, a in enumerate(annotations)
        ],
    }


def paths_of(tree: Any, before: tuple = ()) -> list[tuple]:
    """Paths to all values below the root."""
    if not isinstance(tree, (dict, list)):
        return []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [p for k, v in items for p in ((*before, k), *paths_of(v, (*before, k)))]


def value_at(tree: Any, path: tuple) -> Any:
    """The value that a path leads to."""
    for key in path:
        tree = tree[key]
    return tree


def mutate(number: random.Random) -> bytes:
    """Content of an annotation file with one to three faults, most of them in its values."""
    data = sound_data()
    operations = [number.choice(OPERATIONS) for _ in range(number.choice((1, 1, 1, 2, 3)))]
    for operation in operations:
        _change(data, operation, number)
    text = json.dumps(data).encode()
    if "bytes" in operations and number.random() < 0.3:
        text = _damage(text, number)
    return b"\xef\xbb\xbf" + text if number.random() < 0.02 else text


def _change(data: dict, operation: str, number: random.Random) -> None:
    path = number.choice(paths_of(data))
    holder, key = value_at(data, path[:-1]), path[-1]
    value = holder[key]
    if operation in ("replace", "bytes"):
        holder[key] = copy.deepcopy(number.choice(ODD))
    elif operation == "odd":
        holder[key] = number.choice(
            [number.gauss(0, 50), number.getrandbits(70), [value], {"a": 1}]
        )
    elif operation == "delete":
        del holder[key]
    elif operation == "duplicate" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(value))
    elif operation in ("copy", "duplicate"):
        holder[key] = copy.deepcopy(value_at(data, number.choice(paths_of(data))))
    elif operation == "scale" and isinstance(value, (int, float)):
        holder[key] = value * number.choice([-1, 0.01, 1.0, 100, 1e7])
    elif operation == "rename" and isinstance(holder, dict):
        holder[number.choice(["", "Name", "ids", "categories", str(key).upper()])] = holder.pop(key)


def _damage(text: bytes, number: random.Random) -> bytes:
    i = number.randrange(len(text))
    return number.choice([text[:i], text[:i] + text[i + 1 :], text[:i] + b"\xff" + text[i:]])


class Server:
    """Sends files to a process of its own, see :func:`serve`."""

    def __init__(self, folder: Path):
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self._process.stdout.readline()  # it has followed a file of its own, and is ready

    def outcome(self, content: bytes, *, before: str = "") -> tuple[str, str]:
        """What becomes of an annotation file: a word, and what there is to say about it.

        ``before`` is what its process does first, see :data:`BEFORE`.
        """
        (self.folder / "data.json").write_bytes(content)
        print(before, file=self._process.stdin, flush=True)
        return tuple(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def serve(folder: Path) -> None:
    """Answers each line of the standard input with the outcome of ``data.json`` in a folder."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    models = prepare(folder)
    _warm_up(folder, models)
    used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.RLIM_INFINITY))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(10 * SECONDS)
            said = os.fdopen(write, "w")
            try:
                BEFORE.get(line.strip(), lambda: None)()
                word, why = follow(folder, models)
            except BaseException:
                word, why = "traceback", traceback.format_exc(limit=-6)[-900:]
            said.write(json.dumps([word, why]))
            said.close()
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status in (-signal.SIGPROF, -signal.SIGALRM):
            text = json.dumps(["hang", f"over {SECONDS} s"])
        elif not text:
            text = json.dumps(["signal", str(status)])
        print(text, file=answers, flush=True)


def prepare(folder: Path) -> dict[bool, Any]:
    """Writes the images, imports what a child needs, and builds models without and with masks."""
    import cv2
    import numpy as np
    import small
    import torch
    from detectron2.modeling import build_model

    import resnest_d2.report.training  # noqa: F401
    from resnest_d2 import load_config

    torch.set_num_threads(1)
    (folder / "images").mkdir(exist_ok=True)
    for i in (1, 2, 3):
        pixels = np.random.default_rng(i).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i}.png"), pixels)
    models = {}
    for masks in (False, True):
        keys = [
            "MODEL.DEVICE",
            "cpu",
            "MODEL.MASK_ON",
            masks,
            "MODEL.ROI_HEADS.NUM_CLASSES",
            CLASSES,
        ]
        cfg = load_config(small.FASTER, [*small.KEYS, *map(str, keys)])
        cfg.defrost()
        model = build_model(cfg)
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80  # detectron2's default, set from the data
        models[masks] = cfg, model
    return models


def _warm_up(folder: Path, models: dict[bool, Any]) -> None:
    """Follows a sound file, so that children find all that is made at its first use."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    (folder / "data.json").write_text(json.dumps(sound_data()))
    follow(folder, models)
    DatasetCatalog.remove("fuzz")
    MetadataCatalog.remove("fuzz")


def _no_figures() -> None:
    """Leaves the drawing of the report's figures out, but not what is drawn in them."""
    from matplotlib.figure import Figure

    Figure.savefig = lambda figure, file, **options: file.write("<svg></svg>")


def follow(folder: Path, models: dict[bool, Any]) -> tuple[str, str]:
    """Checks a file, loads it, trains a batch, evaluates and reports; a word for each detector."""
    import logging

    from resnest_d2 import register_datasets
    from resnest_d2.data.validate import check_data
    from resnest_d2.data.validate.findings import PARTIAL
    from resnest_d2.errors import UserError
    from resnest_d2.report import DataSet, write_report

    logging.disable(logging.CRITICAL)
    shutil.rmtree(folder / "run", ignore_errors=True)
    paths = [str(folder / "data.json"), str(folder / "images")]
    found = check_data([tuple(paths)], progress=False)
    found.table(), found.class_table()
    errors = [f for f in found.findings if f.severity == "error" and f.kind not in PARTIAL]
    words = []
    for masks, (cfg, model) in models.items():
        cfg = cfg.clone()
        cfg.DATASETS.COCO = [["fuzz", *paths]]
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("fuzz",)
        cfg.OUTPUT_DIR = str(folder / "run")
        try:
            register_datasets(cfg)
        except UserError as error:
            objects = sum(facts.objects for facts in found.classes)
            if not masks and not errors and objects:
                return "disagreement", f"the check finds nothing, but loading: {error}"
            words.append("refused")
            continue
        if errors and not masks:
            return "disagreement", f"loading accepts it, but the check finds {errors[0]}"
        words.append(_use(cfg, model, folder, masks))
    if (folder / "run" / "results.json").exists():  # of the detector evaluated last
        write_report(str(folder / "run"), datasets=[DataSet("fuzz", *paths)])
    return " / ".join(words), ""


def _use(cfg: Any, model: Any, folder: Path, masks: bool) -> str:
    """One batch, and the scores of the truth."""
    import torch
    from detectron2.data import DatasetCatalog
    from detectron2.utils.events import EventStorage
    from truth import as_detections

    from resnest_d2.data.mapper import NamingDatasetMapper
    from resnest_d2.engine.evaluation import build_evaluator
    from resnest_d2.engine.metrics import publish
    from resnest_d2.errors import UserError

    records = DatasetCatalog.get("fuzz")
    if not records:
        return "no images"
    mapper = NamingDatasetMapper(cfg)
    batch = [mapper(copy.deepcopy(record)) for record in records[:2]]
    with EventStorage():
        losses = model.train()(batch)
    assert all(torch.isfinite(loss) for loss in losses.values()), losses
    try:
        evaluator = build_evaluator("fuzz", str(folder / "run" / "inference" / "fuzz"))
    except UserError as error:
        return f"no evaluation: {str(error)[:40]}"
    evaluator.reset()
    for record in records:
        objects = as_detections(record, masks=masks)
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": objects}])
    results = {"fuzz": evaluator.evaluate()}
    publish(results, cfg)
    json.loads((folder / "run" / "results.json").read_text(), parse_constant=_no_constant)
    ap = results["fuzz"]["bbox"]["AP"]
    return "no AP" if ap != ap else "AP 100" if ap > 99.99 else "AP lower"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def main() -> None:
    """Counts the outcomes of as many files as asked for; files with defects are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("fuzz"))
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    number, counts, begin = random.Random(args.seed), Counter(), time.time()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Server(Path(folder))) as server,
    ):
        for i in range(args.files):
            content = mutate(number)
            word, why = server.outcome(content, before="no figures" if i % FIGURES else "")
            counts[word] += 1
            if word in DEFECTS or "lower" in word:
                args.keep.mkdir(exist_ok=True)
                (args.keep / f"{args.seed}_{i}.json").write_bytes(content)
                print(i, word, why, flush=True)
            if i % 1000 == 999:
                print(i + 1, f"{time.time() - begin:.0f} s", dict(counts.most_common()), flush=True)
    for word, count in counts.most_common():
        print(f"{count:7} {word}")


if __name__ == "__main__":
    main()
