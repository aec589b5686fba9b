# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs of whole passes, captured when a shape is first seen: a replay is one launch instead of hundreds.

At batch 1 a layer's kernels take a few microseconds each, less than the host needs to launch them.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

MOST = 64  # graphs that are kept, the latest used ones


class Graphs:
    """Runs work(*inputs) -> tensors as a graph. Not thread safe.

    All graphs share one pool of memory, which PyTorch allows for graphs that never run at the same time and whose outputs
    are not used after another one's replay: they are copied at once. What a graph reads and writes beside its inputs
    (weights, the KV cache) must stay where it is for as long as the graph lives, and work must depend on nothing else: no
    number that is computed on the host may differ between two calls with the same key.
    """

    def __init__(self, device: torch.device):
        self._graphs: OrderedDict[Hashable, tuple[torch.cuda.CUDAGraph, tuple, tuple]] = OrderedDict()
        self._device, self._pool = device, torch.cuda.graph_pool_handle()
        self._side = torch.cuda.Stream(device)  # one for all captures: a pool's memory is used again on its own stream only

    def __call__(self, key: Hashable, work: Callable, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors that work makes of the inputs, as copies of their own.

        key: tells apart all that changes the work's kernels or the addresses they use: shapes, and which cache it is.
        """
        if key not in self._graphs:
            if len(self._graphs) == MOST:
                self._graphs.popitem(last=False)
            self._graphs[key] = self._capture(work, inputs)
        self._graphs.move_to_end(key)
        graph, held, outputs = self._graphs[key]
        for own, given in zip(held, inputs):
            own.copy_(given)
        graph.replay()
        return tuple(output.clone() for output in outputs)  # the next replay writes over them

    def _capture(self, work: Callable, inputs: tuple) -> tuple:
        """Warm up on a side stream, as capturing demands, then record: nothing is computed while it is recorded."""
        held = tuple(tensor.clone() for tensor in inputs)
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        with torch.cuda.device(self._device):
            self._side.wait_stream(current)
            with torch.cuda.stream(self._side):
                for _ in range(2):
                    work(*held)
            current.wait_stream(self._side)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._side):
                outputs = work(*held)
        return graph, held, outputs


def eager(key: Hashable, work: Callable, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The same without graphs, for devices that have none."""
    return work(*inputs)
