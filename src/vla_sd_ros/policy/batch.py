# SPDX-License-Identifier: Apache-2.0
"""The verifier for several robots at once: each pass reads the weights once for all of them.

batch = BatchedVla(vla, rows=4)
prompts = batch.observe(images, instructions)       # of any instructions; as many as there are rows, or fewer
passes = batch.prefill([0, 1], prompts, drafts)     # row numbers; what Vla.prefill() gives, for each of them
passes = batch.extend([0, 1], drafts)
batch.keep(0, path)                                 # one row
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vla_sd_ros.policy.draft import EMPTY, Draft, places
from vla_sd_ros.policy.vla import Pass, Prefill, Prompt, Vla, padded


class BatchedVla:
    """Rows of sequences over one policy's weights, each with its own prompt, draft and committed length. Not thread safe.

    A pass is as long as its longest row; what the others have less is padding that nobody attends to. The policy's own cache
    is not touched: both can be used by turns.
    """

    def __init__(self, vla: Vla, rows: int):
        self._vla, self.rows = vla, rows
        self._cache = vla.new_cache(rows)
        self._lengths = np.zeros(rows, dtype=int)  # committed slots of each row

    @torch.inference_mode()
    def observe(self, images: Sequence[np.ndarray], instructions: Sequence[str]) -> list[Prompt]:
        """Vision tower over all images (H, W, 3) uint8 RGB at once; sizes may differ. As Vla.observe()."""
        return self._vla.observe_all(images, instructions)

    @torch.inference_mode()
    def prefill(self, rows: Sequence[int], prompts: Sequence[Prompt], drafts: Sequence[Draft] | None = None) -> list[Prefill]:
        """The first pass of these rows, each over its prompt and draft; see Vla.prefill()."""
        drafts = drafts or [EMPTY] * len(rows)
        counts = [len(prompt.embeddings) for prompt in prompts]
        self._lengths[list(rows)] = 0
        for row, count in zip(rows, counts):
            self._cache.forget(row, count)
        inputs = [torch.cat((prompt.embeddings, self._vla.embed(draft))) for prompt, draft in zip(prompts, drafts)]
        passes = self._forward(rows, inputs, counts, drafts)
        self._lengths[list(rows)] = counts
        return [Prefill(out.logits[count - 1 :], out.hidden[count - 1 :], out.hidden[:count]) for out, count in zip(passes, counts)]

    @torch.inference_mode()
    def extend(self, rows: Sequence[int], drafts: Sequence[Draft]) -> list[Pass]:
        """One more pass of these rows; see Vla.extend()."""
        return self._forward(rows, [self._vla.embed(draft) for draft in drafts], [0] * len(rows), drafts)

    @torch.inference_mode()
    def keep(self, row: int, path: list[int]) -> None:
        """Commit a path of the row's latest draft; see Vla.keep()."""
        if path != list(range(len(path))):
            slots = torch.tensor(path, device=self._vla.device) + int(self._lengths[row])
            self._cache.move(slots, int(self._lengths[row]), row)
        self._lengths[row] += len(path)

    def _forward(self, rows: Sequence[int], inputs: list[Tensor], fresh: list[int], drafts: Sequence[Draft]) -> list[Pass]:
        """A pass over `fresh` inputs in sequence and then a draft, in each row; logits and hidden states of all inputs."""
        counts, starts = [len(x) for x in inputs], self._lengths[list(rows)]
        longest = max(counts)
        seen = padded(int(starts.max()) + longest)
        where = [places(start, ahead, draft, longest, seen) for start, ahead, draft in zip(starts, fresh, drafts)]
        arrays = starts[:, None] + np.arange(longest), *(np.stack(part) for part in zip(*where))
        slots, positions, mask = (torch.from_numpy(array).to(self._vla.device) for array in arrays)
        x = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)
        logits, hidden = self._vla.run_rows(self._cache, list(rows), x, slots, positions, mask)
        return [Pass(logits[i, :count], hidden[i, :count]) for i, count in enumerate(counts)]
