# SPDX-License-Identifier: Apache-2.0
"""The one place where an instruction is normalised, for prompts, partitions of a database, and comparisons.

Policies were trained on plain lower-case sentences without a full stop. To them `"Pick up the milk."` is another sentence,
and a database would keep it apart.
"""

import unicodedata

import regex

# Unicode's own classes: a full stop is one in every script.
_CLOSING = regex.compile(r"[\s\p{Sentence_Terminal}\p{Terminal_Punctuation}…]+$")
_OPENING = regex.compile(r"^[\s¿¡]+")
_APOSTROPHE = regex.compile(r"(?<=[\p{L}\p{M}])[’ʼ＇](?=\p{L})")
_UNPRINTABLE = regex.compile(r"[\p{C}--[\t\n\r\u200c\u200d\ufeff]]", regex.V1)  # all but what lays out, joins, marks UTF-8
_QUOTES = regex.compile(
    r"(?<![\p{L}\p{M}])\p{Quotation_Mark}|\p{Quotation_Mark}(?!\p{L})|[\p{Quotation_Mark}--['‘’]]|[`´]", regex.V1
)


def objection(instruction: str) -> str:
    """What makes this no instruction, as the rest of a sentence that begins with its name; empty where it is one."""
    unprintable = _UNPRINTABLE.search(instruction)
    if unprintable:
        return f"contains the unprintable character U+{ord(unprintable[0]):04X}"
    return "" if normalized(instruction) else "is empty"


def normalized(instruction: str) -> str:
    """The instruction as the policies read it: NFC, lower case, single spaces, without quotation marks and closing punctuation.

    Apostrophes within words stay. Two instructions that give the same are one. Empty where nothing was said.
    """
    text = unicodedata.normalize("NFC", instruction.replace("\ufeff", "")).lower()
    text = _QUOTES.sub(" ", _APOSTROPHE.sub("'", text))
    text = " ".join(text.split())
    return unicodedata.normalize("NFC", _OPENING.sub("", _CLOSING.sub("", text)))
