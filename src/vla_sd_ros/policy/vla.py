# SPDX-License-Identifier: Apache-2.0
"""The verifier: observe an image and an instruction, then run passes of the language model over them.

    prompt = vla.observe(image, instruction)     # vision tower and projector
    out = vla.prefill(prompt, draft)             # the first pass, over the prompt and a draft of what follows
    out = vla.extend(draft)                      # one more pass, over a draft of what follows the committed tokens
    vla.keep(path)                               # commit the nodes of a path of the latest draft, drop the others
"""
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

from vla_sd_ros.policy import engine
from vla_sd_ros.policy.actions import BINS, ActionStatistics, decode
from vla_sd_ros.policy.config import CheckpointError
from vla_sd_ros.policy.draft import EMPTY, Draft, chain
from vla_sd_ros.policy.graphs import Graphs, eager
from vla_sd_ros.policy.model import DraftHead, VlaModel
from vla_sd_ros.policy.preprocessing import ImageSettings, prepare, shrink
from vla_sd_ros.policy.prompt import UNKNOWN, prompt_ids

MAX_PROMPT_TOKENS = 128
MAX_DRAFT_NODES = 256
ACTION_TOKENS = 7


@dataclass(frozen=True)
class Prompt:
    """embeddings (n, hidden): BOS, image, rest of the text. image_tokens: how many of them are the image's.

    features (vision width,): pooled over the image, for retrieval. cells (1, cells, vision width), text (1, hidden): what a
    draft head reads.
    """

    embeddings: Tensor
    image_tokens: int
    features: Tensor
    cells: Tensor
    text: Tensor


@dataclass(frozen=True)
class Pass:
    """logits (n, 256) in the order of the bins; hidden (n, hidden): the last hidden states.

    After extend() row i belongs to node i of the draft and predicts what follows it; after prefill() row 0 belongs to the
    prompt's end, and node i has row i + 1. prompt (p, hidden): those of all positions of the prompt, only after prefill().
    """

    logits: Tensor
    hidden: Tensor
    prompt: Tensor | None = None

    def greedy(self) -> np.ndarray:
        """The most likely bin (n,) of each row: the one read of a pass that waits for the device.

        Raises ValueError when a logit is not finite.
        """
        best, bins = self.logits.max(dim=-1)
        finite, bins = torch.isfinite(best).all().item(), bins.cpu().numpy()
        if not finite:
            raise ValueError("the checkpoint gave logits that are not finite; its weights or the image are damaged")
        return bins


class Vla:
    """A loaded policy. Not thread safe: one inference at a time.

    statistics: those of unnorm_key, as the checkpoint calls it. draft_head: reads a draft off the image; None where the
    checkpoint has none. images: how OpenVLA's images are prepared; None for the embedded policy.
    """

    def __init__(self, model: VlaModel, tokenizer: Tokenizer, statistics: ActionStatistics, device: str, name: str,
                 draft_head: DraftHead | None = None, images: ImageSettings | None = None, unnorm_key: str = ""):
        self.config = model.config
        self.name = name
        self.unnorm_key = unnorm_key
        self.device = torch.device(device)
        self.statistics = statistics
        self.images = images
        self._tokenizer = tokenizer
        self._model = model.to(self.device).eval().requires_grad_(False)
        # images come with their channels last: convolutions whose weights do, too, need not turn them around
        model.vision_backbone.to(memory_format=torch.channels_last)
        self.draft_head = draft_head and draft_head.to(self.device).eval().requires_grad_(False)
        llama = model.language_model
        self.lm_head = model.action_weight().contiguous()  # (256, hidden)
        self.action_embeddings = model.action_embeddings().contiguous()  # (256, hidden)
        self._dtype = self.lm_head.dtype
        self._decoder = engine.Decoder(
            tuple(engine.join(layer) for layer in llama.model.layers), llama.model.norm.weight,
            llama.config.num_attention_heads, llama.config.rms_norm_eps,
        )
        capacity = self.config.vision.tokens + MAX_PROMPT_TOKENS + MAX_DRAFT_NODES
        self._cache = engine.KvCache(llama.config, capacity, self.device, self._dtype)
        self._run = Graphs() if self.device.type == "cuda" else eager
        self._length = 0  # committed slots of the cache
        self._shapes: dict[tuple, tuple[Tensor, Tensor]] = {}
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def llama(self) -> LlamaForCausalLM:
        """The language model's weights as transformers has them, to compare with."""
        return self._model.language_model

    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Parameters and bytes that one look at an image takes, and those that one pass of the language model takes."""
        vision = [*self._model.vision_backbone.parameters(), *self._model.projector.parameters()]
        language = [*self._model.language_model.model.layers.parameters(), self.lm_head]
        return tuple((sum(p.numel() for p in part), sum(p.nbytes for p in part)) for part in (vision, language))

    @property
    def feature_size(self) -> int:
        """Size of the pooled features of an observation."""
        return self.config.vision.width

    @torch.inference_mode()
    def observe(self, image: np.ndarray, instruction: str) -> Prompt:
        """Vision tower and projector over image (H, W, 3) uint8 RGB, with the instruction's cached embeddings."""
        before, after = self._text(instruction)
        cells, image_embeddings, pooled = self._run("image", self._look, self._pixels(image))
        return Prompt(
            torch.cat((before, image_embeddings, after)), len(image_embeddings), pooled, cells,
            torch.cat((before, after)).mean(0, keepdim=True),
        )

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cells (1, cells, width), embeddings (tokens, hidden) and pooled features (width,) of pixels."""
        cells = self._model.vision_backbone(pixels)
        return cells, self._model.projector(cells)[0], cells[0].mean(0)

    @torch.inference_mode()
    def prefill(self, prompt: Prompt, draft: Draft = EMPTY) -> Pass:
        """The first pass, over the prompt and a draft of the action's tokens; 1 + m rows."""
        self._length = 0
        count = len(prompt.embeddings)
        logits, states = self._forward(torch.cat((prompt.embeddings, self._embed(draft))), count, draft)
        self._length = count
        return Pass(logits, states[count - 1 :], states[:count])

    @torch.inference_mode()
    def extend(self, draft: Draft) -> Pass:
        """One more pass, over a draft of the tokens that follow the committed ones; m rows. keep() comes next."""
        return Pass(*self._forward(self._embed(draft), 0, draft))

    @torch.inference_mode()
    def keep(self, path: list[int]) -> None:
        """Commit a path of the latest draft, as its nodes from the root on, and drop the other nodes from the cache."""
        if path != list(range(len(path))):  # a path that is not first in the draft has to move up
            slots = torch.tensor(path, device=self.device) + self._length
            self._cache.move(slots, self._length)
        self._length += len(path)

    @torch.inference_mode()
    def draft(self, prompt: Prompt) -> np.ndarray:
        """The draft head's probabilities (7, 256) of each bin. Raises ValueError when the checkpoint has no head."""
        if self.draft_head is None:
            raise ValueError(f"checkpoint {self.name} has no draft head; train one with vla-sd train")
        return self.draft_head(prompt.cells, prompt.text)[0].float().softmax(-1).cpu().numpy()

    def _embed(self, draft: Draft) -> Tensor:
        return self.action_embeddings[torch.from_numpy(draft.bins).to(self.device)]

    def _forward(self, x: Tensor, fresh: int, draft: Draft) -> tuple[Tensor, Tensor]:
        """A pass over `fresh` inputs in sequence and then a draft; a chain needs no mask of its own.

        Returns logits, of the last of the fresh inputs and of the draft's nodes, and hidden states (n, hidden) of all.
        """
        shape = () if draft.shape.chain else self._shape(self._length, fresh, draft)
        start, first = self._length, max(fresh - 1, 0)

        def work(x: Tensor, *shape: Tensor) -> tuple[Tensor, Tensor]:
            hidden = engine.forward(self._decoder, self._cache, x, start, *shape)
            return hidden[first:] @ self.lm_head.T, hidden

        return self._run((start, first, len(x), len(shape)), work, x, *shape)

    def _shape(self, committed: int, fresh: int, draft: Draft) -> tuple[Tensor, Tensor]:
        """Rotary positions (n,) and attention mask (n, committed + n) of fresh inputs and a tree behind them; kept."""
        key = committed, fresh, draft.parents.tobytes()
        if key not in self._shapes:
            if len(self._shapes) > 256:
                self._shapes.clear()
            trunk, count = committed + fresh, fresh + len(draft)
            mask = np.tri(count, committed + count, committed, dtype=bool)
            mask[fresh:, trunk:] = draft.shape.ancestry
            positions = np.concatenate((np.arange(committed, trunk), trunk + draft.shape.depths))
            self._shapes[key] = torch.from_numpy(positions).to(self.device), torch.from_numpy(mask).to(self.device)
        return self._shapes[key]

    def action(self, bins: np.ndarray) -> np.ndarray:
        """The action (7,) in metres, radians and gripper opening 0..1 of seven bins (7,)."""
        action = self.statistics.unnormalise(decode(bins))
        action[6] = np.clip(action[6], 0.0, 1.0)
        return action

    def too_long(self, instruction: str) -> str:
        """Why an instruction cannot be read, as a sentence; empty when it can."""
        count = len(self._ids(instruction))
        if count <= MAX_PROMPT_TOKENS:
            return ""
        return f"the instruction makes a prompt of {count} tokens, but at most {MAX_PROMPT_TOKENS} are read; shorten it."

    def unknown_words(self, instruction: str) -> list[str]:
        """Words that the policy has never seen, in the order of the instruction; none where words are made of pieces."""
        unknown = self._tokenizer.token_to_id(UNKNOWN)
        words = instruction.lower().split()
        return [word for word in words if unknown in self._tokenizer.encode(word, add_special_tokens=False).ids]

    def synchronise(self) -> None:
        """Wait for the device, so that a clock read afterwards is true."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def self_test(self) -> str:
        """One line about the loaded policy. Raises CheckpointError when it cannot be what was trained.

        A black and a white image must make a difference to the logits; both, and every action, must be finite.
        """
        size, logits = self.config.vision.image_size, []
        for value in (0, 255):
            self.synchronise()
            start = time.perf_counter()
            first = self.prefill(self.observe(np.full((size, size, 3), value, np.uint8), "test"))
            for _ in range(ACTION_TOKENS - 1):
                self.extend(chain([0]))
                self.keep([0])
            self.synchronise()
            elapsed = 1000 * (time.perf_counter() - start)
            logits.append(first.logits)
        if not all(torch.isfinite(x).all() for x in logits):
            raise CheckpointError(f"checkpoint {self.name} gives logits that are not finite: its weights are damaged")
        if torch.allclose(*logits, atol=1e-4):
            raise CheckpointError(f"checkpoint {self.name} ignores the image: its vision tower was not loaded")
        if not all(np.isfinite(self.action(np.full(ACTION_TOKENS, b))).all() for b in (0, BINS - 1)):
            raise CheckpointError(f"checkpoint {self.name} gives actions that are not finite: its statistics are damaged")
        parameters = list(self._model.parameters())
        count, size = sum(p.numel() for p in parameters), sum(p.nbytes for p in parameters)
        return (
            f"{self.name}: {count / 1e6:.1f} M parameters, {str(self._dtype).removeprefix('torch.')}, "
            f"{size / 1e6:.0f} MB on {self.device}, {elapsed:.0f} ms an action when warm, "
            f"self-test passed{self._no_action(first.hidden)}"
        )

    def _no_action(self, hidden: Tensor) -> str:
        """A warning unless an action leads the whole vocabulary after a prompt, as it does once a policy is trained."""
        best = int((hidden[-1] @ self._model.language_model.lm_head.weight.T).argmax())
        end = self.config.action_end
        return "" if end - BINS <= best < end else f", BUT token {best}, which is no action, is likelier than any action"

    def _text(self, instruction: str) -> tuple[Tensor, Tensor]:
        """Embeddings of BOS (1, hidden), and of the rest of the prompt (m, hidden); kept for the next frame.

        Raises ValueError for an instruction that is too long.
        """
        if instruction not in self._texts:
            objection = self.too_long(instruction)
            if objection:
                raise ValueError(objection)
            ids = self._ids(instruction)
            embeddings = self._model.text_embeddings(torch.tensor(ids, device=self.device))
            if len(self._texts) > 64:
                self._texts.clear()
            self._texts[instruction] = embeddings[:1], embeddings[1:]
        return self._texts[instruction]

    def _ids(self, instruction: str) -> list[int]:
        return prompt_ids(self._tokenizer, instruction, self.config.prompt_end_id)

    def _pixels(self, image: np.ndarray) -> Tensor:
        """image (H, W, 3) uint8 RGB to normalised pixels (1, 3 or 6, size, size)."""
        size = self.config.vision.image_size
        image = prepare(image, size, self.images) if self.images else shrink(image, size)
        return normalise_pixels(torch.from_numpy(image)[None].to(self.device), self.config).to(self._dtype)


def normalise_pixels(images: Tensor, config) -> Tensor:
    """images (B, H, W, 3) uint8 to (B, C, H, W) float; C is 3, or 6 where each of two towers has its normalisation."""
    mean, std = _normalisation(config, images.device)
    return ((images.permute(0, 3, 1, 2).float()[:, None] / 255.0 - mean) / std).flatten(1, 2)


@lru_cache(maxsize=8)
def _normalisation(config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (towers, channels, 1, 1), kept on the device."""
    with torch.inference_mode(False):
        values = (torch.tensor(x, device=device) for x in (config.image_mean, config.image_std))
        return tuple(x.view(*(x.shape or (1, 1)), 1, 1) for x in values)
