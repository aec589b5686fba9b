# SPDX-License-Identifier: Apache-2.0
"""Random places for the objects of a scene, some of which training never uses for the object that is asked for."""

import numpy as np

LOW, HIGH = np.array([0.37, -0.30]), np.array([0.78, 0.31])  # [m] in the base frame: seen by the camera
REACH = 0.78  # [m] from the base, as far as the arm comes with its gripper straight down
GAP = 0.03  # [m] between two objects: the open fingers just fit in
CELL = 0.05  # [m], edge of the squares by which places are held out
HELD_OUT = 5  # one square of so many is held out
TRIES = 200


def is_held_out(place: np.ndarray) -> bool:
    """Whether a place (x, y) [m] is for measurement alone: every fifth square of the floor, like a knight's moves apart."""
    column, row = np.floor(np.asarray(place[:2]) / CELL).astype(int)
    return bool((column + 2 * row) % HELD_OUT == 0)


def draw(radii: dict[str, float], rng: np.random.Generator, held_out: dict[str, bool] | None = None) -> dict[str, np.ndarray]:
    """A place (x, y) [m] for each object, by its radius [m], such that none stands in another's way.

    held_out: for some objects, whether the place must be a held-out one (True) or must not (False). The largest object is
    placed first; one for which there is no room any more is left out.
    """
    places: dict[str, np.ndarray] = {}
    for name in sorted(radii, key=radii.__getitem__, reverse=True):
        for _ in range(TRIES):
            place = rng.uniform(LOW, HIGH)
            if np.linalg.norm(place) > REACH or (held_out or {}).get(name, is_held_out(place)) != is_held_out(place):
                continue
            if all(np.linalg.norm(place - other) > radii[name] + radii[o] + GAP for o, other in places.items()):
                places[name] = place
                break
    return places
