# SPDX-License-Identifier: Apache-2.0
"""Where the inputs of a pass stand, on the device: a motion asks for the same few places again and again."""

import numpy as np
import torch
from torch import Tensor

from vla_sd_ros.policy.draft import Draft, places

MOST = 256  # that are kept


class Places:
    """Slots (n,), rotary positions (n,) and mask (n, seen) of passes."""

    def __init__(self, device: torch.device):
        self._device = device
        self._kept: dict[tuple, tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, start: int, fresh: int, draft: Draft, seen: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of `fresh` inputs and a draft behind them, from the slot `start` on; see draft.places()."""
        key = start, fresh, seen, draft.parents.tobytes()
        if key not in self._kept:
            if len(self._kept) > MOST:
                self._kept.clear()
            count = fresh + len(draft)
            arrays = np.arange(start, start + count), *places(start, fresh, draft, count, seen)
            slots, positions, mask = (torch.from_numpy(array).to(self._device) for array in arrays)
            self._kept[key] = slots, positions, mask
        return self._kept[key]
