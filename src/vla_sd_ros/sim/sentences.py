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


# Other words for the same thing or place.
NAMES = {
    "alphabet soup": ("can of alphabet soup", "alphabet soup can", "soup"),
    "cream cheese": ("cream cheese box", "box of cream cheese"),
    "cream cheese box": ("cream cheese", "box of cream cheese"),
    "salad dressing": ("bottle of salad dressing", "dressing"),
    "bbq sauce": ("barbecue sauce", "bottle of bbq sauce"),
    "ketchup": ("ketchup bottle", "bottle of ketchup"),
    "tomato sauce": ("can of tomato sauce", "tomato sauce can"),
    "butter": ("box of butter", "butter box"),
    "milk": ("milk carton", "carton of milk"),
    "chocolate pudding": ("pudding", "box of chocolate pudding"),
    "orange juice": ("carton of orange juice", "orange juice carton", "juice"),
    "bowl": ("black bowl", "dark bowl"),
    "wine bottle": ("bottle", "bottle of wine"),
    "white mug": ("white cup",),
    "yellow and white mug": ("yellow and white cup", "white and yellow mug"),
    "moka pot": ("coffee pot", "pot"),
    "in the basket": ("into the basket", "inside the basket"),
    "on the plate": ("onto the plate", "on top of the plate"),
    "on the stove": ("onto the stove", "on the burner"),
    "on top of the cabinet": ("on the cabinet", "onto the cabinet"),
    "on the rack": ("on the wine rack", "onto the rack"),
    "in the bowl": ("into the bowl", "inside the bowl"),
}
# Sentences of another form: each asks for the same as the first of its line.
OTHERS = (
    (
        "turn on the stove",
        "switch on the stove",
        "turn the stove on",
        "light the stove",
        "please turn on the stove",
        "start the stove",
    ),
    (
        "open the middle drawer of the cabinet",
        "pull the middle drawer of the cabinet open",
        "pull out the middle drawer",
        "open the second drawer of the cabinet",
        "please open the middle drawer",
    ),
    (
        "push the plate to the front of the stove",
        "move the plate in front of the stove",
        "slide the plate to the front of the stove",
        "put the plate in front of the stove",
        "bring the plate to the front of the stove",
    ),
)

# Words that say nothing of what, or where.
FILLERS = {word for template in TEMPLATES for word in template.split() if "{" not in word}


def is_held_out(sentence: str) -> bool:
    """Whether a sentence is for measurement alone; its checksum says so, so that it is the same everywhere."""
    return zlib.crc32(sentence.encode()) % HELD_OUT == 0


def variants(sentence: str) -> list[str]:
    """All sentences for the goal of one of them, itself first; a sentence of another form has no variants."""
    for others in OTHERS:
        if sentence == others[0]:
            return list(others)
    for template in TEMPLATES:
        pattern = re.escape(template).replace(r"\{item\}", "(.+?)").replace(r"\{place\}", f"({PLACE} .+)")
        found = re.fullmatch(pattern, sentence)
        if found:
            item, place = found.groups()
            words = [(i, p) for i in (item, *NAMES.get(item, ())) for p in (place, *NAMES.get(place, ()))]
            said = (t.format(item=i, place=p) for i, p in words for t in TEMPLATES)
            return [sentence, *(other for other in said if other != sentence)]
    return [sentence]


def trained(sentence: str) -> list[str]:
    """Those that may be trained on; the given one, LIBERO's own, always."""
    own, *others = variants(sentence)
    return [own] + [other for other in others if not is_held_out(other)]


def held_out(sentence: str) -> list[str]:
    """Those for measurement alone."""
    return [other for other in variants(sentence)[1:] if is_held_out(other)]
