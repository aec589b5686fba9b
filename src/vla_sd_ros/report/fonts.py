# SPDX-License-Identifier: Apache-2.0
"""A font that has the characters of an instruction, in whatever script it was written."""

from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font


def path_for(text: str) -> str:
    """File of the font for a text: matplotlib's own where it has all characters, else that of this machine with the most."""
    return _choose(_characters(text))[0]


def objection(text: str) -> str:
    """One sentence where no font of this machine has all characters of an instruction; empty otherwise."""
    lacking = _choose(_characters(text))[1]
    if not lacking:
        return ""
    shown = "".join(sorted(lacking)[:10]) + " ..." * (len(lacking) > 10)
    return (
        f"the instruction in video.mp4 and report.png: no font of this machine has {shown}, which stand there as boxes; "
        "install one that does (apt-get install fonts-noto-cjk fonts-noto-core) and make the report again"
    )


def _characters(text: str) -> frozenset[str]:
    return frozenset(character for character in text if character.isprintable() and not character.isspace())


@cache
def _choose(characters: frozenset[str]) -> tuple[str, frozenset[str]]:
    """The font's file, and the characters that it lacks."""
    best: tuple[str, frozenset[str]] = font_manager.findfont("DejaVu Sans"), characters
    for path in [best[0], *_installed()]:
        try:
            lacking = characters - {chr(code) for code in FT2Font(path).get_charmap()}
        except (OSError, RuntimeError):  # a file that is damaged, or no outline font
            continue
        if len(lacking) < len(best[1]):
            best = path, lacking
        if not lacking:
            return path, lacking
    return best


def _installed() -> list[str]:
    return sorted(font_manager.findSystemFonts())
