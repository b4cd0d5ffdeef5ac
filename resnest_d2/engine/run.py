"""One run of train_net.py: training with evaluation, or evaluation alone."""

import argparse
import logging
import signal
import sys
import time
from multiprocessing.queues import SimpleQueue

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessException

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.config import check_config, check_trained
from resnest_d2.data.coco import release_datasets
from resnest_d2.deploy import optimize_for_inference
from resnest_d2.errors import UserError, report_defect

from .evaluation import check_evaluation
from .metrics import by_dataset, record_weights
from .plan import describe_training
from .reporting import report
from .setup import setup
from .trainer import Trainer


def argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """detectron2's parser of train_net.py's command line, with the options of this package.

    Args:
        epilog: examples, shown below the help.
    """
    parser = default_argument_parser(epilog)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check data and config, print what a training would do, write config.yaml, and stop",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run that is in OUTPUT_DIR"
    )
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    return parser


def launch(args: argparse.Namespace) -> None:
    """Calls :func:`run` in --num-gpus processes, on the CPU if there are no GPUs.

    Raises:
        UserError: more processes than GPUs on this machine, or a user error in one of several
            processes.
        Defect: any other error in one of several processes, whose traceback is in its log.
        KeyboardInterrupt: stopped by a signal.
    """
    if args.num_gpus < 1:
        raise UserError(f"--num-gpus is {args.num_gpus}; choose 1 or more (1 for the CPU, too).")
    gpus = torch.cuda.device_count()
    if 0 < gpus < args.num_gpus:
        raise UserError(f"--num-gpus is {args.num_gpus}, but this machine has {gpus}.")
    if args.num_gpus * args.num_machines == 1:
        run(args)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as in run; passed to the processes
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    try:
        detectron2_launch(
            _run_in_child,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args, errors),
        )
    except KeyboardInterrupt:
        time.sleep(1)  # a terminal's Ctrl-C also reaches the processes, which need only one signal
        for process in torch.multiprocessing.active_children():
            process.terminate()
        raise
    except ProcessException as error:
        if not errors.empty():
            raise errors.get() from None  # the first error, which stopped the other processes
        if getattr(error, "signal_name", None) == "SIGKILL":
            raise UserError(
                f"Process {error.error_index} was killed: the system may be out of memory. Lower "
                "SOLVER.IMS_PER_BATCH, DATALOADER.NUM_WORKERS or --num-gpus."
            ) from error
        raise


def _run_in_child(args: argparse.Namespace, errors: SimpleQueue) -> None:
    """Calls :func:`run` and sends its error to the parent, which would only see the exit code."""
    try:
        run(args)
    except KeyboardInterrupt:
        errors.put(KeyboardInterrupt())
        sys.exit(130)
    except UserError as error:
        errors.put(UserError(str(error)))
        sys.exit(1)
    except Exception as error:
        errors.put(report_defect(error))
        sys.exit(1)


def run(args: argparse.Namespace) -> dict | None:
    """Trains or evaluates in the current process, depending on the command line.

    Args:
        args: arguments of :func:`argument_parser`.

    Returns:
        Metrics of the last evaluation, if there was one.
    """
    cfg, images, given, anchors = setup(args)
    if args.dry_run:
        if comm.is_main_process():
            processes = comm.get_world_size()
            print(
                describe_training(
                    cfg, images or [], processes=processes, given=given, anchors=anchors
                )
            )
        return None
    if args.eval_only:
        return evaluate(cfg, resume=args.resume)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # sent by clusters to stop jobs
    trainer = Trainer(cfg, images=images)
    del images  # the loader has a copy
    trainer.resume_or_load(resume=args.resume)
    if args.resume and trainer.start_iter == 0:
        logging.getLogger(__name__).info(
            f"No checkpoint in {cfg.OUTPUT_DIR}: training from the start."
        )
    return trainer.train()


def evaluate(cfg: CfgNode, *, resume: bool = False) -> dict:
    """Evaluates MODEL.WEIGHTS, or the last checkpoint in OUTPUT_DIR if ``resume``.

    Raises:
        UserError: no data, no checkpoint, or one that lacks parts of the detector, for which the
            results would be meaningless.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("Evaluation without data: DATASETS.TEST is empty.")
    check_config(cfg)
    check_trained(cfg)
    check_evaluation(cfg)
    release_datasets({*cfg.DATASETS.TRAIN} - {*cfg.DATASETS.TEST})
    model = Trainer.build_model(cfg)
    checkpointer = ReportingCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    resume = resume and checkpointer.has_checkpoint()
    path = checkpointer.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
    loaded = checkpointer.resume_or_load(path, resume=resume)
    if checkpointer.report is None:
        raise UserError(
            "Evaluation without a checkpoint: MODEL.WEIGHTS is empty; set it to a file. "
            "train_net.py --eval-only --resume uses the last checkpoint in OUTPUT_DIR."
        )
    checkpointer.report.check_complete()
    keys = cfg.MODEL.DEPLOY
    if keys.ENABLED:
        model = optimize_for_inference(model.eval(), backend=keys.BACKEND, amp=keys.AMP)
    results = Trainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        names = cfg.DATASETS.TEST
        plain, augmented = (
            by_dataset(r, names) for r in (results, Trainer.test_with_tta(cfg, model))
        )
        both = {name: {**plain[name], **augmented[name]} for name in names}
        results = both[names[0]] if len(names) == 1 else both
    trained = loaded["iteration"] + 1 if "iteration" in loaded else None
    record_weights(cfg.OUTPUT_DIR, file=path, trained=trained, training=False)
    report(cfg)
    return results
