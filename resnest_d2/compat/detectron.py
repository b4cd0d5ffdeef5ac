"""The seams to detectron2, and to fvcore and iopath below it.

detectron2's main branch still calls itself 0.6, as the release of 2021 does, so that features are
looked for and versions are not compared.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from resnest_d2.errors import UserError

from .replacing import replaced

if TYPE_CHECKING:
    from pycocotools.coco import COCO

# Came on 2023-03-06 (commit b33e8134), the youngest of what this package uses.
_FEATURE = b"def check_if_dynamo_compiling"

# Methods with an underscore that classes of this package override or call, by the class that has
# them: the places that these libraries leave to their subclasses.
EXTENSION_POINTS = {
    "detectron2.modeling.roi_heads:CascadeROIHeads": (
        "_create_proposals_from_boxes",
        "_forward_box",
        "_forward_keypoint",
        "_forward_mask",
        "_init_box_head",
        "_init_mask_head",
        "_match_and_label_boxes",
        "_run_stage",
    ),
    "detectron2.checkpoint:DetectionCheckpointer": (
        "_load_file",
        "_load_model",
        "_log_incompatible_keys",
    ),
    "detectron2.data:DatasetMapper": ("_transform_annotations",),
    "detectron2.utils.file_io:PathHandler": (
        "_check_kwargs",
        "_exists",
        "_get_local_path",
        "_get_supported_prefixes",
        "_isfile",
        "_open",
    ),
}


def why_unsupported() -> str | None:
    """Why the detectron2 here cannot be used; imports nothing of it.

    Returns:
        A sentence about the release 0.6 of 2021 or an older one, or about a folder of that name
        that is no package; None for one that can be used, and where there is none.
    """
    spec = find_spec("detectron2")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = next(iter(spec.submodule_search_locations))
    if spec.origin is None:
        return (
            f"{folder} is a folder named detectron2, but not the package, and hides it; run from "
            "another folder, or install detectron2."
        )
    wrappers = _source(folder, "layers", "wrappers.py")
    if wrappers is None:  # compiled files alone: nothing to look into
        return None
    if _FEATURE in wrappers:
        return _why_not_with_pillow(folder)
    return (
        f"resnest_d2 needs detectron2's main branch of March 2023 or later, but {folder} is older: "
        "it is the release 0.6 of 2021, or one before. Uninstall it and run "
        "`resnest-d2-install-detectron2`, or install the main branch: pip install "
        "git+https://github.com/facebookresearch/detectron2."
    )


def _why_not_with_pillow(folder: str) -> str | None:
    """Until July 2023 detectron2 used a name that Pillow 10 does not have."""
    from PIL import Image, __version__

    transforms = _source(folder, "data", "transforms", "transform.py") or b""
    if b"Image.LINEAR" not in transforms or hasattr(Image, "LINEAR"):
        return None
    return (
        f"{folder} is detectron2 from before July 2023, which cannot be imported beside Pillow "
        f"{__version__}: pip install 'pillow<10', or install a newer detectron2."
    )


def _source(folder: str, *names: str) -> bytes | None:
    path = os.path.join(folder, *names)
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def missing_extension_points() -> list[str]:
    """Methods of :data:`EXTENSION_POINTS` that the installed libraries lack."""
    missing = []
    for place, names in EXTENSION_POINTS.items():
        module, _, name = place.partition(":")
        owner = getattr(import_module(module), name)
        missing += [f"{place}.{method}" for method in names if not hasattr(owner, method)]
    return missing


@functools.cache
def can_replace_training_parts() -> bool:
    """Whether DefaultTrainer looks up its DDP wrapper and its AMP trainer by name.

    Calling it would build a detector, so that the names in its code are looked at instead.
    """
    from detectron2.engine import DefaultTrainer, defaults

    names = {"create_ddp_model", "AMPTrainer"}
    used = set(DefaultTrainer.__init__.__code__.co_names)
    return names <= used and all(hasattr(defaults, name) for name in names)


@contextmanager
def training_on_cpu(amp_trainer: type) -> Iterator[None]:
    """Let the constructor of DefaultTrainer set up a training on the CPU.

    DDP takes device_ids for GPUs only, but detectron2 always gives them; and its AMPTrainer is for
    GPUs alone.

    Args:
        amp_trainer: what takes the place of AMPTrainer.

    Raises:
        UserError: this detectron2 puts its trainer together in another way.
    """
    from detectron2.engine import create_ddp_model, defaults

    if not can_replace_training_parts():
        raise UserError(
            "This detectron2 cannot train on the CPU in several processes or in mixed precision: "
            "its DefaultTrainer is not the one that resnest_d2 knows. Use one process and "
            "SOLVER.AMP.ENABLED False, or install a detectron2 that `resnest-d2 doctor` accepts."
        )
    ddp = functools.partial(create_ddp_model, device_ids=None)
    with replaced(defaults, create_ddp_model=ddp, AMPTrainer=amp_trainer):
        yield


@functools.cache
def can_replace_scoring() -> bool:
    """Whether detectron2's COCOEvaluator scores through the names that :func:`scoring` sets."""
    from detectron2.evaluation import coco_evaluation

    score = getattr(coco_evaluation, "_evaluate_predictions_on_coco", None)
    evaluate = getattr(coco_evaluation.COCOEvaluator, "_eval_predictions", None)
    if score is None or evaluate is None or not hasattr(coco_evaluation, "COCOeval_opt"):
        logging.getLogger(__name__).warning(
            "detectron2's COCOEvaluator is not the one that resnest_d2 knows: scoring stays with "
            "pycocotools, which takes longer."
        )
        return False
    used = set(evaluate.__code__.co_names)
    return {score.__name__, "COCOeval_opt"} <= used and (
        "COCOevalMaxDets" in score.__code__.co_names
    )


def scoring(
    prepare: Callable[[list[dict], str], list[dict]], *, coco_eval: type | None = None
) -> AbstractContextManager:
    """Have detectron2's COCOEvaluator score in a way of its own; as it is where it cannot.

    Args:
        prepare: makes of the results of a task ("bbox", "segm", "keypoints") those to be scored.
        coco_eval: takes the place of the compiled class, and of the one for other maxDets.
    """
    if not can_replace_scoring():
        return nullcontext()
    from detectron2.evaluation import coco_evaluation

    score = coco_evaluation._evaluate_predictions_on_coco

    def prepared(coco_gt: Any, results: list[dict], iou_type: str, **options: Any) -> Any:
        return score(coco_gt, prepare(results, iou_type), iou_type, **options)

    classes = {name: coco_eval for name in ("COCOeval_opt", "COCOevalMaxDets") if coco_eval}
    return replaced(coco_evaluation, _evaluate_predictions_on_coco=prepared, **classes)


def reading_annotations(read: Callable[[str], Any]) -> AbstractContextManager:
    """Have detectron2's COCOEvaluator read annotation files with a function, if it can.

    Args:
        read: takes the path of a file and returns its pycocotools COCO.
    """
    from detectron2.evaluation import coco_evaluation

    if not hasattr(coco_evaluation, "COCO"):
        return nullcontext()
    return replaced(coco_evaluation, COCO=read)


def annotations_of(evaluator: Any) -> "COCO | None":
    """The annotations that a COCOEvaluator scores against, None where they are not found."""
    from pycocotools.coco import COCO

    found = getattr(evaluator, "_coco_api", None)
    return found if isinstance(found, COCO) else None


def set_metadata(evaluator: Any, metadata: Any) -> None:
    """Give a COCOEvaluator other metadata than its dataset's.

    Raises:
        UserError: it keeps them elsewhere.
    """
    if not hasattr(evaluator, "_metadata"):
        raise UserError(
            "This detectron2 cannot evaluate on a file with other categories than the detector's "
            "classes; give the file the same categories, or install a detectron2 that "
            "`resnest-d2 doctor` accepts."
        )
    evaluator._metadata = metadata


def forget_failed_load(checkpointer: Any) -> None:
    """Let a DetectionCheckpointer load again after a load that failed.

    It keeps the address of a load in an attribute, which must be None when the next begins, and
    which an error leaves set. One without that attribute has nothing to forget.
    """
    if hasattr(checkpointer, "_parsed_url_during_load"):
        checkpointer._parsed_url_during_load = None


def is_nonfinite_box(error: BaseException) -> bool:
    """Whether :class:`detectron2.structures.Boxes` refused coordinates that are not finite.

    It asserts that, where everything else in detectron2 raises FloatingPointError.
    """
    return isinstance(error, AssertionError) and "infinite or NaN" in str(error)
