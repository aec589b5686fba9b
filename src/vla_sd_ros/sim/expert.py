# SPDX-License-Identifier: Apache-2.0
"""A scripted pick-and-place expert with privileged state, for LIBERO tasks whose goal is one object in or on another.

It keeps nothing between calls but the gripper's last command, so it can label any state that a noisy arm or a learning
policy gets into, and recovers from a lost grasp by itself. Actions are those of bridge_orig at 5 Hz: translation [m] and
fixed-axis roll, pitch, yaw [rad] in base axes onto the previous commanded target, gripper 0 closed or 1 open.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vla_sd_ros.sim.scene import LiberoScene
from vla_sd_ros.sim.shapes import Shape, extent, wall

CONTROL_PERIOD = 0.2  # [s]
GAIN = 0.3  # fraction of the remaining error that one action closes
MAX_TRANSLATION = 0.04  # [m] per step
MAX_ROTATION = 0.1  # [rad] per step
GRASP_TOLERANCE = np.array([0.014, 0.011])  # [m] in x and y; wider along x, where the fingers are long
GRASP_DEPTH = (-0.018, 0.004)  # [m] of the gripper relative to the grasp point within which it closes
GRASP_LIFT = 0.06  # [m]: the closing action already lifts with all speed, so that "closed" is soon seen from afar
SINK = 0.006  # [m] below the grasp point that the gripper makes for, so that it does not creep towards it
FUNNEL_TOLERANCE = 0.008  # [m]: within this horizontal distance the gripper goes all the way down
FUNNEL_SLOPE = 3.0  # height above the grasp per horizontal distance
WALLED_SLOPE = 8.0  # the same beside a wall, on which a finger would come to stand
HOVER = 0.12  # [m] above the grasp while approaching, at least
TRAVEL = 0.2  # [m], height at which the open gripper passes over everything that stands in a scene
CLEARANCE = 0.05  # [m] to lift before moving sideways
CARRY_TOLERANCE = 0.012  # [m]: within this horizontal distance of the place the gripper goes down and opens
CARRY_SLOPE = 2.0  # height above the release per horizontal distance
MARGIN = 0.04  # [m] to keep between a held object and a fixture
EMPTY_GAP = 0.008  # [m] between the fingers, below which they hold nothing
RIM_REACH = 0.047  # [m] from a bowl's middle to where it is held
NEAREST_REACH = 0.018  # [m], the same where a wall leaves less room: the fingers, closing, still draw the bowl between them
FINGER_ROOM = 0.068  # [m] from the middle of the open gripper to a wall beside it
HELD_RADIUS = 0.04  # [m]: an object whose grasp point is farther from the gripper is not held
# libero_spatial: the sentence that names the second bowl of each task's scene.
_PLACES = (
    "next to the ramekin",
    "next to the cookie box",
    "next to the plate",
    "on the wooden cabinet",
    "on the wooden cabinet",
    "on the cookie box",
    "on the stove",
    "on the wooden cabinet",
    "next to the ramekin",
    "on the stove",
)
SECOND_BOWL = [f"pick up the black bowl {place} and place it on the plate" for place in _PLACES]
DOWN = Rotation.from_matrix([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])  # gripper straight down, fingers closing along y


@dataclass(frozen=True)
class Job:
    """Put `item` onto or into `place`. hollow: the item is a bowl, held at its rim. drop: the place is a basket."""

    item: str
    place: str
    hollow: bool
    drop: bool

    @property
    def container(self) -> str:
        """The object whose region the place is, or the place itself."""
        return self.place.removesuffix("_contain_region")


def job_for(scene: LiberoScene, item: str | None = None) -> Job:
    """The scene's task as a pick-and-place job; `item` replaces the object to be moved.

    Raises ValueError when the goal is not one object in or on another.
    """
    goal = scene.goal()
    if len(goal) != 1 or goal[0][0] not in ("in", "on"):
        raise ValueError(f"the expert cannot do {scene.instruction!r}: its goal is not one object in or on another")
    _, moved, place = goal[0]
    moved = item or moved
    return Job(moved, place, hollow="bowl" in moved, drop="basket" in place)


def jobs_with_sentences(scene: LiberoScene) -> list[tuple[Job, str]]:
    """The task's own job and sentence first, then others that the same scene allows with a sentence of their own.

    In libero_spatial the second bowl always stands where another task's bowl stands, so that task's sentence names it. A
    basket takes every other object of its scene.
    """
    jobs = [(job_for(scene), scene.instruction)]
    if scene.suite == "libero_spatial":
        jobs.append((job_for(scene, "akita_black_bowl_2"), SECOND_BOWL[scene.task]))
    elif jobs[0][0].drop:
        jobs += [
            (job_for(scene, item), _into_the_basket(item))
            for item in scene.object_names()
            if "basket" not in item and item != jobs[0][0].item
        ]
    return jobs


def _into_the_basket(item: str) -> str:
    return f"pick up the {item.rsplit('_', 1)[0].replace('_', ' ')} and place it in the basket"


class Expert:
    """Acts for one job in one scene."""

    def __init__(self, scene: LiberoScene, job: Job):
        self._scene, self._job = scene, job
        self._shape = extent(scene, job.item)
        self._support = Shape(np.zeros(3), np.zeros(3)) if job.drop else extent(scene, job.place)
        self._fixtures = {name: extent(scene, name) for name in scene.fixture_names()}
        self._wall = wall(scene, job.item, self._shape.high[2] / 2) if job.hollow else None  # such as a drawer's front
        self._closed = False

    def action(self) -> np.ndarray:
        """The next action (7,) for the scene's present state."""
        position, rotation = self._scene.ee_pose()
        grasp = self._grasp()
        held = self._held(grasp, position)
        goal, gripper = self._carry(position) if held else self._approach(position, grasp)
        translation = np.clip(GAIN * (goal - position), -MAX_TRANSLATION, MAX_TRANSLATION)
        turn = (DOWN * Rotation.from_matrix(rotation).inv()).as_rotvec()
        return np.concatenate([translation, np.clip(GAIN * turn, -MAX_ROTATION, MAX_ROTATION), [gripper]])

    def privileged(self) -> dict:
        """Grasp point (3,) and place point (3,) [m], and whether the object is held: targets of auxiliary losses."""
        position = self._scene.ee_pose()[0]
        grasp = self._grasp()
        held = self._held(grasp, position)
        return {"grasp_points": grasp, "place_points": self._place()[0], "held": held}

    def done(self) -> bool:
        """Whether the job's goal is reached."""
        predicate = self._scene.goal()[0]
        return self._scene.holds([predicate[0], self._job.item, predicate[2]])

    def record(self, gripper: float) -> None:
        """Tell the expert which gripper command was executed, its own or another's."""
        self._closed = gripper < 0.5

    def _held(self, grasp: np.ndarray, position: np.ndarray) -> bool:
        """Closed at the object, with something between the fingers where the object is thicker than a bowl's rim."""
        gripped = self._job.hollow or self._scene.fingers.sum() > EMPTY_GAP
        return bool(self._closed and gripped and np.linalg.norm(grasp - position) < HELD_RADIUS)

    def _grasp(self) -> np.ndarray:
        """Where to hold the object now (3,) [m]: a bowl at its rim, anything else below its top."""
        position, rotation = self._scene.object_pose(self._job.item)
        if not self._job.hollow:
            return position + self._grasp_offset()
        up = rotation[:, 2]  # a bowl may stand aslant on another object
        side = np.array([0.0, 1.0, 0.0]) - up[1] * up
        _, reach, height = self._grasp_offset()
        grasp = position + up * height + side / np.linalg.norm(side) * reach
        if self._wall and self._walled(position):
            point, normal = self._wall
            free = grasp[1] + (point - grasp) @ normal / normal[1] - FINGER_ROOM
            grasp[1] = np.clip(free, min(position[1] + NEAREST_REACH, grasp[1]), grasp[1])
        return grasp

    def _walled(self, position: np.ndarray) -> bool:
        """Whether an object at a position (3,) [m] still stands behind the wall."""
        return self._wall is not None and (self._wall[0] - position) @ self._wall[1] > 0.0

    def _grasp_offset(self) -> np.ndarray:
        """From the origin of the upright object to where it is held (3,) [m]."""
        if self._job.hollow:
            return np.array([0.0, RIM_REACH, self._shape.high[2] - 0.018])
        return np.array([0.0, 0.0, max(self._shape.high[2] - 0.03, self._shape.low[2] + 0.013)])

    def _approach(self, position: np.ndarray, grasp: np.ndarray) -> tuple[np.ndarray, float]:
        """Towards the grasp through a funnel; at the grasp close, and lift already: both must look like one thing."""
        error = grasp - position
        if np.all(np.abs(error[:2]) < GRASP_TOLERANCE) and GRASP_DEPTH[0] < -error[2] < GRASP_DEPTH[1]:
            return position + np.array([0.0, 0.0, GRASP_LIFT]), 0.0
        distance = np.hypot(0.8 * error[0], error[1])
        slope = WALLED_SLOPE if self._walled(self._scene.object_pose(self._job.item)[0]) else FUNNEL_SLOPE
        height = np.clip(slope * (distance - FUNNEL_TOLERANCE), 0.0, max(HOVER, TRAVEL - grasp[2]))
        return grasp + np.array([0.0, 0.0, height - SINK]), 1.0

    def _carry(self, position: np.ndarray) -> tuple[np.ndarray, float]:
        """Up, over to the place, down, and open there."""
        place, carry = self._place()
        if self._job.hollow:  # one that stood aslant hangs otherwise than it was to be held
            hanging = position - self._scene.object_pose(self._job.item)[0]
            place[:2] += hanging[:2] - self._grasp_offset()[:2]
        carry = max(carry, self._clear_height(position))
        distance = np.linalg.norm(place[:2] - position[:2])
        if distance < 2 * CARRY_TOLERANCE and position[2] < place[2] + 0.012:
            return place, 1.0
        height = place[2] + np.clip(CARRY_SLOPE * (distance - CARRY_TOLERANCE), 0.0, carry - place[2])
        lifted = np.clip((position[2] - (carry - 0.10)) / CLEARANCE, 0.0, 1.0) if distance > 0.05 else 1.0
        sideways = position[:2] + lifted * (place[:2] - position[:2])
        return np.array([sideways[0], sideways[1], height]), 0.0

    def _clear_height(self, position: np.ndarray) -> float:
        """Height [m] at which a held object clears the fixture below the gripper; -1 where there is none."""
        height = -1.0
        hanging = self._grasp_offset()[2] - self._shape.low[2]
        for name in self._scene.fixture_names():
            origin, shape = self._scene.object_pose(name)[0], self._fixtures[name]
            low, high = origin + shape.low - MARGIN, origin + shape.high + MARGIN
            if np.all(position[:2] > low[:2]) and np.all(position[:2] < high[:2]):
                height = max(height, high[2] + hanging)
        return height

    def _place(self) -> tuple[np.ndarray, float]:
        """Where the gripper opens (3,) [m], and its height on the way there [m]."""
        if self._job.drop:
            basket = self._scene.object_pose(self._job.container)[0]
            return np.array([basket[0], basket[1], 0.24]), 0.28
        support = self._scene.object_pose(self._job.place)[0]
        offset = self._grasp_offset()
        top = support[2] + self._support.high[2]
        release = top + offset[2] - self._shape.low[2] + 0.012
        return np.array([support[0] + offset[0], support[1] + offset[1], release]), max(release + 0.12, 0.16)
