# SPDX-License-Identifier: Apache-2.0
"""The draft head in numpy, for a CPU: so small that calling torch costs more than its sums, above all where torch has threads,
which wait for each other at every one of a dozen operations."""

import numpy as np
import torch
from scipy.special import erf
from torch import Tensor

from vla_sd_ros.policy.actions import BINS
from vla_sd_ros.policy.model import DraftHead


class LightHead:
    """The same numbers as DraftHead, of one image, but for rounding. The projection of the values is multiplied into the layer
    that follows it, once; what an instruction asks is kept until there is another."""

    def __init__(self, head: DraftHead):
        self._head, self._asked = head, (b"", np.empty(0))
        width = head.value.weight.shape[1]
        self._scale = width**-0.5

        def layer(weight: Tensor, bias: Tensor) -> tuple[np.ndarray, np.ndarray]:
            """Over the weighted means of the cells, where it was over their projected values."""
            values = weight.view(-1, head.QUERIES, width)
            folded = (values @ head.value.weight).flatten(1)
            return folded.numpy(), (bias + (values @ head.value.bias).sum(1)).numpy()

        with torch.inference_mode():
            self._first = layer(head.fc1.weight, head.fc1.bias)
            self._last = head.fc2.weight.numpy(), head.fc2.bias.numpy()
            if head.looks_ahead:
                among, known = head.ahead1.weight.split([head.QUERIES * width, head.KNOWN], 1)
                self._first_ahead, self._known = layer(among, head.ahead1.bias), known.numpy()
                self._last_ahead = head.ahead2.weight.numpy(), head.ahead2.bias.numpy()

    def now(self, cells: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Probabilities (7, 256) of the action on cells (n, width), with text (h,)."""
        weight, bias = self._first
        return _probabilities(weight @ self._means(cells, text) + bias, *self._last)

    def ahead(self, cells: np.ndarray, text: np.ndarray, executed: np.ndarray, by: int) -> np.ndarray:
        """Those of the action so many steps after it. executed (2, 7) bins, by: as in DraftHead.ahead()."""
        weight, bias = self._first_ahead
        known = np.concatenate((executed.ravel() * (2 / (BINS - 1)) - 1, np.eye(DraftHead.REACH)[by - 1])).astype(np.float32)
        return _probabilities(weight @ self._means(cells, text) + self._known @ known + bias, *self._last_ahead)

    def _means(self, cells: np.ndarray, text: np.ndarray) -> np.ndarray:
        """What the queries find, (QUERIES * width,)."""
        return (_softmax(self._queries(text) @ cells.T * self._scale) @ cells).ravel()

    def _queries(self, text: np.ndarray) -> np.ndarray:
        key, queries = self._asked
        if (new := text.tobytes()) != key:
            with torch.inference_mode():
                queries = self._head.queries(torch.from_numpy(text)[None])[0].numpy()
            self._asked = new, queries  # in one piece: clients' decoders are threads
        return queries


def _probabilities(hidden: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Of the last layer, after GELU."""
    active = hidden * (0.5 + 0.5 * erf(hidden * np.float32(0.5**0.5)))
    return _softmax((weight @ active + bias).reshape(-1, BINS))


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)
