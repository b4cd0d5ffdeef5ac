"""What a run leaves in OUTPUT_DIR before it begins, and what it reads to do so."""

import logging
from multiprocessing import get_context
from pathlib import Path

import pytest
import small
import yaml

from resnest_d2 import get_cfg
from resnest_d2.engine import Trainer, guards
from resnest_d2.engine.folder_lock import NAME, FolderInUseError, lock_folder
from resnest_d2.engine.run import argument_parser, run
from resnest_d2.engine.setup import setup


@pytest.fixture
def arguments(tiny_cfg, tmp_path):
    """A function that gives a command line on a config file of the keys given."""

    def make(*flags, **keys):
        cfg = tiny_cfg(**keys)
        (tmp_path / "given.yaml").write_text(cfg.dump())
        file = str(tmp_path / "given.yaml")
        return argument_parser().parse_args(["--config-file", file, *flags])

    yield make
    small.forget_logs()


@pytest.fixture
def loads(monkeypatch):
    """Grows by an entry whenever the training images are loaded."""
    calls, load = [], guards.get_detection_dataset_dicts

    def count(names, **options):
        calls.append(names)
        return load(names, **options)

    monkeypatch.setattr(guards, "get_detection_dataset_dicts", count)
    return calls


def test_config_yaml_is_what_runs(arguments, loads, monkeypatch):
    trainers = []
    monkeypatch.setattr(Trainer, "train", lambda self: trainers.append(self))
    keys = {"SOLVER__EPOCHS": 5, "TEST__EVAL_EPOCHS": 2, "SOLVER__MAX_ITER": 100}
    keys |= {"SOLVER__REFERENCE_WORLD_SIZE": 2, "SOLVER__STEPS": (60,), "SOLVER__BASE_LR": 0.02}
    # Precise BN has a loader of its own.
    run(arguments(**keys, TEST__PRECISE_BN__ENABLED=True))
    assert len(loads) == 1
    cfg = trainers[0].cfg
    file = Path(cfg.OUTPUT_DIR) / "config.yaml"
    written = get_cfg()
    written.merge_from_file(str(file))
    for section in ("SOLVER", "TEST", "DATASETS"):
        assert written[section] == cfg[section], section
    keys = written.SOLVER
    assert (keys.IMS_PER_BATCH, keys.REFERENCE_WORLD_SIZE, keys.BASE_LR) == (1, 1, 0.01)
    assert (keys.EPOCHS, keys.MAX_ITER, keys.STEPS) == (5, 10, (6,))
    assert written.TEST.EVAL_PERIOD == 4
    before = file.read_text()
    run(argument_parser().parse_args(["--config-file", str(file)]))
    assert file.read_text() == before and trainers[1].cfg == cfg

    longer = ["--config-file", str(file), "--resume", "SOLVER.EPOCHS", "10"]
    run(argument_parser().parse_args(longer))
    keys = trainers[2].cfg.SOLVER
    assert (keys.EPOCHS, keys.MAX_ITER, keys.STEPS) == (10, 20, (12,))
    assert trainers[2].max_iter == yaml.safe_load(file.read_text())["SOLVER"]["MAX_ITER"] == 20


def test_an_evaluation_reads_no_training_images(arguments, loads):
    args = arguments("--eval-only", SOLVER__EPOCHS=5, SOLVER__MAX_ITER=7)
    cfg, images, _, _ = setup(args)
    assert images is None and not loads and cfg.SOLVER.MAX_ITER == 7


def test_the_log_has_each_line_once_and_the_schedule(arguments, tmp_path):
    args = arguments(SOLVER__EPOCHS=5)
    for _ in range(2):
        assert len(setup(args).images) == 2
    logging.getLogger("resnest_d2.some").info("of this package")
    text = (tmp_path / "out" / "log.txt").read_text()
    assert text.count("of this package") == 1
    assert text.count("an epoch is 1.0 iterations") == 2  # a run each
    assert "sys.platform" in (tmp_path / "out" / "environment.txt").read_text()


def test_a_folder_in_use_is_left_alone(arguments, tmp_path):
    args = arguments(OUTPUT_DIR=str(tmp_path / "run"))
    process, other = get_context("fork").Pipe()
    holder = get_context("fork").Process(target=hold, args=(str(tmp_path / "run"), process, other))
    holder.start()
    try:
        assert process.recv() == "locked"
        with pytest.raises(FolderInUseError, match=f"in use by process {holder.pid} on "):
            setup(args)
        assert [path.name for path in (tmp_path / "run").iterdir()] == [NAME]
    finally:
        holder.kill()
        holder.join()


def hold(folder, _, pipe):
    lock_folder(folder)
    pipe.send("locked")
    pipe.recv()
