# SPDX-License-Identifier: Apache-2.0
"""OpenVLA's prompt, and the small word tokenizer of the embedded policy."""
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

PREFIX, SUFFIX = "In: What action should the robot take to ", "?\nOut:"
UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"


def prompt_text(instruction: str) -> str:
    """OpenVLA's prompt for an instruction."""
    return f"{PREFIX}{instruction.strip().lower()}{SUFFIX}"


def prompt_ids(tokenizer: Tokenizer, instruction: str, end_id: int | None) -> list[int]:
    """Token ids of the prompt, BOS first; end_id is appended if it is given and not last already (29871 for Llama-2)."""
    ids = tokenizer.encode(prompt_text(instruction)).ids
    if end_id is not None and ids[-1] != end_id:
        ids.append(end_id)
    return ids


def word_tokenizer(instructions: Iterable[str]) -> Tokenizer:
    """A tokenizer with one token a word of these instructions, and one for each fixed half of the prompt."""
    words = sorted({word for instruction in instructions for word in instruction.lower().split()})
    vocabulary = {token: i for i, token in enumerate([UNKNOWN, BOS, EOS, PREFIX, SUFFIX, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (BOS, EOS, PREFIX, SUFFIX)])
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a checkpoint's tokenizer.json."""
    return Tokenizer.from_file(str(path))
