# SPDX-License-Identifier: Apache-2.0
"""Scenes of our own to train in, made of LIBERO's objects, in which everything that can be moved is put somewhere anew.

They are the tasks of a suite of their own. What LIBERO's files say of places means nothing here but where fixtures stand.
"""

import tempfile
from functools import cache
from pathlib import Path

OWN = "own"
GROCERIES = (
    "alphabet_soup",
    "cream_cheese",
    "salad_dressing",
    "bbq_sauce",
    "ketchup",
    "tomato_sauce",
    "butter",
    "milk",
    "chocolate_pudding",
    "orange_juice",
)
TABLEWARE = {"akita_black_bowl": 2, "cookies": 1, "glazed_rim_porcelain_ramekin": 1, "plate": 1}


def groceries() -> str:
    """All the groceries of libero_object beside one basket on the floor."""
    objects = dict.fromkeys((*GROCERIES, "basket"), 1)
    return _bddl(
        "LIBERO_Floor_Manipulation",
        floor="floor",
        fixtures={"floor": "floor"},
        objects=objects,
        fixed={},
        sites=["(contain_region (:target basket_1))"],
        sentence="pick up the milk and place it in the basket",
        goal="(In milk_1 basket_1_contain_region)",
    )


def table(cabinet: tuple[float, float, float], stove: tuple[float, float]) -> str:
    """The tableware of libero_spatial; x, y [m] of the fixtures, and the cabinet's yaw [rad]."""
    fixtures = {"main_table": "table", "wooden_cabinet_1": "wooden_cabinet", "flat_stove_1": "flat_stove"}
    sites = [f"({part} (:target wooden_cabinet_1))" for part in ("top_region", "middle_region", "bottom_region", "top_side")]
    return _bddl(
        "LIBERO_Tabletop_Manipulation",
        floor="main_table",
        fixtures=fixtures,
        objects=TABLEWARE,
        fixed={"wooden_cabinet_1": cabinet, "flat_stove_1": (*stove, 0.0)},
        sites=[*sites, "(cook_region (:target flat_stove_1))"],
        sentence="pick up the black bowl next to the plate and place it on the plate",
        goal="(On akita_black_bowl_1 plate_1)",
    )


SCENES = {
    "groceries": groceries,
    "table": lambda: table((0.03, -0.27, 2.69), (-0.41, -0.14)),  # as in libero_spatial
    "table, stove on the right": lambda: table((0.03, -0.27, 2.69), (-0.41, 0.2)),
}


def _bddl(
    problem: str,
    floor: str,
    fixtures: dict[str, str],
    objects: dict[str, int],
    fixed: dict[str, tuple[float, float, float]],
    sites: list[str],
    sentence: str,
    goal: str,
) -> str:
    """A scene for LIBERO. objects: how many of each kind; they stand in rows. fixed: x, y [m] and yaw [rad] of fixtures."""
    named = {kind: [f"{kind}_{i}" for i in range(1, 1 + count)] for kind, count in objects.items()}
    everything = [name for names in named.values() for name in names]
    spots = {name: (-0.1 + 0.13 * (i % 5), -0.02 + 0.15 * (i // 5), 0.0) for i, name in enumerate(everything)} | fixed
    regions = [
        f"({name}_spot (:target {floor}) (:ranges (({x - 0.005} {y - 0.005} {x + 0.005} {y + 0.005})))"
        + (f" (:yaw_rotation (({yaw} {yaw})))" if yaw else "")
        + ")"
        for name, (x, y, yaw) in spots.items()
    ]
    return f"""(define (problem {problem}) (:domain robosuite)
 (:language {sentence})
 (:regions {" ".join(regions + sites)})
 (:fixtures {" ".join(f"{name} - {kind}" for name, kind in fixtures.items())})
 (:objects {" ".join(f"{' '.join(names)} - {kind}" for kind, names in named.items())})
 (:obj_of_interest {everything[0]})
 (:init {" ".join(f"(On {name} {floor}_{name}_spot)" for name in spots)})
 (:goal (And {goal}))
)
"""


@cache
def bddl_of(index: int) -> Path:
    """A file with the scene's BDDL; LIBERO reads nothing else. It lasts as long as the process."""
    path = Path(_directory().name) / f"scene{index}.bddl"
    path.write_text(list(SCENES.values())[index]())
    return path


@cache
def _directory() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="vla_sd_scenes_")
