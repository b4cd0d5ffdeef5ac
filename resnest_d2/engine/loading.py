"""Loaders of training batches and of test images, as the Trainer uses them."""

import itertools
import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.utils import comm
from torch import Generator
from torch.utils.data import DataLoader, Dataset

from resnest_d2.config import check_unsafe_keys
from resnest_d2.data.mapper import NamingDatasetMapper
from resnest_d2.data.randomness import own_random_numbers
from resnest_d2.data.validate.images import image_size
from resnest_d2.errors import printable
from resnest_d2.progress import progress
from resnest_d2.signals import signals_act

Sample = tuple[int, int]  # its position in the order of the run, and its image's index
_ORDER = ("processes", "batch", "images")  # what the order of the images depends on


class _Samples(Dataset):
    """Images mapped with random numbers that depend on their position alone."""

    def __init__(self, images: Dataset, mapper: NamingDatasetMapper, seed: int):
        self.images, self.mapper, self.seed = images, mapper, seed

    def __getitem__(self, sample: Sample) -> dict:
        position, index = sample
        with own_random_numbers(self.seed, 0, position):
            return self.mapper(self.images[index])


class TrainingLoader:
    """Endless batches of training images: detectron2's order, grouped by aspect ratio as there.

    A batch depends on the seed and on its number alone, not on the number of data workers or on
    what was loaded before. A resumed run therefore skips batches without reading an image.

    Attributes:
        seed: seed of the order and of the augmentations, the same on all processes.
        batches: number of batches given so far, with those of the run before it was resumed.
    """

    def __init__(self, cfg: CfgNode, images: Sequence[dict]):
        """
        Args:
            cfg: config of the training.
            images: images of :func:`resnest_d2.engine.guards.load_training_images`.

        Raises:
            UserError: see :func:`resnest_d2.data.augment.with_augmentations`.
        """
        self._numbers = {
            "processes": comm.get_world_size(),
            "batch": cfg.SOLVER.IMS_PER_BATCH,
            "images": len(images),
        }
        self._cfg = cfg
        self._images = DatasetFromList(images, copy=False)  # packed once, for all workers
        pool = self._images if cfg.INPUT.AUG.MOSAIC else ()
        self._mapper = NamingDatasetMapper(cfg, is_train=True, pool=pool)
        self._wide = [
            image["width"] > image["height"] if {"width", "height"} <= image.keys() else None
            for image in images
        ]
        self._begin(seed=comm.shared_random_seed())

    def _begin(self, *, seed: int, position: int = 0, since: int = 0, batches: int = 0) -> None:
        """Sets the next batch: number ``batches``, of an order that number ``since`` began."""
        self.seed, self.batches = seed, batches
        self._position, self._since = position, since
        with own_random_numbers(seed):  # detectron2 draws the samplers' seeds
            self._args = build_detection_train_loader.from_config(
                self._cfg, mapper=self._mapper, dataset=self._images
            )

    def state(self) -> dict[str, int]:
        """Returns what :meth:`resume` needs, for a checkpoint."""
        where = {"position": self._position, "since": self._since, "batches": self.batches}
        return {"seed": self.seed, **self._numbers, **where}

    def resume(self, state: Mapping[str, int]) -> bool:
        """Continues where the loader of a checkpoint was.

        Args:
            state: :meth:`state` of that loader.

        Returns:
            Whether the order is the same; if not, it begins at the same number of images seen.
        """
        same = all(state[name] == self._numbers[name] for name in _ORDER)
        position, since, batches = state["position"], state["since"], state["batches"]
        if not same:
            position, since = position + (batches - since) * state["batch"], batches
        self._begin(seed=state["seed"], position=position, since=since, batches=batches)
        return same

    def _group(self, index: int) -> Hashable:
        """Images of one group make a batch: the wide ones, and the others."""
        if not self._args["aspect_ratio_grouping"]:
            return None
        if self._wide[index] is None:
            width, height = image_size(self._images[index]["file_name"])
            self._wide[index] = width > height
        return self._wide[index]

    def _grouped(self, size: int) -> Iterator[list[Sample]]:
        """The samples of each batch of this process, from the first of the order on."""
        processes = self._numbers["processes"]
        samples = zip(itertools.count(comm.get_rank(), processes), self._args["sampler"])
        groups: dict[Hashable, list[Sample]] = {}
        for sample in itertools.islice(samples, self._position // processes, None):
            group = groups.setdefault(self._group(sample[1]), [])
            group.append(sample)
            if len(group) == size:
                yield group[:]
                group.clear()

    def __iter__(self) -> Iterator[list[dict]]:
        size = self._numbers["batch"] // self._numbers["processes"]
        logging.getLogger(__name__).info(f"Loading {size} images per batch and process.")
        workers = self._args["num_workers"]
        # A worker loads single images: two batches ahead in all, so that a training never waits
        # for the second half of one.
        ahead = max(2, -(-2 * size // workers)) if workers else None
        grouped = itertools.islice(self._grouped(size), self.batches - self._since, None)
        with signals_act():
            images = iter(
                DataLoader(
                    _Samples(self._images, self._mapper, self.seed),
                    sampler=itertools.chain.from_iterable(grouped),
                    batch_size=None,
                    collate_fn=_unchanged,
                    num_workers=workers,
                    prefetch_factor=ahead,
                    generator=Generator(),  # of its own, so that it draws none of the training's
                )
            )
        while True:
            with signals_act():
                batch = list(itertools.islice(images, size))
            self.batches += 1
            yield batch


def _unchanged(image: Any) -> Any:
    return image


def build_training_loader(cfg: CfgNode, images: list[dict]) -> TrainingLoader:
    """Builds a loader of training batches, with the augmentations of the config.

    Args:
        cfg: config of the training.
        images: images of :func:`resnest_d2.engine.guards.load_training_images`.

    Raises:
        UserError: see :class:`TrainingLoader`.
    """
    return TrainingLoader(cfg, images)


class EvaluationLoader:
    """Batches of another loader, counted where the user sees it."""

    def __init__(self, loader: DataLoader, label: str, *, shown: bool):
        """
        Args:
            loader: the other loader, whose attributes this one has, too.
            label: what is counted.
            shown: whether this process shows it.
        """
        self._loader, self._label, self._shown = loader, label, shown

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[dict]]:
        label = printable(self._label)
        with progress(len(self), label, shown=self._shown, unit="image", leave=False) as bar:
            for batch in self._loader:
                yield batch
                bar.update()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def build_evaluation_loader(
    cfg: CfgNode, dataset_name: str, *, shown: bool = False
) -> EvaluationLoader:
    """Builds a loader of a dataset's images, one at a time, without their truth.

    Args:
        cfg: config of the evaluation.
        dataset_name: name of a registered dataset.
        shown: show how far it has got.

    Raises:
        UserError: see :func:`resnest_d2.config.check_unsafe_keys`.
    """
    check_unsafe_keys(cfg)
    mapper = NamingDatasetMapper(cfg, is_train=False)
    loader = build_detection_test_loader(cfg, dataset_name, mapper=mapper)
    return EvaluationLoader(loader, f"Evaluation on {dataset_name}", shown=shown)
