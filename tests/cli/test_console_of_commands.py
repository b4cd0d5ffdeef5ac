"""Lines that train and eval print on a pipe; the whole of a run is in its log.txt."""

import logging
import warnings

import pytest
import small

from resnest_d2 import progress
from resnest_d2.cli import check_data
from resnest_d2.engine import hooks

MASK = "quick_schedules/mask_rcnn_ResNeSt_14_FPN_quick.yaml"
PLANTED = "torch.meshgrid: in an upcoming release"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the data is: seen/."""
    folder = tmp_path_factory.mktemp("work")
    small.write_data(folder / "seen")
    return folder


@pytest.fixture(scope="module")
def run(folder, resnest_d2):
    """A function that runs a command in that folder, whose libraries warn."""

    def after_step(self):
        warnings.warn(PLANTED, UserWarning, stacklevel=1)
        logging.getLogger("detectron2.data").warning("of detectron2")
        if self.trainer.iter == 1:
            logging.getLogger("resnest_d2.data").warning("of ours")

    def call(*arguments):
        small.forget_logs()
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning)
            patch.chdir(folder)
            patch.setattr(hooks.BatchSize, "after_step", after_step)
            done = resnest_d2(*arguments)
        small.forget_logs()
        assert done.exit_code == 0, done.stderr
        assert not set("\r\x1b") & set(done.stdout + done.stderr)
        return done

    return call


def train(run, name, *arguments):
    data = ["--data", "seen/train.json", "seen/images", "--val", "seen/val.json"]
    return run("train", MASK, *data, "--output", name, *small.KEYS, *arguments)


def lines(done):
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]


@pytest.fixture(scope="module")
def trained(folder, run):
    """A run of twenty iterations and four evaluations, and what it printed."""
    opts = "SOLVER.MAX_ITER 20 TEST.EVAL_PERIOD 5 SOLVER.STEPS (16,)".split()
    return folder / "mine", train(run, "mine", *opts)


def test_a_training_prints_a_page(trained):
    output, done = trained
    assert 10 < len((done.stdout + done.stderr).splitlines()) <= 40
    labels = [line.split("  ")[0] for line in done.stdout.splitlines() if line[:1] not in " |"]
    assert [label for label in labels if label] == [
        *("model", "training data", "evaluation data", "classes", "recipe", "device"),
        *("weights", "log", "Average precision, percent, at up to 100 detections per image:"),
        *("weights", "best weights", "report"),
    ]
    steps = [line for line in done.stderr.splitlines() if line.startswith("Iteration ")]
    assert 5 <= len(steps) <= 16
    assert steps[0].startswith("Iteration 2/20, loss ") and steps[-1].endswith(", 00:00 left")
    assert "mask AP" not in steps[0] and "mask AP" in steps[-1]
    assert "nan" not in done.stdout + done.stderr
    assert done.stdout.count("| seen_val") == 2  # boxes and masks, once


def test_warnings_are_printed_if_a_user_can_act_on_them(trained):
    output, done = trained
    assert lines(done).count("warning: of ours") == 1
    log = (output / "log.txt").read_text()
    for text in (PLANTED, "of detectron2", "of ours"):
        assert text in log and (text == "of ours" or text not in done.stdout + done.stderr)


def test_the_log_holds_everything(trained):
    output, done = trained
    log = (output / "log.txt").read_text()
    for text in (
        *("Environment info", "Running with full config", "GeneralizedRCNN(", "total_loss: "),
        *("Average Precision  (AP) @[ IoU=0.50:0.95", "Per-category segm AP", "copypaste: "),
        *("Starting training from iteration 0", "Schedule for 4 images", "model            Mask"),
    ):
        assert text in log and (text[:5] == "model" or text not in done.stdout + done.stderr)
    assert "\x1b" not in log and len(log.splitlines()) > 700


def test_quiet_and_verbose_trainings(run, folder):
    quiet = train(run, "quiet", "--quiet")
    assert lines(quiet)[-1] == "warning: of ours"  # the one on standard error
    assert lines(quiet)[0].startswith("Average precision") and len(lines(quiet)) == 9
    verbose = train(run, "verbose", "--verbose")
    logged = (folder / "verbose" / "log.txt").read_text()
    for text in ("Environment info", "GeneralizedRCNN(", PLANTED, "of detectron2", "of ours"):
        assert text in "\n".join(lines(verbose)) and text in logged
    assert len(lines(verbose)) > 600


def test_evaluations(trained, run):
    output, _ = trained
    short = run("eval", output)
    assert len((short.stdout + short.stderr).splitlines()) <= 25
    assert short.stdout.count("| seen_val") == 2 and "nan" not in short.stdout
    assert short.stdout.count("| circle ") == 1
    quiet = run("eval", output, "--quiet")
    assert short.stdout.endswith(quiet.stdout) and quiet.stdout.startswith("\nAverage precision")
    assert quiet.stderr == short.stderr == ""
    verbose = run("eval", output, "--verbose")
    assert verbose.stdout.endswith(quiet.stdout) and len(lines(verbose)) > 600
    assert "Per-category segm AP" in (output / "eval" / "log.txt").read_text()


def test_quiet_and_verbose_exclude_each_other(folder, resnest_d2):
    done = resnest_d2("train", MASK, "--quiet", "--verbose", "--output", folder / "none")
    assert done.exit_code == 1 and "--quiet and --verbose exclude each other" in done.stderr


@pytest.mark.parametrize("quiet", [False, True])
def test_other_commands_have_a_bar_unless_they_are_quiet(quiet, folder, resnest_d2, monkeypatch):
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    words = ["check-data", folder / "seen" / "train.json", folder / "seen" / "images"]
    done = resnest_d2(*words, *["--quiet"] * quiet)
    assert ("Images" in done.stderr) is not quiet
    assert "0 errors" in done.stdout
    plain = resnest_d2(*words)
    assert plain.stdout == done.stdout


def test_other_commands_hide_warnings_of_libraries(folder, resnest_d2, monkeypatch):
    def warn(*arguments, **kwargs):
        for module in ("torch.functional", "resnest_d2.data"):
            warnings.warn_explicit(f"of {module}", UserWarning, "a.py", 1, module=module)

    monkeypatch.setattr(check_data, "require_coco", warn)
    words = ["check-data", folder / "seen" / "train.json", folder / "seen" / "images"]
    with warnings.catch_warnings(record=True) as seen:
        warnings.filterwarnings("always", category=UserWarning)
        before = warnings.filters[:]
        resnest_d2(*words)
        assert warnings.filters == before
    assert [str(warning.message) for warning in seen] == ["of resnest_d2.data"]
