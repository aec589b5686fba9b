# SPDX-License-Identifier: Apache-2.0
"""Random layouts of libero_spatial's tableware in a scene of our own, and the sentences that are true of them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from vla_sd_ros.sim import places
from vla_sd_ros.sim.scene import LiberoScene
from vla_sd_ros.sim.shapes import standing_area

BOWLS = ("akita_black_bowl_1", "akita_black_bowl_2")
NAMES = {"the plate": "plate_1", "the ramekin": "glazed_rim_porcelain_ramekin_1", "the cookie box": "cookies_1"}
FIXTURES = {"the stove": "flat_stove_1", "the wooden cabinet": "wooden_cabinet_1"}
CENTRE = np.array([0.585, 0.0])  # [m] of the table, base frame
BESIDE = (0.01, 0.035)  # [m] between two things that are next to each other
APART = 0.1  # [m] of a bowl from all that it does not stand next to
BETWEEN = (0.27, 0.38)  # [m] from plate to ramekin, with a bowl between them
TRIES = 50


class NoRoom(Exception):
    """A layout that does not work out."""


@dataclass
class Layout:
    """spots: (x, y) [m] in the base frame. on: what stands on what. where: for each bowl the words that tell it apart."""

    radii: dict[str, float]
    spots: dict[str, np.ndarray] = field(default_factory=dict)
    on: dict[str, str] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)

    def gap(self, name: str, spot: np.ndarray, other: str) -> float:
        """Distance [m] between two things, if this one stood there."""
        return float(np.linalg.norm(spot - self.spots[other])) - self.radii[name] - self.radii[other]

    def put(self, name: str, draw: Callable[[], np.ndarray], near: tuple[str, ...] = ()) -> None:
        """Put it where `draw` says and it is APART from all but `near` and fixtures. Raises NoRoom."""
        near = (*near, *FIXTURES.values())
        for _ in range(TRIES):
            spot = draw()
            inside = np.all(spot > places.LOW) and np.all(spot < places.HIGH) and np.linalg.norm(spot) < places.REACH
            free = all(self.gap(name, spot, other) > (0 if other in near else APART) for other in self.spots)
            if inside and free and not places.is_held_out(spot):
                self.spots[name] = spot
                return
        raise NoRoom


def relations(layout: Layout, bowl: str, rng: np.random.Generator) -> dict[str, Callable[[], None]]:
    """What can be said of a bowl, and how to make it true."""

    def beside(other: str) -> Callable[[], np.ndarray]:
        def draw() -> np.ndarray:
            distance, angle = layout.radii[bowl] + layout.radii[other] + rng.uniform(*BESIDE), rng.uniform(0, 2 * np.pi)
            return layout.spots[other] + distance * np.array([np.cos(angle), np.sin(angle)])

        return draw

    def next_to(name: str) -> None:
        layout.put(bowl, beside(name), (name,))

    def between() -> None:
        plate, ramekin = (layout.spots[NAMES[name]] for name in ("the plate", "the ramekin"))
        if not BETWEEN[0] < np.linalg.norm(plate - ramekin) < BETWEEN[1]:
            raise NoRoom
        layout.put(bowl, lambda: (plate + ramekin) / 2 + rng.uniform(-0.015, 0.015, 2), tuple(NAMES.values()))

    def on(name: str, reach: float) -> None:
        if name in layout.on.values():
            raise NoRoom
        layout.spots[bowl] = layout.spots[name] + rng.uniform(-reach, reach, 2)
        layout.on[bowl] = name

    ways: dict[str, Callable[[], None]] = {f"next to {words}": partial(next_to, name) for words, name in NAMES.items()}
    ways["between the plate and the ramekin"] = between
    ways["from table center"] = lambda: layout.put(bowl, lambda: CENTRE + rng.uniform(-0.03, 0.03, 2))
    ways["on the cookie box"] = lambda: on(NAMES["the cookie box"], 0.0)
    ways |= {f"on {words}": partial(on, name, 0.02) for words, name in FIXTURES.items()}
    return ways


def draw(scene: LiberoScene, rng: np.random.Generator) -> Layout:
    """A layout in which a different thing is true of each bowl."""
    areas = {name: standing_area(scene, name) for name in (*BOWLS, *NAMES.values(), *FIXTURES.values())}
    wanted: list[str] = []
    attempts = itertools.count()
    while True:
        if next(attempts) % TRIES == 0:  # with what was wanted it does not work out
            wanted = [str(words) for words in rng.choice(list(relations(Layout({}), BOWLS[0], rng)), 2, replace=False)]
        radii = {name: radius for name, (_, radius) in areas.items()}
        layout = Layout(radii, {name: areas[name][0] for name in FIXTURES.values()})
        try:
            for name in NAMES.values():
                layout.put(name, lambda: rng.uniform(places.LOW, places.HIGH))
            for bowl, words in zip(BOWLS, wanted):
                relations(layout, bowl, rng)[words]()
                layout.where[bowl] = words
        except NoRoom:
            continue
        for name in FIXTURES.values():
            del layout.spots[name]
        return layout


def sentence(where: str) -> str:
    """LIBERO's sentence for the bowl of which this is true."""
    return f"pick up the black bowl {where} and place it on the plate"
