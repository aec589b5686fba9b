# SPDX-License-Identifier: Apache-2.0
"""The verifier: observe an image and an instruction, then run passes of the language model over them."""
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from vla_sd_ros.policy import engine
from vla_sd_ros.policy.actions import ActionStatistics, decode
from vla_sd_ros.policy.model import VlaModel
from vla_sd_ros.policy.prompt import UNKNOWN, prompt_ids

MAX_PROMPT_TOKENS = 128
ACTION_TOKENS = 7


@dataclass(frozen=True)
class Prompt:
    """embeddings: (n, hidden), BOS, image, rest of the text. features: (vision width,), pooled over the image tokens."""

    embeddings: Tensor
    features: Tensor


class Vla:
    """A loaded policy. Not thread safe: one inference at a time.

    statistics: those of the chosen key. Passes return action logits (n, 256), in the order of the bins, and the last
    hidden states (n, hidden); position i of a pass predicts what comes after its i-th input.
    """

    def __init__(self, model: VlaModel, tokenizer: Tokenizer, statistics: ActionStatistics, device: str, name: str):
        self.config = model.config
        self.name = name
        self.device = torch.device(device)
        self.statistics = statistics
        self._tokenizer = tokenizer
        self._model = model.to(self.device).eval().requires_grad_(False)
        self._action_weight = model.action_weight().contiguous()
        self._dtype = self._action_weight.dtype
        capacity = self.config.vision.tokens + MAX_PROMPT_TOKENS + 64
        self._cache = engine.KvCache(model.language_model, capacity, self.device, self._dtype)
        self._length = 0
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def observe(self, image: np.ndarray, instruction: str) -> Prompt:
        """Vision tower and projector over image (H, W, 3) uint8 RGB, with the instruction's cached embeddings."""
        before, after = self._text(instruction)
        features = self._model.vision_backbone(self._pixels(image))
        image_embeddings = self._model.projector(features)[0]
        return Prompt(torch.cat((before, image_embeddings, after)), features[0].mean(0))

    @torch.inference_mode()
    def prefill(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """The first pass: logits and hidden state at the prompt's end, (1, 256) and (1, hidden)."""
        hidden = engine.forward(self._model.language_model, self._cache, prompt.embeddings, 0)[-1:]
        self._length = prompt.embeddings.shape[0]
        return hidden @ self._action_weight.T, hidden

    @torch.inference_mode()
    def extend(self, bins: list[int]) -> tuple[Tensor, Tensor]:
        """One more pass, over a chain of n action tokens given as bins: (n, 256) and (n, hidden)."""
        ids = torch.tensor([self.config.action_end - 1 - b for b in bins], device=self.device)
        embeddings = self._model.text_embeddings(ids)
        hidden = engine.forward(self._model.language_model, self._cache, embeddings, self._length)
        self._length += len(bins)
        return hidden @ self._action_weight.T, hidden

    def action(self, bins: np.ndarray) -> np.ndarray:
        """The action (7,) in metres, radians and gripper opening 0..1 of seven bins (7,)."""
        action = self.statistics.unnormalise(decode(bins))
        action[6] = np.clip(action[6], 0.0, 1.0)
        return action

    def unknown_words(self, instruction: str) -> list[str]:
        """Words that the policy has never seen, in the order of the instruction."""
        words = instruction.lower().split()
        unknown = self._tokenizer.token_to_id(UNKNOWN)
        return [word for word in words if unknown is not None and self._tokenizer.token_to_id(word) in (None, unknown)]

    def synchronise(self) -> None:
        """Wait for the device, so that a clock read afterwards is true."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def self_test(self) -> str:
        """One line about the loaded policy. Raises CheckpointError when the image makes no difference to its logits."""
        from vla_sd_ros.policy.checkpoint import CheckpointError

        size = self.config.vision.image_size
        logits = [
            self.prefill(self.observe(np.full((size, size, 3), value, np.uint8), "test"))[0] for value in (0, 255)
        ]
        if not all(torch.isfinite(x).all() for x in logits):
            raise CheckpointError(f"checkpoint {self.name} gives logits that are not finite: its weights are damaged")
        if torch.allclose(*logits, atol=1e-4):
            raise CheckpointError(f"checkpoint {self.name} ignores the image: its vision tower was not loaded")
        parameters = sum(p.numel() for p in self._model.parameters())
        return f"{self.name}: {parameters / 1e6:.1f} M parameters, {self._dtype}, on {self.device}, self-test passed"

    def _text(self, instruction: str) -> tuple[Tensor, Tensor]:
        """Embeddings of BOS (1, hidden), and of the rest of the prompt (m, hidden); kept for the next frame."""
        if instruction not in self._texts:
            ids = prompt_ids(self._tokenizer, instruction, self.config.prompt_end_id)[:MAX_PROMPT_TOKENS]
            embeddings = self._model.text_embeddings(torch.tensor(ids, device=self.device))
            if len(self._texts) > 64:
                self._texts.clear()
            self._texts[instruction] = embeddings[:1], embeddings[1:]
        return self._texts[instruction]

    def _pixels(self, image: np.ndarray) -> Tensor:
        """image (H, W, 3) uint8 RGB to normalised pixels (1, 3, size, size)."""
        size = self.config.vision.image_size
        if image.shape[:2] != (size, size):
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        return normalise_pixels(torch.from_numpy(np.ascontiguousarray(image))[None].to(self.device), self.config).to(self._dtype)


def normalise_pixels(images: Tensor, config) -> Tensor:
    """images (B, H, W, 3) uint8 to (B, 3, H, W) float."""
    return (images.permute(0, 3, 1, 2).float() / 255.0 - config.image_mean) / config.image_std


