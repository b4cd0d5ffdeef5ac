"""How a training stops and is resumed: detectron2's DefaultTrainer with exact checkpoints.

Signals wait until an iteration is complete. They act while data is loaded, and in evaluations,
which a resumed run does again.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from resnest_d2.errors import UserError
from resnest_d2.files import WriteError
from resnest_d2.signals import signals_wait

from . import hooks
from .console import RESULT
from .earlier_run import set_aside
from .folder_lock import with_locked_folder
from .guards import warn_of_finished_run
from .logs import tracebacks_in_file
from .stopping import in_plain_words, undisturbed


class Evaluation(EvalHook):
    """EvalHook that does not evaluate when a run is stopped in its last iteration."""

    def after_train(self) -> None:
        """Evaluates at the end of the training."""
        if self.trainer.iter >= self.trainer.max_iter:
            super().after_train()


class ResumableTrainer(DefaultTrainer):
    """DefaultTrainer whose interrupted runs continue as if they had not been interrupted."""

    # Set by build_hooks of the subclass.
    _state: hooks.TrainingState
    _watch: hooks.StepWatch
    _after_checkpoint: Sequence[HookBase]  # the hooks behind the one that saves checkpoints
    _silent_writers: Sequence[EventWriter]

    def resume_or_load(self, resume: bool = True) -> None:
        """See :class:`DefaultTrainer`; raises as :meth:`ReportingCheckpointer.load`."""
        super().resume_or_load(resume)
        if self.start_iter > 0:
            self._state.complete(self.start_iter, self.cfg.SOLVER.IMS_PER_BATCH)

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads the state of a training.

        Raises:
            UserError: it does not fit this training.
        """
        own = self.state_dict()
        if fault := _fault(state_dict, own, self.optimizer):
            raise UserError(
                f"{self.checkpointer.report.path} cannot be resumed: {fault}. Use the config of "
                "its run (config.yaml beside it), or start a new run with it as MODEL.WEIGHTS."
            )
        steps = state_dict["_trainer"]
        if "grad_scaler" in own["_trainer"] and "grad_scaler" not in steps:  # AMP is new
            steps["grad_scaler"] = own["_trainer"]["grad_scaler"]
        super().load_state_dict(state_dict)

    def before_train(self) -> None:
        """Restores the metrics of a resumed run, and finishes its last iteration."""
        self._state.restore_metrics(self.storage, self._silent_writers)
        super().before_train()
        if self._state.unfinished:
            self.iter = self.storage.iter = self.start_iter - 1
            for hook in self._after_checkpoint:
                hook.after_step()
            self.iter = self.storage.iter = self.start_iter

    def after_train(self) -> None:
        """Ends the training; the iteration of the end is that of a run without interruption."""
        self.iter = min(self.iter, max(self.max_iter, self.start_iter))
        super().after_train()

    @with_locked_folder
    def train(self) -> dict | None:
        """Trains; saves a checkpoint to resume from if the run is stopped or cannot read its data.

        Raises:
            DivergedError: a loss, gradient or weight is not finite; no checkpoint is saved.
            KeyboardInterrupt: stopped by a signal to this process or its data workers.
            WriteError, UserError: no file can be written, no image read, or no folder locked.
        """
        warn_of_finished_run(self.start_iter, self.max_iter)
        if self.start_iter == 0 and comm.is_main_process():
            set_aside(self.cfg.OUTPUT_DIR)
        try:
            with signals_wait(), tracebacks_in_file(), contextlib.suppress(hooks.EarlyStop):
                return super().train()
            return None
        except WriteError:
            raise  # another attempt would fail too
        except (KeyboardInterrupt, Exception) as error:
            if hooks.is_nonfinite(error):
                last = self.checkpointer.get_checkpoint_file()
                raise self._watch.explain(
                    error, self.cfg, storage=self.storage, last_checkpoint=last
                ) from error
            plain = in_plain_words(error)
            self._save_stopped()
            if plain is error:
                raise
            raise plain from error

    def _save_stopped(self) -> None:
        finished = self.scheduler.last_epoch  # one step at the end of every iteration
        if finished > self.start_iter and comm.is_main_process():  # all have the same weights
            self.iter = finished - 1  # saved as the last finished iteration
            last = finished >= self.max_iter
            with undisturbed():
                self.checkpointer.save(
                    "model_final" if last else f"model_{self.iter:07d}", iteration=self.iter
                )
            logging.getLogger(__name__).info(
                f"Stopped after {finished} iterations; --resume continues from there.",
                extra=RESULT,
            )


def _fault(state: Any, own: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> str | None:
    """Why a state of a training does not fit; None if it does."""
    iteration = state.get("iteration") if isinstance(state, Mapping) else None
    if not isinstance(iteration, int) or iteration < 0:
        return "the state of its training has no number of iterations"
    hook_states = state.get("hooks", {})
    steps = state.get("_trainer")
    saved = steps.get("optimizer") if isinstance(steps, Mapping) else None
    if not isinstance(saved, Mapping) or not isinstance(hook_states, Mapping):
        return "the state of its training has no optimizer or no hooks"
    groups, slots = saved.get("param_groups"), saved.get("state")
    if not isinstance(groups, list) or not isinstance(slots, Mapping):
        return "the state of its optimizer is damaged"
    ours = optimizer.param_groups
    theirs, sizes = ([len(g["params"]) for g in part] for part in (groups, ours))
    if theirs != sizes:
        return f"its optimizer has groups of {theirs} parameters, this one of {sizes}"
    for key in ("momentum", "betas"):
        if any((key in a) != (key in b) for a, b in zip(groups, ours, strict=True)):
            return (
                f"it was trained with an optimizer of another kind than {type(optimizer).__name__}"
            )
    numbers = [number for group in groups for number in group["params"]]
    parameters = [parameter for group in ours for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        for name, value in slots.get(number, {}).items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                return (
                    f"{name} of its optimizer is {tuple(value.shape)} for a parameter of "
                    f"{tuple(parameter.shape)}"
                )
    known = own["hooks"]["TrainingState"].keys()
    lacking = known - hook_states.get("TrainingState", own["hooks"]["TrainingState"]).keys()
    return f"the state of its training lacks {', '.join(sorted(lacking))}" if lacking else None
