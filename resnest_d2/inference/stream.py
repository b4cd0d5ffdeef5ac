"""Runs images through a detector in threads and batches, reading ahead and keeping their order.

On the CPU two images at a time with half the threads each are faster than one with all threads,
because single-threaded parts of a detector (NMS, Python) then overlap.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import cv2
import torch

from resnest_d2.compat.pytorch import is_out_of_memory
from resnest_d2.data.image_files import reason_of
from resnest_d2.errors import UserError
from resnest_d2.progress import progress

from .images import InputImage, Source
from .result import Prediction


class Failure(NamedTuple):
    """An image that could not be read, and the reason."""

    name: str
    reason: str


def costs_one_image(error: Exception) -> bool:
    """Whether an error is an image's own, so that the others are processed all the same."""
    return isinstance(error, UserError | cv2.error) or is_out_of_memory(error)


def failure_of(image: InputImage, error: Exception) -> Failure:
    """What the results and the log tell of an image's error."""
    name, reason = image.path or image.name, str(error)
    if isinstance(error, UserError):
        reason = reason_of(error, name)
    elif is_out_of_memory(error):
        reason = "there is not enough memory for it"
    return Failure(name, reason)


class Predictions(list):
    """Predictions in the order of the images; ``failed`` lists the unreadable images."""

    failed: list[Failure]


class Stream:
    """Iterator of predictions with a progress bar; iterate over it only once.

    Attributes:
        failed: images so far that could not be read; they are skipped, and listed in the log at the
            end.
        each: called with every prediction, in their order, before it is yielded.
    """

    def __init__(
        self, source: Source, work: Callable[[list[InputImage]], list], *, chunk: int, workers: int
    ):
        """
        Args:
            source: the images.
            work: returns a Prediction or a Failure for each image of a chunk.
            chunk: number of images per call of ``work``.
            workers: number of threads that call it.
        """
        self.source, self.work = source, work
        self.chunk, self.workers = chunk, workers
        self.failed: list[Failure] = []
        self.each: Callable[[Prediction], None] | None = None

    def __iter__(self) -> Iterator[Prediction]:
        with progress(self.source.number, "Images", unit="image") as bar:
            for result in self.results():
                bar.update()
                if isinstance(result, Failure):
                    self.failed.append(result)
                    continue
                if self.each is not None:
                    self.each(result)
                yield result
        if self.failed:
            lines = "".join(f"\n  {name}: {reason}" for name, reason in self.failed)
            number = len(self.failed)
            images, were = ("image", "was") if number == 1 else ("images", "were")
            logging.getLogger(__name__).warning(
                f"{number} {images} could not be read and {were} left out:{lines}"
            )

    def results(self) -> Iterator[Any]:
        """Yields a Prediction or a Failure for every image, in their order, without a bar."""
        chunks = iter(lambda: list(islice(self.source.images, self.chunk)), [])
        pool = worker_pool(self.workers)
        pending: deque[Future] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(self.work, chunk))
                if len(pending) > self.workers:  # one more than the workers process
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def worker_pool(workers: int) -> ThreadPoolExecutor:
    """Returns a thread pool that shares torch's CPU threads; the caller keeps its own number."""
    own = torch.get_num_threads()
    started = threading.Barrier(workers + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread sets its number to the process's
        torch.set_num_threads(max(1, own // workers))
        started.wait()

    pool = ThreadPoolExecutor(workers, initializer=begin)
    for _ in range(workers):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(own)  # the last value set is the default of later threads
    return pool
