# SPDX-License-Identifier: Apache-2.0
"""OpenVLA's prompt, and the small word tokenizer of the embedded policy."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from vla_sd_ros.instruction import normalized

PREFIX, SUFFIX = "In: What action should the robot take to ", "?\nOut:"
UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
# The fixed parts of the prompt in Llama-2's tokenizer, and what must follow them
LLAMA2_PREFIX = [1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304]
LLAMA2_SUFFIX = [29973, 13, 3744, 29901, 29871]

MAX_PROMPT_TOKENS = 128
MAX_KEPT = 64  # instructions whose embeddings are kept


class Prompts:
    """Instructions as a policy reads them.

    end_id: as in prompt_ids(). embed: token ids (n,) to embeddings (n, hidden).
    """

    def __init__(
        self, tokenizer: Tokenizer, end_id: int | None, embed: Callable[[torch.Tensor], torch.Tensor], device: torch.device
    ):
        self._tokenizer, self._end_id, self._embed, self._device = tokenizer, end_id, embed, device
        self._kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def embeddings(self, instruction: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of BOS (1, hidden) and of the prompt's other tokens (m, hidden); kept for the next image.

        Raises ValueError for an instruction that is too long.
        """
        if instruction not in self._kept:
            objection = self.too_long(instruction)
            if objection:
                raise ValueError(objection)
            embeddings = self._embed(torch.tensor(self._ids(instruction), device=self._device))
            if len(self._kept) > MAX_KEPT:
                self._kept.clear()
            self._kept[instruction] = embeddings[:1], embeddings[1:]
        return self._kept[instruction]

    def too_long(self, instruction: str) -> str:
        """Why an instruction cannot be read, as a sentence; empty when it can."""
        count = len(self._ids(instruction))
        if count <= MAX_PROMPT_TOKENS:
            return ""
        return f"the instruction makes a prompt of {count} tokens, but at most {MAX_PROMPT_TOKENS} are read; shorten it."

    def unknown_words(self, instruction: str) -> list[str]:
        """Words that the tokenizer does not have, in the order of the instruction; none where words are made of pieces."""
        unknown = self._tokenizer.token_to_id(UNKNOWN)
        words = normalized(instruction).split()
        return [word for word in words if unknown in self._tokenizer.encode(word, add_special_tokens=False).ids]

    def _ids(self, instruction: str) -> list[int]:
        return prompt_ids(self._tokenizer, instruction, self._end_id)


def prompt_text(instruction: str) -> str:
    """OpenVLA's prompt for an instruction."""
    return f"{PREFIX}{normalized(instruction)}{SUFFIX}"


def prompt_ids(tokenizer: Tokenizer, instruction: str, end_id: int | None) -> list[int]:
    """Token ids of the prompt, BOS first; end_id is appended if it is given and not last already (29871 for Llama-2)."""
    ids = tokenizer.encode(prompt_text(instruction)).ids
    if end_id is not None and ids[-1] != end_id:
        ids.append(end_id)
    return ids


def word_tokenizer(instructions: Iterable[str]) -> Tokenizer:
    """A tokenizer with one token a word of these instructions, and one for each fixed half of the prompt."""
    words = sorted({word for instruction in instructions for word in normalized(instruction).split()})
    vocabulary = {token: i for i, token in enumerate([UNKNOWN, BOS, EOS, PREFIX, SUFFIX, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (BOS, EOS, PREFIX, SUFFIX)])
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])])
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a checkpoint's tokenizer.json; a limit of length or a padding that it may contain does not apply."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_llama2(tokenizer: Tokenizer, end_id: int | None) -> None:
    """Raises ValueError unless a prompt's fixed parts have the ids that OpenVLA was trained on."""
    ids = prompt_ids(tokenizer, "x", end_id)
    if ids[: len(LLAMA2_PREFIX)] != LLAMA2_PREFIX or ids[-len(LLAMA2_SUFFIX) :] != LLAMA2_SUFFIX:
        raise ValueError(
            f"tokenizer.json is not Llama-2's: OpenVLA's prompt becomes {ids[:10]} ... {ids[-5:]} instead of {LLAMA2_PREFIX} ... "
            f"{LLAMA2_SUFFIX}"
        )
