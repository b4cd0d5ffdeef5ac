"""What the commands share: data by its files, options that set keys, completion.

A command's module imports the rest of the package only inside its functions, so that help and
completion do not wait for torch. For the same reason the choices of an option are written out; a
test compares them with the package's tables.
"""

import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import typer

from resnest_d2.errors import UserError, printable
from resnest_d2.model_zoo import models
from resnest_d2.shipped import list_configs

P = ParamSpec("P")
T = TypeVar("T")
_BUILT_IN = ("coco_", "keypoints_coco_", "lvis_", "cityscapes_", "ade20k_", "voc_20")


def complete_config(incomplete: str) -> list[str]:
    """Configs and published detectors that start with the text; the shell completes files."""
    detectors = [model.id for model in models() if not model.is_backbone]
    return [name for name in (*list_configs(), *detectors) if name.startswith(incomplete)]


def say(text: str, *, err: bool = False) -> None:
    """Print a line or a table, whose names may be of anybody's files.

    Args:
        text: what to print; control characters in it are escaped.
        err: print to standard error.
    """
    typer.echo(printable(text, keep="\n\t"), err=err)


def prepare() -> None:
    """Register the package with detectron2, before a command computes."""
    from resnest_d2 import builtin  # noqa: F401


def in_group(command: Callable[P, T]) -> Callable[P, T]:
    """A command that first joins the group of torchrun or srun: an error is then printed once."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        from resnest_d2.engine import joined_group

        with joined_group():
            return command(*args, **kwargs)

    return run


def keep_memory(device: str) -> None:
    """Let this process use freed memory again if it will compute on a CPU.

    Args:
        device: torch's name, or "auto" for the GPU where there is one.
    """
    import torch

    from resnest_d2.deploy import keep_freed_memory

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        keep_freed_memory()


def require_coco(json_file: Path) -> None:
    """Raises the error that names the command to convert annotations of another format."""
    from resnest_d2.data.convert import require_coco as require

    require(json_file)


def dataset(json_file: str, images: str, *, before: str = "") -> list[str]:
    """Entry of DATASETS.COCO, named after its file.

    cells/val.json and cells_val.json in any folder, as import-data writes it, become cells_val. A
    name like those that detectron2 registers itself gets the folder's before it.

    Args:
        json_file: COCO annotations.
        images: folder of their images; "" to look for it.
        before: folder of the images of the set before, where these may be, too.

    Raises:
        UserError: annotations of another format than COCO, or images that are not found.
    """
    path = Path(json_file)
    require_coco(path)
    if not images:
        images = _find_images(path, before)
    path = path.absolute()
    name = path.stem
    if not name.endswith(("_train", "_val", "_test")) or name.startswith(_BUILT_IN):
        name = f"{path.parent.name}_{name}"
    return [name, str(path), str(Path(images).absolute())]


def _find_images(json_file: Path, before: str) -> str:
    """Folder of the first image of an annotation file; the choice is printed.

    Raises:
        UserError: it is in none of the usual folders.
    """
    from resnest_d2.data.annotations import load_annotations

    beside = json_file.parent
    places = [beside / "images", beside / json_file.stem, beside, beside.parent / "images"]
    places = [*([Path(before)] if before else []), *places]
    content = load_annotations(str(json_file))
    images = content.get("images") if isinstance(content, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    name = first.get("file_name") if isinstance(first, dict) else None
    for place in places:
        if isinstance(name, str) and (place / name).is_file():
            if str(place) != before:
                say(f"The images of {json_file} are in {place}.", err=True)
            return str(place)
    if before:  # as it was given: the checks of the data name what is missing there
        return before
    raise UserError(
        f"The images of {json_file} are not in {', '.join(map(str, places))}; give their folder "
        "after it."
    )


def next_training(train: tuple[str, str], val: tuple[str, str] | None, *, masks: bool) -> str:
    """The command to run after annotations were prepared.

    Args:
        train: annotation file to train on, and folder of its images.
        val: those to evaluate on, if there are any.
        masks: whether to train a detector of masks.
    """
    kind = "mask" if masks else "faster"
    command = ["resnest-d2", "train", f"quick_schedules/{kind}_rcnn_ResNeSt_14_FPN_quick.yaml"]
    command += ["--data", *train]
    if val:
        command += ["--val", *val] if val[1] != train[1] else ["--val", val[0]]
    return f"Next: {shlex.join([*command, '--output', 'output/mine'])}"


def with_flags(opts: Sequence[str] | None, flags: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Appends the keys set by options of a command to its KEY VALUE pairs.

    Args:
        opts: pairs from the command line.
        flags: option -> key that it sets -> value, for every option that was given.

    Raises:
        UserError: an option and a pair set the same key.
    """
    opts = list(opts or ())
    for flag, keys in flags.items():
        for key in keys:
            if key in opts[::2]:
                raise UserError(f"{flag} and {key} both set {key}; leave one of them out.")
        for key, value in keys.items():
            # Quotes keep a folder named 2024 a string.
            opts += [key, repr(str(value)) if isinstance(value, str | Path) else str(value)]
    return opts
