"""One measurement of growth, in a process of its own: seconds, and the largest memory it takes.

``python -m benchmarking.growth_case JSON``, run by :mod:`benchmarking.growth`, writes
``measured.json`` into the folder of the :class:`Task`.

A case imports and builds what does not grow, and returns its phases: what is prepared, whose memory
counts and time does not, and what is run with it.
"""

import contextlib
import gc
import io
import json
import logging
import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.utils.events import EventStorage

from .measure import seconds

CONFIG = "quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml"
Phases = tuple[Callable[[], object], Callable[[object], object]]


class Task(NamedTuple):
    """What is measured.

    Attributes:
        quantity: name in :data:`CASES`.
        size: number of images, pixels or objects.
        folder: of a made run, or an empty one.
        config: of the training step's detector.
        repeats: number of runs after a warm-up; one run without a warm-up if it is 1.
        threads: torch's.
    """

    quantity: str
    size: int
    folder: str
    config: str = CONFIG
    repeats: int = 1
    threads: int = 1

    @property
    def files(self) -> tuple[str, str]:
        """The annotation file and the folder of its images."""
        return str(Path(self.folder, "data.json")), str(Path(self.folder, "images"))


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    Linux's ru_maxrss begins with what the parent held, so VmHWM is read there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return 1024 * next(int(v.split()[1]) for v in lines if v.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Has the largest memory begin with what is held now, where the system can."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def check_data(task: Task) -> Phases:
    """``check-data``: decodes every image, and prints its tables."""
    from resnest_d2.data.validate import check_data

    def run(_: object) -> str:
        found = check_data([task.files], progress=False)
        return found.table(100) + found.class_table() + found.summary()

    return _nothing, run


def load(task: Task) -> Phases:
    """Checks and registers a file, and makes detectron2's dictionaries of it."""
    from detectron2.data import DatasetCatalog

    from resnest_d2.data import register_coco

    def run(_: object) -> list:
        register_coco("made", *task.files)
        return DatasetCatalog.get("made")

    return _nothing, run


def evaluate(task: Task) -> Phases:
    """Scores boxes and masks of a registered dataset, once all images are predicted."""
    from resnest_d2.data import register_coco
    from resnest_d2.report import DataSet

    from .made_run import evaluator_of

    dataset = DataSet("made", *task.files)

    def prepare() -> object:
        register_coco(*dataset)
        return evaluator_of(Path(task.folder), dataset, masks=True)

    return prepare, lambda evaluator: evaluator.evaluate()


def report(task: Task) -> Phases:
    """Writes the HTML report of a run with boxes and masks."""
    from resnest_d2.report import DataSet, write_report

    dataset = DataSet("made", *task.files)
    return _nothing, lambda _: write_report(task.folder, datasets=[dataset])


def batch(task: Task) -> Phases:
    """A training step of ``task.size`` images of 320 x 427."""
    return _training(task, (320, 427), task.size)


def side(task: Task) -> Phases:
    """A training step of an image of 3 : 4, whose shorter side has ``task.size`` pixels."""
    return _training(task, (task.size, round(task.size * 4 / 3)), 1)


def objects(task: Task) -> Phases:
    """What ``predict`` does with ``task.size`` detections once the network has run, to its files.

    NMS of as many boxes as there are detections, pasting of their masks, selection, and all that
    the command can write: drawing, JSON, CSV, YOLO, labelme, COCO, crops.
    """
    from detectron2.data import MetadataCatalog
    from PIL import Image

    from resnest_d2 import load_config
    from resnest_d2.inference.detecting import Detecting
    from resnest_d2.inference.saving import SAVERS, Drawings, Tally, save_all
    from resnest_d2.inference.selection import Selection
    from resnest_d2.inference.sources import open_source
    from resnest_d2.inference.stream import Stream

    from .made_detections import CLASSES, MadeDetections

    metadata = MetadataCatalog.get("made to predict")
    metadata.set(thing_classes=[f"class {k}" for k in range(CLASSES)])
    detecting = Detecting(
        load_config(CONFIG, ["MODEL.DEVICE", "cpu"]),
        metadata,
        slicing=None,
        selection=Selection(),
        batch_size=1,
    )
    detecting.score_threshold = 0.0
    detecting.model = MadeDetections(task.size)
    folder = Path(task.folder)
    image = folder / "image.jpg"
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(image)
    output = folder / "predictions"

    def run(_: object) -> Tally:
        savers = [*(make(output) for make in SAVERS.values()), Drawings(output)]
        stream = Stream(open_source(str(image)), detecting._work, chunk=1, workers=1)
        output.mkdir(exist_ok=True)
        save_all(stream, savers, tally := Tally())
        assert tally.counts.total() == task.size and not stream.failed, (tally, stream.failed)
        return tally

    return _nothing, run


CASES: dict[str, Callable[[Task], Phases]] = {
    "check-data": check_data,
    "load": load,
    "evaluate": evaluate,
    "report": report,
    "batch": batch,
    "side": side,
    "objects": objects,
}


def _nothing() -> None:
    """The preparation of a case that needs none."""


def _training(task: Task, size: tuple[int, int], number: int) -> Phases:
    from resnest_d2.deploy import keep_freed_memory

    from .models import build_detector
    from .training import training_inputs

    keep_freed_memory()  # as train_net.py does on a CPU
    model = build_detector(task.config, depth=14).train()

    def run(inputs: object) -> None:
        torch.manual_seed(0)  # for the sampling of proposals
        model.zero_grad(set_to_none=True)
        with EventStorage():
            sum(model(inputs).values()).backward()

    return lambda: training_inputs(size, number), run


def measure(task: Task) -> dict:
    """Runs a case.

    Returns:
        Median seconds of a run, and the largest memory before the preparation (``baseline``) and at
        the end (``peak``), in bytes.
    """
    prepare, run = CASES[task.quantity](task)
    forget_peak()
    baseline = peak_bytes()
    with contextlib.redirect_stdout(io.StringIO()):
        prepared = prepare()
        if task.repeats > 1:
            run(prepared)
        times = [seconds(lambda: run(prepared)) for _ in range(task.repeats)]
    return {"seconds": statistics.median(times), "baseline": baseline, "peak": peak_bytes()}


def main() -> None:
    """Writes the measurement."""
    task = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(task.threads)
    logging.disable(logging.WARNING)
    Path(task.folder, "measured.json").write_text(json.dumps(measure(task)))


if __name__ == "__main__":
    main()
