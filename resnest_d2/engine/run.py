"""One run of train_net.py: training with evaluation, or evaluation alone."""

import argparse
import functools
import logging
import os
import signal
from urllib.parse import urlsplit

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.utils import comm

from resnest_d2.checkpoint import ReportingCheckpointer
from resnest_d2.config import check_config, check_trained
from resnest_d2.data.coco import release_datasets
from resnest_d2.errors import UserError

from .cluster import find_group, is_restart
from .console import SHOWN
from .deployed import Deployed, build_deployed
from .evaluation import check_evaluation
from .folder_lock import unlocking_folders
from .logs import ending_logs
from .metrics import by_dataset, record_weights
from .plan import describe_training, summarize_evaluation, summarize_training
from .processes import joined_group
from .reporting import report
from .setup import setup
from .spawning import Machines, spawn
from .summary import show_beginning, show_evaluation, show_training
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
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--quiet", action="store_true", help="print warnings, errors and the results only"
    )
    shown.add_argument("--verbose", action="store_true", help="print all that log.txt has")
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    return parser


def run_arguments(config_file: str, opts: list[str]) -> argparse.Namespace:
    """Arguments of a run in one process with a config and its KEY VALUE pairs."""
    args = argument_parser().parse_args(["--config-file", config_file, "--dist-url", "auto"])
    args.opts = opts
    return args


def launch(args: argparse.Namespace) -> None:
    """Calls :func:`run` in this process, which may be one of a group, or in --num-gpus processes.

    A group is that of torchrun, an elastic agent or SLURM's srun; a run that one of these has
    restarted is resumed. Without GPUs the processes compute on the CPU.

    Raises:
        UserError: contradictory options, more processes than GPUs on this machine, or a user error
            in one of several processes.
        Defect: any other error in one of several processes, whose traceback is in its log.
        KeyboardInterrupt: stopped by a signal.
    """
    if args.num_gpus < 1:
        raise UserError(f"--num-gpus is {args.num_gpus}; choose 1 or more (1 for the CPU, too).")
    gpus = torch.cuda.device_count()
    if 0 < gpus < args.num_gpus:
        raise UserError(f"--num-gpus is {args.num_gpus}, but this machine has {gpus}.")
    if is_restart(os.environ) and not (args.eval_only or args.dry_run):
        args.resume, args.overwrite = True, False
    group = find_group(os.environ)
    if args.num_machines > 1 and (group is None or group.launcher == "srun"):
        spawn(functools.partial(run, args), args.num_gpus, machines=_machines(args))
        return
    with joined_group():
        if group is not None and args.num_gpus * args.num_machines > 1:
            raise UserError(
                f"--num-gpus and --num-machines are for programs that start their processes; "
                f"{group.launcher} has started {group.size} already: leave them out."
            )
        if args.num_gpus == 1:
            run(args)
        else:
            spawn(functools.partial(run, args), args.num_gpus, machines=_machines(args))


def _machines(args: argparse.Namespace) -> Machines:
    """The machines of detectron2's options.

    Raises:
        UserError: a rank that no machine has, or no address for several machines.
    """
    number, rank, url = args.num_machines, args.machine_rank, args.dist_url
    if not 0 <= rank < number:
        raise UserError(
            f"--machine-rank is {rank}, but --num-machines is {number}: ranks begin at 0 and end "
            "below it."
        )
    here = url == "auto" or urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    if number > 1 and url in ("auto", argument_parser().get_default("dist_url")):
        raise UserError(
            f"--dist-url is {url}, which other machines do not find; give the address of machine 0 "
            "and a free port of it, as tcp://HOST:PORT."
        )
    return Machines(number, rank, "" if here and number == 1 else url)


@unlocking_folders()
@ending_logs()
def run(args: argparse.Namespace) -> dict | None:
    """Trains or evaluates in the current process, depending on the command line.

    Args:
        args: arguments of :func:`argument_parser`.

    Returns:
        Metrics of the last evaluation, if there was one.
    """
    cfg, images, given, anchors = setup(args)
    processes = comm.get_world_size()
    if args.dry_run:
        if comm.is_main_process():
            print(
                describe_training(
                    cfg, images or [], processes=processes, given=given, anchors=anchors
                )
            )
        return None
    if args.eval_only:
        return evaluate(cfg, resume=args.resume)
    if comm.get_world_size() == 1:  # the members of a group have a handler
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # sent by clusters to stop jobs
    trainer = Trainer(cfg, images=images)
    facts = summarize_training(
        cfg, images or [], model=trainer.model, processes=processes, given=given
    )
    del images  # the loader has a copy
    trainer.resume_or_load(resume=args.resume)
    if args.resume and trainer.start_iter == 0:
        logging.getLogger(__name__).info(
            f"No checkpoint in {cfg.OUTPUT_DIR}: training from the start.", extra=SHOWN
        )
    loaded = str(trainer.checkpointer.report or "random").removesuffix(".")
    resumed = f"; resumed after {trainer.start_iter} iterations" if trainer.start_iter else ""
    show_beginning(facts, starts_from=f"{loaded}{resumed}", folder=cfg.OUTPUT_DIR)
    results = trainer.train()
    show_training(cfg)
    return results


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
    facts = summarize_evaluation(cfg, processes=comm.get_world_size())
    show_beginning(
        facts, starts_from=str(checkpointer.report).removesuffix("."), folder=cfg.OUTPUT_DIR
    )
    tested = Deployed(cfg, model)
    if cfg.MODEL.DEPLOY.ENABLED:
        model.eval()
        tested = build_deployed(cfg, model, weights=path)
        model = tested.model
    results = Trainer.test(tested.cfg, model)
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
    show_evaluation(cfg)
    return results
