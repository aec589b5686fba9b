# SPDX-License-Identifier: Apache-2.0
"""Scenes of our own to train in, made of LIBERO's objects: more of them at once than any published scene has.

A suite of this name has one task for each scene. Its places mean nothing: reset() with places puts every object somewhere.
"""
import tempfile
from functools import cache
from pathlib import Path

OWN = "own"
SENTENCE = "pick up the milk and place it in the basket"
GROCERIES = (
    "alphabet_soup", "cream_cheese", "salad_dressing", "bbq_sauce", "ketchup", "tomato_sauce", "butter", "milk",
    "chocolate_pudding", "orange_juice",
)


def groceries() -> str:
    """All the groceries of libero_object beside one basket on the floor, as BDDL."""
    spots = [(-0.2 + 0.1 * (i % 5), -0.25 + 0.14 * (i // 5)) for i in range(len(GROCERIES))]
    regions = "".join(_region(f"spot_{i}", "floor", x, y) for i, (x, y) in enumerate(spots))
    objects = "".join(f" {name}_1 - {name}\n" for name in GROCERIES)
    places = "".join(f" (On {name}_1 floor_spot_{i})\n" for i, name in enumerate(GROCERIES))
    return f"""(define (problem LIBERO_Floor_Manipulation)
 (:domain robosuite)
 (:language {SENTENCE})
 (:regions {regions} {_region("bin_region", "floor", 0.0, 0.26)} (contain_region (:target basket_1)))
 (:fixtures floor - floor)
 (:objects
{objects} basket_1 - basket
 )
 (:obj_of_interest milk_1 basket_1)
 (:init
{places} (On basket_1 floor_bin_region)
 )
 (:goal (And (In milk_1 basket_1_contain_region)))
)
"""


SCENES = {"groceries": groceries}


def _region(name: str, target: str, x: float, y: float) -> str:
    low, high = (f"{x - 0.005} {y - 0.005}", f"{x + 0.005} {y + 0.005}")
    return f"({name} (:target {target}) (:ranges (({low} {high})))) "


@cache
def bddl_of(scene: str) -> Path:
    """A file with the scene's BDDL; LIBERO reads nothing else. It lasts as long as the process."""
    directory = _directory()
    path = Path(directory.name) / f"{scene}.bddl"
    path.write_text(SCENES[scene]())
    return path


@cache
def _directory() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="vla_sd_scenes_")
