"""Table of the published models, read from models.yaml."""

import difflib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from resnest_d2.errors import UserError

if TYPE_CHECKING:
    from resnest_d2.checkpoint import WeightsOrigin

TABLE = Path(__file__).with_name("models.yaml")


class Model(NamedTuple):
    """One row of the table; models.yaml explains the columns."""

    id: str
    task: str
    depth: int
    config: Any
    weights: str
    source: str
    sha256: str | None = None
    box_ap: float | None = None
    mask_ap: float | None = None
    pq: float | None = None
    top1: float | None = None
    memory: float | None = None

    @property
    def is_backbone(self) -> bool:
        """Whether the model is a pretrained backbone and not a detector."""
        return self.task == "backbone"

    @property
    def path(self) -> str:
        """Value for MODEL.WEIGHTS."""
        return f"resnest://{self.id}"

    @property
    def origin(self) -> "WeightsOrigin":
        """Where its weights come from."""
        from resnest_d2.checkpoint import WeightsOrigin  # torch; lists and completion need none

        if self.source == "timm":
            return WeightsOrigin(name=self.path, timm=self.weights)
        return WeightsOrigin(name=self.path, url=self.weights)

    @property
    def aliases(self) -> set[str]:
        """Other names: those of its config and its published file, with and without hash."""
        if self.source == "timm":
            return {f"timm/{self.weights}"}
        file = self.origin.files[0]
        stem = file.removesuffix(".pth")
        names = {file, stem, stem.removesuffix(f"-{self.sha256}")}
        if self.source == "mmdetection":  # their files have a date, their configs do not
            names.add(stem.rsplit("_", 2)[0])
        if not self.is_backbone:
            names |= {self.config, Path(self.config).stem, self.config.removesuffix(".yaml")}
        return names - {self.id}


@functools.cache
def models() -> tuple[Model, ...]:
    """All rows of the table, in order."""
    return tuple(Model(**row) for row in yaml.safe_load(TABLE.read_text()))


def find_model(name: str) -> Model:
    """Looks up a model by id or alias.

    Raises:
        UserError: there is no such model; the message has the closest names.
    """
    for model in models():
        if name == model.id or name in model.aliases:
            return model
    ids = [model.id for model in models()]
    known = [*ids, *(alias for model in models() for alias in model.aliases)]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or ids[:3]
    raise UserError(
        f"There is no published model {name!r}; close names: {', '.join(close)}. "
        "resnest_d2.model_zoo.list_models() lists all."
    )


def published_at(url: str) -> "WeightsOrigin | None":
    """Origin of a published file by its address, which may be another than today's.

    A file is known by its name if that has a hash; else by its address.
    """
    from resnest_d2.checkpoint import WeightsOrigin

    asked = WeightsOrigin(name=url, url=url)
    for model in models():
        if model.source == "timm":
            continue
        same_file = asked.hash_head and asked.files[0] == model.origin.files[0]
        if same_file or url.partition("://")[2] == model.weights.partition("://")[2]:
            return model.origin
    return None


def list_models(*, task: str | None = None, depth: int | None = None) -> list[str]:
    """Ids of the published models.

    Args:
        task: "detection", "instance segmentation", "panoptic segmentation" or "backbone".
        depth: depth of the backbone, such as 50.

    Raises:
        UserError: no model has this task or depth.
    """
    for what, value in (("task", task), ("depth", depth)):
        choices = list(dict.fromkeys(getattr(model, what) for model in models()))
        if value is not None and value not in choices:
            raise UserError(f"No published model has {what} {value!r}; choose from {choices}.")
    return [
        model.id
        for model in models()
        if task in (None, model.task) and depth in (None, model.depth)
    ]
