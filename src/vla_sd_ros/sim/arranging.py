# SPDX-License-Identifier: Apache-2.0
"""Objects of a scene put where they shall stand, or in random places."""

from collections.abc import Sequence

import numpy as np

from vla_sd_ros.sim import places
from vla_sd_ros.sim.scene import LiberoScene
from vla_sd_ros.sim.shapes import extent, standing_area

AWAY = -3.0  # [m], x in the base frame of objects that are not wanted in a scene


def scatter(
    scene: LiberoScene, rng: np.random.Generator, names: Sequence[str], held_out: dict[str, bool] | None = None
) -> list[str]:
    """Put these objects in random places; all others that can be moved are taken away. Call it after a reset.

    held_out: see places.draw(). Returns the names of the objects that found a place.
    """
    drawn = places.draw({name: standing_area(scene, name)[1] for name in names}, rng, held_out)
    arrange(scene, drawn)
    return list(drawn)


def arrange(scene: LiberoScene, spots: dict[str, np.ndarray], on: dict[str, str] | None = None) -> None:
    """Put objects at spots (x, y) [m] in the base frame, upright on the ground, or on another object or fixture as `on`
    says; all others that can be moved are taken away. Call it after a reset, while all stand on the ground."""
    ground = {name: scene.object_pose(name)[0][2] for name in scene.object_names()}
    shapes = {name: extent(scene, name) for name in {*spots, *(on or {}).values()}}
    for i, name in enumerate(scene.object_names()):
        x, y = spots.get(name, (AWAY, 0.3 * i))  # behind the arm, where the camera does not see them
        height = ground[name]
        if below := (on or {}).get(name):
            height = ground.get(below, scene.object_pose(below)[0][2]) + shapes[below].high[2] - shapes[name].low[2]
        scene.put(name, np.array([x, y, height]))
    scene.settle()
