"""Images through a detector: read ahead, in batches, several at a time, out in their order.

On the CPU two images at a time on half the threads each are faster than one on all of them: what
a detector does on one thread alone (NMS, Python) then costs nothing.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from .result import Prediction
from .sources import InputImage, Source


class Failure(NamedTuple):
    """An image that could not be read, and why."""

    name: str
    reason: str


class Predictions(list):
    """The predictions in the order of the images; ``failed`` names those that are missing."""

    failed: list[Failure]


class Stream:
    """Predictions one after the other, with a progress bar; iterate over it once.

    Attributes:
        failed: the images so far that could not be read; they are left out, and named in the log
            at the end.
    """

    def __init__(
        self, source: Source, work: Callable[[list[InputImage]], list], *, chunk: int, workers: int
    ):
        """
        Args:
            source: the images.
            work: gives for each image of a chunk a Prediction, or a Failure.
            chunk: number of images handed to it at a time.
            workers: threads that do it.
        """
        self.source, self.work = source, work
        self.chunk, self.workers = chunk, workers
        self.failed: list[Failure] = []

    def __iter__(self) -> Iterator[Prediction]:
        # disable=None: no bar where there is no terminal
        with tqdm(total=self.source.number, unit="image", disable=None) as bar:
            for result in self._results():
                bar.update()
                if isinstance(result, Failure):
                    self.failed.append(result)
                else:
                    yield result
        if self.failed:
            lines = "".join(f"\n  {name}: {reason}" for name, reason in self.failed)
            logging.getLogger(__name__).warning(
                f"{len(self.failed)} images could not be read and were left out:{lines}"
            )

    def _results(self) -> Iterator[Any]:
        chunks = iter(lambda: list(islice(self.source.images, self.chunk)), [])
        pool = worker_pool(self.workers)
        pending: deque[Future] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(self.work, chunk))
                if len(pending) > self.workers:  # one more than is worked on
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def worker_pool(workers: int) -> ThreadPoolExecutor:
    """Threads that share torch's CPU threads between them; the caller keeps its own."""
    own = torch.get_num_threads()
    started = threading.Barrier(workers + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first question sets it to the number of the process
        torch.set_num_threads(max(1, own // workers))
        started.wait()

    pool = ThreadPoolExecutor(workers, initializer=begin)
    for _ in range(workers):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(own)  # the last one said is what later threads begin with
    return pool
