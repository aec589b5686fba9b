# SPDX-License-Identifier: Apache-2.0
"""Each file that a recipe of CONTRIBUTING.md names is there, and each name that a step speaks of is in a file named by then."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = {
    title: re.findall(r"^\d\. (?:.|\n(?!\d\. ))+", body, re.MULTILINE)
    for title, body in re.findall(r"^## ((?:Add|Change) .+)\n((?:.|\n(?!## ))*)", TEXT, re.MULTILINE)
}


def files(steps: str) -> list[Path]:
    """All that the backticked paths of some steps name, the files of a folder among them."""
    found: list[Path] = []
    for word in re.findall(r"`(?:python )?([\w.*/]+(?:/|\.\w+))`", steps):
        if "/" in word or (ROOT / word).exists():
            named = list(ROOT.glob(word.rstrip("/")))
            assert named, f"there is no {word}"
            found += [file for place in named for file in (place.rglob("*.*") if place.is_dir() else [place]) if file.is_file()]
        else:  # a file that the recipe has named before
            assert any(file.name == word for file in found), f"{word} is in no folder"
    return found


def test_there_are_four_recipes_of_five_steps():
    assert list(RECIPES) == ["Add a decoder", "Add an arm", "Add a source of recordings", "Change a limit"]
    assert all(len(steps) == 5 for steps in RECIPES.values())


@pytest.mark.parametrize("title", RECIPES)
def test_files_and_names_are_there(title):
    assert files("".join(RECIPES[title]))
    for number, step in enumerate(RECIPES[title]):
        texts = [
            file.read_text() for file in files("".join(RECIPES[title][: number + 1])) if file.suffix in (".py", ".yaml", ".md")
        ]
        for name in re.findall(r"`([A-Za-z_]\w*)`", step):
            assert any(re.search(rf"\b{name}\b", text) for text in texts), f"{name} is in no file that {title!r} has named by then"
