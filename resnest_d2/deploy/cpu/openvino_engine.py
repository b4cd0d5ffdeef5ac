"""A graph in OpenVINO on the CPU, for one thread or several at once."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from resnest_d2.compat.openvino import openvino_core


class OpenVINOEngine:
    """Runs a graph with the calling thread's number of torch threads.

    A thread that has all of them runs it on all. Threads that share them, as a Predictor's do, run
    it at the same time, each in a stream with its own part of them; without streams, they would
    wait for each other. It is compiled on the first run with a number of threads.
    """

    def __init__(self, graph: Any, *, precision: str = "f32", threads: int | None = None):
        """
        Args:
            graph: an ``openvino.Model`` or the path of one.
            precision: "f32" or "bf16". OpenVINO's own default on newer processors is bfloat16.
            threads: number of threads in all; by default torch's.
        """
        path = isinstance(graph, str | os.PathLike)
        self.graph = openvino_core().read_model(graph) if path else graph
        self.precision, self.threads = precision, threads or torch.get_num_threads()
        self.compiled: dict[int, Any] = {}
        self.lock, self.requests = threading.Lock(), _Requests()

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs in their order, which the next run does not overwrite."""
        number = torch.get_num_threads()
        own = self.requests.by_number
        if number not in own:
            own[number] = self._compile(number).create_infer_request()
        found = own[number].infer(list(inputs), share_inputs=True, share_outputs=True)
        return [found[i].copy() for i in range(len(found))]

    def _compile(self, number: int) -> Any:
        """The graph for runs on a number of threads each."""
        with self.lock:
            if number not in self.compiled:
                streams = max(1, self.threads // number)
                options = {
                    "INFERENCE_PRECISION_HINT": self.precision,
                    "INFERENCE_NUM_THREADS": streams * number,
                    "NUM_STREAMS": streams,
                }
                self.compiled[number] = openvino_core().compile_model(self.graph, "CPU", options)
            return self.compiled[number]


class _Requests(threading.local):
    """Each thread's own requests."""

    def __init__(self) -> None:
        self.by_number: dict[int, Any] = {}
