"""detectron2's checkpointer, made safe and plain-spoken.

Files are read with ``weights_only=True``: a checkpoint from elsewhere cannot run code. What was
loaded, missing and re-initialised is one line, and at hand as a :class:`LoadReport`.
"""

import logging
import os
from typing import Any, NamedTuple

import torch
from detectron2.checkpoint import DetectionCheckpointer

_COUNTER = "num_batches_tracked"  # not used by any norm here, and absent from many files


class LoadReport(NamedTuple):
    """What became of the tensors of a checkpoint and of a model.

    ``reshaped`` holds (name, shape in the file, shape in the model): those tensors of the model
    keep their initial values, as the ``missing`` ones do.
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
        if self.unused:
            parts.append(f"{len(self.unused)} of the file unused ({_by_part(self.unused)})")
        return "; ".join(parts) + "."


def _by_part(names: tuple[str, ...]) -> str:
    """``backbone 3, roi_heads.box_head 2``: how many names each part of a model has."""
    counts: dict[str, int] = {}
    for name in names:
        words = name.split(".")
        part = ".".join(words[: 2 if words[0] == "roi_heads" else 1])
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} {count}" for part, count in counts.items())


class ReportingCheckpointer(DetectionCheckpointer):
    """Checkpointer whose ``report`` says what the last :meth:`load` did; None before."""

    report: LoadReport | None = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict:
        """Load a file; see :class:`detectron2.checkpoint.DetectionCheckpointer`.

        Raises:
            FileNotFoundError: no such file.
            OSError: an address that cannot be fetched.
            ValueError: not a checkpoint, not a safe one, one of another model altogether, or, where
                the state of a training is loaded too, one that does not fit entirely.
        """
        self.report = None
        self._path = path
        everything = (args[0] if args else kwargs.get("checkpointables")) is None
        self._resumes = everything and bool(self.checkpointables)
        if path and "://" not in path and not os.path.isfile(path):
            raise FileNotFoundError(f"The checkpoint {path} does not exist.")
        try:
            return super().load(path, *args, **kwargs)
        except OSError as error:
            if "://" not in path:
                raise
            raise OSError(
                f"{path} cannot be fetched ({error}). Without a network, download it elsewhere and "
                "set MODEL.WEIGHTS to the file; MODEL.WEIGHTS '' starts from random weights."
            ) from error
        finally:
            self._parsed_url_during_load = None  # else a failed load forbids the next

    def _load_file(self, filename: str) -> dict:
        if filename.endswith((".pkl", ".pyth")):
            raise ValueError(
                f"{filename} is a pickle, which can run any code when it is read; give a .pth file "
                "of tensors."
            )
        try:
            loaded = torch.load(filename, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for broken files
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{filename} is not a checkpoint that can be read safely (empty, cut off, not of "
                f"torch, or with code in it): {reason}"
            ) from error
        weights = loaded.get("model", loaded) if isinstance(loaded, dict) else None
        if not isinstance(weights, dict) or not weights:
            raise ValueError(f"{filename} holds no dictionary of tensors, but {type(loaded)}.")
        return loaded if "model" in loaded else {"model": loaded}

    def _load_model(self, checkpoint: dict) -> Any:
        names = list(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        own = [name for name in self.model.state_dict() if _COUNTER not in name]
        reshaped = tuple(incompatible.incorrect_shapes)
        changed = {name for name, _, _ in reshaped}
        missing = [n for n in incompatible.missing_keys if _COUNTER not in n and n not in changed]
        self.report = LoadReport(
            path=self._path,
            num_loaded=len(own) - len(missing) - len(reshaped),
            missing=tuple(missing),
            reshaped=reshaped,
            unused=tuple(n for n in incompatible.unexpected_keys if _COUNTER not in n),
        )
        if not self.report.num_loaded:
            raise ValueError(
                f"{self._path} is a checkpoint of another model: not one of its {len(names)} "
                f"tensors fits. It has names like {names[0]}, this model like {own[0]}."
            )
        return incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        del incompatible  # the report says it in one line
        logging.getLogger(__name__).info(str(self.report))
        # The optimizer's state comes next and fits only the same parameters.
        if self._resumes and (self.report.unused or not self.report.complete):
            raise ValueError(
                f"A run cannot be resumed with another model. {self.report} Take the config of the "
                "run (config.yaml beside the checkpoint), or start a new one in another OUTPUT_DIR."
            )
