"""Checkpointer that reads files safely, in any known layout, and reports what was loaded.

Files cannot run code. What was loaded, is missing or was re-initialised is logged in one line and
available as a :class:`LoadReport`.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlparse

from detectron2.layers import FrozenBatchNorm2d

from resnest_d2.compat.detectron import forget_failed_load
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.modeling import ARCHS

from .convert import COUNTER, blocks_of, convert, depth_of, has_attention
from .layouts import recognise
from .origins import file_at
from .reading import find_weights, read_checkpoint, refuse_pickle
from .saving import SavingCheckpointer

_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/"  # of detectron2://


class LoadReport(NamedTuple):
    """Result of loading a checkpoint into a model.

    ``reshaped`` holds (name, shape in the file, shape in the model). These tensors of the model
    keep their initial values, like the ``missing`` ones.
    """

    path: str
    num_loaded: int
    missing: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    unused: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model came from the file."""
        return not self.missing and not self.reshaped

    def check_complete(self) -> None:
        """Checks that no part of the detector is random, because its results would be meaningless.

        Raises:
            UserError: the file lacks tensors; the message lists them.
        """
        if not self.complete:
            raise UserError(
                f"resnest_d2 refuses an incomplete detector. {self} Give the checkpoint of a "
                "trained detector of this config, not of a backbone."
            )

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.num_loaded} tensors loaded"]
        if self.missing:
            parts.append(f"{len(self.missing)} missing in the file ({_by_part(self.missing)})")
        if self.reshaped:
            name, theirs, ours = self.reshaped[0]
            more = f" and {len(self.reshaped) - 1} more" if len(self.reshaped) > 1 else ""
            parts.append(
                f"{len(self.reshaped)} re-initialised for their shape ({name}: {theirs} in the "
                f"file, {ours} here{more})"
            )
            scores = [r for r in self.reshaped if r[0].endswith("cls_score.weight")]
            if scores:  # background has a score too
                parts.append(f"{scores[0][1][0] - 1} classes there, {scores[0][2][0] - 1} here")
        if self.unused:
            parts.append(f"{len(self.unused)} of the file unused ({_by_part(self.unused)})")
        return "; ".join(parts) + "."


def _by_part(names: tuple[str, ...]) -> str:
    """Number of names in each part of a model, such as ``backbone 3, roi_heads.box_head 2``."""
    counts: dict[str, int] = {}
    for name in names:
        words = name.split(".")
        part = ".".join(words[: 2 if words[0] == "roi_heads" else 1])
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} {count}" for part, count in counts.items())


def _check_same_backbone(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> None:
    """Checks that depth, stem and block type match; else only the first blocks would be loaded.

    Args:
        theirs: tensors in the file by name, in this project's layout.
        ours: tensors of the model.
        path: path of the file, for the message.

    Raises:
        UserError: they do not match. The message has both, and the key to set.
    """
    file_blocks, model_blocks = blocks_of(theirs), blocks_of(ours)
    if not any(file_blocks) or not any(model_blocks):
        return
    if file_blocks != model_blocks:
        depth, own_depth = depth_of(theirs), depth_of(ours)
        advice = "use the config it was trained with"
        if depth:
            stem = ARCHS[depth].stem_channels
            advice = f"set MODEL.RESNETS.DEPTH {depth} and STEM_OUT_CHANNELS {stem}"
        raise UserError(
            f"{path} has the {file_blocks} blocks of depth {depth or 'unknown'}, this model the "
            f"{model_blocks} of depth {own_depth or 'unknown'}; {advice}."
        )
    if has_attention(ours) and not has_attention(theirs):
        raise UserError(
            f"{path} is a plain ResNet, whose blocks have no split attention; this model is a "
            "ResNeSt. Give a ResNeSt's checkpoint, or set MODEL.RESNETS.RADIX 0."
        )
    file_stem, model_stem = _stem_channels(theirs), _stem_channels(ours)
    if None not in (file_stem, model_stem) and file_stem != model_stem:
        raise UserError(
            f"{path} has a stem of {file_stem} channels, this model one of {model_stem}; set "
            f"MODEL.RESNETS.STEM_OUT_CHANNELS {file_stem}."
        )


def _stem_channels(tensors: Mapping[str, Any]) -> int | None:
    """Output channels of a deep stem; None where there is none."""
    names = (name for name in tensors if name.endswith("stem.conv1_3.weight"))
    return next((len(tensors[name]) for name in names), None)


def _local(path: str) -> str:
    """Path of a file at an http or https address; other paths as they are.

    Raises:
        DownloadError, UserError: see :func:`.origins.file_at`; or an address of another protocol
            that detectron2 would download from, or of a pickle of its old zoo.
    """
    try:
        scheme = urlparse(path).scheme
    except ValueError as error:  # brackets of no IPv6 address
        raise UserError(f"{path!r} is no address: {error}.") from error
    if scheme == "catalog":
        refuse_pickle(f"{path}.pkl")
    if scheme == "ftp":
        raise UserError(f"{path} is no http or https address; download it and give the file.")
    if scheme == "detectron2":
        path = _DETECTRON2 + path.removeprefix("detectron2://")
    elif scheme not in ("http", "https"):
        return path
    return file_at(re.sub(r"[?&]matching_heuristics=True", "", path))


class ReportingCheckpointer(SavingCheckpointer):
    """Checkpointer with a ``report`` of the last :meth:`load`, None before the first."""

    report: LoadReport | None = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict:
        """Loads a file, see :class:`detectron2.checkpoint.DetectionCheckpointer`.

        Raises:
            MissingFileError: no such file.
            DownloadError: an address that cannot be fetched.
            UserError: not a checkpoint, not a safe one, one of another model altogether, or, where
                the state of a training is loaded too, one that does not fit entirely.
        """
        self.report = None
        self._path = path
        path = _local(path)
        everything = (args[0] if args else kwargs.get("checkpointables")) is None
        self._resumes = everything and bool(self.checkpointables)
        address = len(urlparse(path).scheme) > 1 if path else False  # not a drive's letter
        if path and not address and not os.path.isfile(path):
            raise MissingFileError(f"The checkpoint {path} does not exist.")
        try:
            return super().load(path, *args, **kwargs)
        finally:
            forget_failed_load(self)

    def _load_file(self, filename: str) -> dict:
        checkpoint = read_checkpoint(filename)
        weights = find_weights(checkpoint, filename)
        rest = checkpoint if isinstance(checkpoint.get("model"), dict) else {}
        layout, prefix = recognise(weights) or (None, None)
        bare = prefix == ""
        if layout and layout.backbone:
            conversion = convert(weights, origin=filename)
            logging.getLogger(__name__).info(f"{filename}: {conversion}")
            weights, bare = conversion.weights, conversion.bare
        if bare:  # detectron2 matches it to the detector's backbone
            rest = {**rest, "matching_heuristics": True}
        return {**rest, "model": weights}

    def _load_model(self, checkpoint: dict) -> Any:
        lacking = [name for name in self.checkpointables if name not in checkpoint]
        if self._resumes and lacking:
            raise UserError(
                f"{self._path} has weights, but no state of a training ({', '.join(lacking)}), so "
                "no run can be resumed from it. Write the name of another checkpoint of the run "
                "to last_checkpoint, or start a new run with it as MODEL.WEIGHTS."
            )
        names = list(checkpoint["model"])
        _check_same_backbone(checkpoint["model"], self.model.state_dict(), self._path)
        incompatible = super()._load_model(checkpoint)
        own = [name for name in self.model.state_dict() if COUNTER not in name]
        reshaped = tuple(incompatible.incorrect_shapes)
        changed = {name for name, _, _ in reshaped}
        absent = {*incompatible.missing_keys, *self._filled_in(incompatible.missing_keys)}
        missing = [name for name in own if name in absent and name not in changed]
        self.report = LoadReport(
            path=self._path,
            num_loaded=len(own) - len(missing) - len(reshaped),
            missing=tuple(missing),
            reshaped=reshaped,
            unused=tuple(n for n in incompatible.unexpected_keys if COUNTER not in n),
        )
        if not self.report.num_loaded:
            raise UserError(
                f"{self._path} is a checkpoint of another model: not one of its {len(names)} "
                f"tensors fits. It has names like {names[0]}, this model like {own[0]}."
            )
        return incompatible

    def _filled_in(self, missing: Iterable[str]) -> list[str]:
        """Statistics of frozen norms, which detectron2 fills in where a file has none of a norm."""
        norms = {name for name, m in self.model.named_modules() if isinstance(m, FrozenBatchNorm2d)}
        lacking = {name.removesuffix(".weight") for name in missing if name.endswith(".weight")}
        return [f"{n}.{s}" for n in norms & lacking for s in ("running_mean", "running_var")]

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        del incompatible  # the report says it in one line
        assert self.report is not None
        logging.getLogger(__name__).info(str(self.report))
        # The optimizer's state is loaded next and needs the same parameters.
        if self._resumes and (self.report.unused or not self.report.complete):
            raise UserError(
                f"A run cannot be resumed with another model. {self.report} Use the config of the "
                "run (config.yaml beside the checkpoint), or start a new one in another OUTPUT_DIR."
            )
