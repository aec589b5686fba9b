# SPDX-License-Identifier: Apache-2.0
"""The verifier: observe an image and an instruction, then run passes of the language model over them.

prompt = vla.observe(image, instruction)     # vision tower
out = vla.prefill(prompt, draft)             # projector and first pass, over the prompt and a draft of what follows
out = vla.extend(draft)                      # one more pass, over a draft of what follows the committed tokens
vla.keep(path)                               # commit the nodes of a path of the latest draft, drop the others
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

from vla_sd_ros.policy import engine
from vla_sd_ros.policy.actions import ActionStatistics, check_units, choose_statistics, decode
from vla_sd_ros.policy.draft import EMPTY, Draft, chain
from vla_sd_ros.policy.graphs import Graphs, eager
from vla_sd_ros.policy.light_head import LightHead
from vla_sd_ros.policy.model import DraftHead, VlaModel
from vla_sd_ros.policy.places import Places
from vla_sd_ros.policy.preprocessing import ImageSettings, check_same, pixels_of
from vla_sd_ros.policy.prompt import MAX_PROMPT_TOKENS, Prompts
from vla_sd_ros.policy.quantization import NONE, stored_bytes

MAX_DRAFT_NODES = 256
ACTION_TOKENS = 7
STEP = 64  # a captured pass attends to a multiple of this many slots of the cache, so that few graphs are needed


def padded(slots: int) -> int:
    """Up to the next multiple of STEP."""
    return -(-slots // STEP) * STEP


@dataclass(frozen=True)
class Prompt:
    """An image that has been looked at, and its instruction.

    image_tokens: how many of the embeddings are the image's. features (vision width,): pooled over the image, for retrieval.
    cells (1, cells, vision width), text (1, hidden): what a draft head reads. before, after: embeddings of the text on both
    sides of the image. project: gives the embeddings (image_tokens, hidden) of the image.
    """

    image_tokens: int
    features: Tensor
    cells: Tensor
    text: Tensor
    before: Tensor
    after: Tensor
    project: Callable[[], Tensor]

    @cached_property
    def embeddings(self) -> Tensor:
        """(n, hidden): BOS, image, rest of the text. Projected when first asked for: an action that skips the language model
        has no use for them."""
        return torch.cat((self.before, self.project(), self.after))


@dataclass(frozen=True)
class Pass:
    """logits (n, 256) in the order of the bins; hidden (n, hidden): the last hidden states.

    After extend() row i belongs to node i of the draft and predicts what follows it; after prefill() row 0 belongs to the
    prompt's end, and node i has row i + 1.
    """

    logits: Tensor
    hidden: Tensor

    def greedy(self) -> np.ndarray:
        """The most likely bin (n,) of each row: the one read of a pass that waits for the device.

        Raises ValueError when a logit is not finite.
        """
        best, where = self.logits.max(dim=-1)
        bins = torch.where(torch.isfinite(best), where, -1).cpu().numpy()
        if (bins < 0).any():
            raise ValueError("the checkpoint gave logits that are not finite; its weights or the image are damaged")
        return bins


@dataclass(frozen=True)
class Prefill(Pass):
    """The first pass. prompt (p, hidden): the last hidden states of all positions of the prompt."""

    prompt: Tensor


class Vla:
    """A loaded policy. Not thread safe: one inference at a time.

    statistics: all of the checkpoint, by key. unnorm_key: that in use, as the checkpoint calls it. draft_head: reads a
    draft off the image; None where the checkpoint has none. images: how OpenVLA's are prepared; None: the embedded policy.
    quantization: how the model's layers have been quantised. largest_step [m], [rad]: what statistics that are chosen
    later may hold along an axis; more are other units, and refused; None: whatever. image_table: what the checkpoint itself
    says of its images, by data set.
    """

    def __init__(
        self,
        model: VlaModel,
        tokenizer: Tokenizer,
        statistics: dict[str, ActionStatistics],
        unnorm_key: str,
        device: str | torch.device,
        name: str,
        *,
        draft_head: DraftHead | None = None,
        images: ImageSettings | None = None,
        quantization: str = NONE,
        largest_step: tuple[float, float] | None = None,
        image_table: Mapping[str, ImageSettings] = MappingProxyType({}),
    ):
        self.config = model.config
        self.quantization = quantization
        self.name = name
        self.unnorm_key = unnorm_key
        self.device = torch.device(device)
        self._table = statistics
        self._largest_step = largest_step
        self.images = images
        self._image_table = image_table
        self._model = model.to(self.device).eval().requires_grad_(False)
        self.prompts = Prompts(tokenizer, model.config.prompt_end_id, model.text_embeddings, self.device)
        # images come with their channels last: convolutions whose weights do, too, need not turn them around
        model.vision_backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack this one
        self.use_draft_head(draft_head)
        self.lm_head = model.action_weight().contiguous()  # (256, hidden)
        self.action_embeddings = model.action_embeddings().contiguous()  # (256, hidden)
        self._dtype = self.lm_head.dtype
        self._decoder = engine.Decoder.of(model.language_model)
        self._captured = self.device.type == "cuda"
        self._run = Graphs(self.device) if self._captured else eager
        self._cache = self.new_cache(1 if self._captured else None)
        self._length = 0  # committed slots of the cache
        self._places = Places(self.device)

    def use_draft_head(self, head: DraftHead | None) -> None:
        """Draft with this head from now on; it becomes the policy's."""
        self.draft_head = head and head.to(self.device).eval().requires_grad_(False)
        self._light_head = LightHead(head) if head and self.device.type == "cpu" else None

    @property
    def llama(self) -> LlamaForCausalLM:
        """The language model's weights as transformers has them, to compare with. ValueError where they are quantised."""
        if self.quantization != NONE:
            raise ValueError("transformers cannot run a model that is quantised here: leave --quantization out")
        return self._model.language_model

    @property
    def model(self) -> VlaModel:
        """The weights; those of the layers are elsewhere where they are quantised."""
        return self._model

    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Parameters and bytes that one look at an image takes, and those that one pass of the language model takes."""
        vision = [*self._model.vision_backbone.parameters(), *self._model.projector.parameters()]
        language = [tensor for layer in self._decoder.layers for tensor in layer.tensors()] + [self.lm_head]
        return _size(vision), _size(language)

    @property
    def precision(self) -> str:
        """Of the weights: bfloat16, float16 or float32, and how the language model's layers are quantised."""
        kind = f" with layers of {self.quantization}" if self.quantization != NONE else ""
        return str(self._dtype).removeprefix("torch.") + kind

    @property
    def statistics(self) -> ActionStatistics:
        """Those of unnorm_key."""
        return self.statistics_of(self.unnorm_key)

    def statistics_of(self, key: str) -> ActionStatistics:
        """Those of one of unnorm_keys."""
        return self._table[key]

    @property
    def unnorm_keys(self) -> list[str]:
        """Keys of all statistics of the checkpoint."""
        return sorted(self._table)

    def key_of(self, unnorm_key: str) -> str:
        """The checkpoint's name of the statistics that a key asks for; the only ones if it is empty.

        Raises ValueError, with the keys that there are, for an unknown one, and for one whose data set has other images, or
        other units.
        """
        name = choose_statistics(self._table, unnorm_key)
        check_units(self._table, name, self._largest_step)
        if self.images:
            check_same(name, self.unnorm_key, self._image_table)
        return name

    @property
    def damaged_statistics(self) -> list[str]:
        """What is wrong with those entries of the checkpoint's statistics that cannot be used."""
        return sorted(getattr(self._table, "damaged", {}).values())

    @property
    def feature_size(self) -> int:
        """Size of the pooled features of an observation."""
        return self.config.vision.width

    @torch.inference_mode()
    def observe(self, image: np.ndarray, instruction: str) -> Prompt:
        """Vision tower over image (H, W, 3) uint8 RGB, with the instruction's cached embeddings."""
        return self.observe_all([image], [instruction])[0]

    @torch.inference_mode()
    def observe_all(self, images: Sequence[np.ndarray], instructions: Sequence[str]) -> list[Prompt]:
        """The same for several images, in one pass of the vision tower, and one of the projector when it is needed."""
        texts = [self.prompts.embeddings(instruction) for instruction in instructions]
        pixels = torch.cat([pixels_of(image, self.config, self.images, self.device, self._captured) for image in images])
        pixels = pixels.to(self._dtype)
        cells, pooled = self._run(("image", len(images)), self._look, pixels)

        @cache
        @torch.inference_mode()
        def projected() -> Tensor:
            return self._run(("projector", len(images)), self._project, cells)[0]

        def prompt(i: int, before: Tensor, after: Tensor) -> Prompt:
            text = torch.cat((before, after)).mean(0, keepdim=True)
            tokens = self.config.vision.tokens
            return Prompt(tokens, pooled[i], cells[i : i + 1], text, before, after, lambda: projected()[i])

        return [prompt(i, before, after) for i, (before, after) in enumerate(texts)]

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (B, cells, width) and pooled features (B, width) of pixels."""
        cells = self._model.vision_backbone(pixels)
        return cells, cells.mean(1)

    def _project(self, cells: Tensor) -> tuple[Tensor]:
        return (self._model.projector(cells),)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, draft: Draft = EMPTY) -> Prefill:
        """The first pass, over the prompt and a draft of the action's tokens; 1 + m rows."""
        self._length = 0
        count = len(prompt.embeddings)
        if self._captured:
            self._cache.forget(0, count)
        logits, states = self._forward(torch.cat((prompt.embeddings, self.embed(draft))), count, draft)
        self._length = count
        return Prefill(logits, states[count - 1 :], states[:count])

    @torch.inference_mode()
    def extend(self, draft: Draft) -> Pass:
        """One more pass, over a draft of the tokens that follow the committed ones; m rows. keep() comes next."""
        return Pass(*self._forward(self.embed(draft), 0, draft))

    @torch.inference_mode()
    def keep(self, path: list[int]) -> None:
        """Commit a path of the latest draft, as its nodes from the root on, and drop the other nodes from the cache."""
        if path != list(range(len(path))):  # a path that is not first in the draft has to move up
            slots = torch.tensor(path, device=self.device) + self._length
            self._cache.move(slots, self._length, row=0 if self._captured else None)
        self._length += len(path)

    @torch.inference_mode()
    def draft(self, prompt: Prompt) -> np.ndarray:
        """The draft head's probabilities (7, 256) of each bin. Raises ValueError when the checkpoint has no head."""
        head, cells, text = self._head(), prompt.cells.float(), prompt.text.float()
        if self._light_head:
            return self._light_head.now(cells[0].numpy(), text[0].numpy())
        return head(cells, text)[0].softmax(-1).cpu().numpy()

    @torch.inference_mode()
    def draft_ahead(self, prompt: Prompt, executed: np.ndarray, by: int) -> np.ndarray:
        """The draft head's probabilities (7, 256) of the action so many steps after the one on the prompt's image, unseen.

        executed (2, 7): bins of the two actions before it, in their order. Needs a head that looks ahead. Raises as draft() does.
        """
        head, cells, text = self._head(), prompt.cells.float(), prompt.text.float()
        if self._light_head:
            return self._light_head.ahead(cells[0].numpy(), text[0].numpy(), executed, by)
        bins = torch.from_numpy(executed)[None].to(self.device, torch.float32)
        logits = head.ahead(head.gather(cells, text), bins, torch.tensor([by], device=self.device))
        return logits[0].softmax(-1).cpu().numpy()

    def _head(self) -> DraftHead:
        if self.draft_head is None:
            raise ValueError(f"checkpoint {self.name} has no draft head; train one with vla-sd train")
        return self.draft_head

    def embed(self, draft: Draft) -> Tensor:
        """Embeddings (m, hidden) of a draft's tokens."""
        return self.action_embeddings[torch.from_numpy(draft.bins).to(self.device)]

    def _forward(self, x: Tensor, fresh: int, draft: Draft) -> tuple[Tensor, Tensor]:
        """A pass over `fresh` inputs in sequence and then a draft.

        Returns logits, of the last of the fresh inputs and of the draft's nodes, and hidden states (n, hidden) of all.
        """
        start, first = self._length, max(fresh - 1, 0)
        if self._captured:  # one graph for all places in the cache, which are inputs of it
            slots, positions, mask = self._places(start, fresh, draft, padded(start + len(x)))
            logits, hidden = self.run_rows(self._cache, [0], x[None], slots[None], positions[None], mask[None])
            return logits[0, first:], hidden[0]
        # a chain needs no mask of its own
        shape = () if draft.shape.chain else self._places(start, fresh, draft, start + len(x))[1:]
        hidden = engine.forward(self._decoder, self._cache, x, start, *shape)
        return hidden[first:] @ self.lm_head.T, hidden

    def run_rows(
        self, cache: engine.KvCache, rows: list[int], x: Tensor, slots: Tensor, positions: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, n, 256) and hidden states (B, n, hidden) of engine.forward_rows(), captured where that is possible."""
        first = rows == list(range(len(rows)))  # a slice of the cache; other rows are copied out of it
        chosen = () if first else (torch.tensor(rows, device=self.device),)

        def work(x: Tensor, slots: Tensor, positions: Tensor, mask: Tensor, *chosen: Tensor) -> tuple[Tensor, Tensor]:
            which = chosen[0] if chosen else slice(0, len(x))
            hidden = engine.forward_rows(self._decoder, cache, x, which, slots, positions, mask)
            return hidden @ self.lm_head.T, hidden

        # the key holds the cache, whose addresses the graph has: neither may outlive the other
        logits, hidden = self._run((cache, first, *mask.shape), work, x, slots, positions, mask, *chosen)
        return logits, hidden

    def new_cache(self, rows: int | None) -> engine.KvCache:
        """For one sequence, or for `rows` of them."""
        capacity = padded(self.config.vision.tokens + MAX_PROMPT_TOKENS + ACTION_TOKENS + MAX_DRAFT_NODES)
        return engine.KvCache(self.config.text, capacity, self.device, self._dtype, rows)

    def action(self, bins: np.ndarray) -> np.ndarray:
        """The action (7,) in metres, radians and gripper opening 0..1 of seven bins (7,)."""
        return action_of(self.statistics, bins)

    def synchronise(self) -> None:
        """Wait for the device, so that a clock read afterwards is true."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def capture_passes(self) -> None:
        """Capture the passes over several tokens that decoders may need during a motion, before it; nothing on a CPU."""
        for count in range(2, ACTION_TOKENS + 1) if self._captured else ():
            self.extend(chain([0] * count))


def action_of(statistics: ActionStatistics, bins: np.ndarray) -> np.ndarray:
    """The action (7,) in metres, radians and gripper opening 0..1 of seven bins (7,)."""
    action = statistics.unnormalise(decode(bins))
    action[6] = np.clip(action[6], 0.0, 1.0)
    return action


def _size(tensors: Sequence[Tensor]) -> tuple[int, int]:
    """Numbers and bytes of some weights."""
    return sum(t.numel() for t in tensors), sum(stored_bytes(t) for t in tensors)
