# SPDX-License-Identifier: Apache-2.0
"""OpenVLA's prompt, and the small word tokenizer of the embedded policy."""
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from vla_sd_ros.instruction import normalized

PREFIX, SUFFIX = "In: What action should the robot take to ", "?\nOut:"
UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
# The fixed parts of the prompt in Llama-2's tokenizer, and what must follow them
LLAMA2_PREFIX = [1, 512, 29901, 1724, 3158, 881, 278, 19964, 2125, 304]
LLAMA2_SUFFIX = [29973, 13, 3744, 29901, 29871]


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
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a checkpoint's tokenizer.json; a limit of length or a padding that it may contain does not apply."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_llama2(tokenizer: Tokenizer, end_id: int) -> None:
    """Raises ValueError unless a prompt's fixed parts have the ids that OpenVLA was trained on."""
    ids = prompt_ids(tokenizer, "x", end_id)
    if ids[: len(LLAMA2_PREFIX)] != LLAMA2_PREFIX or ids[-len(LLAMA2_SUFFIX) :] != LLAMA2_SUFFIX:
        raise ValueError(
            f"tokenizer.json is not Llama-2's: OpenVLA's prompt becomes {ids[:10]} ... {ids[-5:]} instead of "
            f"{LLAMA2_PREFIX} ... {LLAMA2_SUFFIX}"
        )
