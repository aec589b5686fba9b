# SPDX-License-Identifier: Apache-2.0
"""Several sentences for one goal, some of which training never uses."""

import re
import zlib

HELD_OUT = 5  # one sentence of so many is held out
PLACE = "(?:in|on|to)"  # the word with which a place begins
# {item}, {place}: "milk", "in the basket". The first two are LIBERO's own.
TEMPLATES = (
    "pick up the {item} and place it {place}",
    "put the {item} {place}",
    "pick the {item} and put it {place}",
    "take the {item} and put it {place}",
    "lift the {item} and set it {place}",
    "get the {item} and place it {place}",
    "please put the {item} {place}",
    "pick up the {item} then place it {place}",
    "take the {item} and drop it {place}",
    "i want the {item} {place}",
    "move the {item} so that it is {place}",
    "could you pick up the {item} and put it {place}",
    "the {item} should be {place}",
    "bring the {item} over and leave it {place}",
)


def is_held_out(sentence: str) -> bool:
    """Whether a sentence is for measurement alone; its checksum says so, so that it is the same everywhere."""
    return zlib.crc32(sentence.encode()) % HELD_OUT == 0


def variants(sentence: str) -> list[str]:
    """All sentences for the goal of one of them, itself first; a sentence of another form has no variants."""
    for template in TEMPLATES:
        pattern = re.escape(template).replace(r"\{item\}", "(.+?)").replace(r"\{place\}", f"({PLACE} .+)")
        found = re.fullmatch(pattern, sentence)
        if found:
            item, place = found.groups()
            return [sentence] + [other for t in TEMPLATES if (other := t.format(item=item, place=place)) != sentence]
    return [sentence]


def trained(sentence: str) -> list[str]:
    """Those that may be trained on; the given one, LIBERO's own, always."""
    own, *others = variants(sentence)
    return [own] + [other for other in others if not is_held_out(other)]


def held_out(sentence: str) -> list[str]:
    """Those for measurement alone."""
    return [other for other in variants(sentence)[1:] if is_held_out(other)]
