# SPDX-License-Identifier: Apache-2.0
"""A scripted expert with privileged state, for LIBERO tasks of things to be put somewhere, of drawers and of a knob.

It keeps nothing between calls but the gripper's last command, so it can label any state that a noisy arm or a learning
policy gets into, and recovers from a lost grasp by itself. Actions are those of bridge_orig at 5 Hz: translation [m] and
fixed-axis roll, pitch, yaw [rad] in base axes onto the previous commanded target, gripper 0 closed or 1 open.
"""

from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from vla_sd_ros.sim.jobs import Job, Open, Put, Task, TurnOn
from vla_sd_ros.sim.scene import LiberoScene
from vla_sd_ros.sim.shapes import extent, top_at, wall

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
NEAREST_REACH = 0.018  # [m], the same where a wall leaves less room: the fingers, closing, still draw the bowl between them
FINGER_ROOM = 0.068  # [m] from the middle of the open gripper to a wall beside it
HELD_RADIUS = 0.04  # [m]: an object whose grasp point is farther from the gripper is not held
FLAT = 0.02  # [m]: a plate is moved low above the table
HIGHEST = 0.43  # [m] of the gripper, below the top of the workspace
KNOB_HEIGHT = 0.028  # [m] above the stove's origin at which the knob is held
KNOB_TOLERANCE = np.array([0.012, 0.012, 0.012])  # [m]
HANDLES = {  # [m] from a cabinet's origin to the middle of its closed drawers' handles
    "top": np.array([0.002, 0.101, 0.184]),
    "middle": np.array([0.002, 0.101, 0.110]),
    "bottom": np.array([0.002, 0.101, 0.041]),
}
HANDLE_TOLERANCE = np.array([0.03, 0.012, 0.014])  # [m]
HANDLE_TILT = 0.35  # [rad] from level within which the hand closes around a handle
KNOB_LEAD = 0.3  # [rad] that the hand turns ahead of the knob
ASIDE = 0.1  # [m] that the gripper makes for to leave, or to pull: all speed
DOWN = Rotation.from_matrix([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])  # gripper straight down, fingers closing along y
LEVEL = Rotation.from_euler("x", -90, degrees=True) * DOWN  # gripper towards -y, fingers closing along z


class Expert:
    """Acts for one task in one scene: the first of its jobs that is not done."""

    def __init__(self, scene: LiberoScene, task: Task):
        self._scene, self._task = scene, task
        self._motions = [motion_for(scene, job) for job in task]

    def action(self) -> np.ndarray:
        """The next action (7,) for the scene's present state."""
        position, rotation = self._scene.ee_pose()
        now = self._motion()
        leaving = (motion.leave(position) for motion in self._motions if motion is not now)
        goal, towards, gripper = next((target for target in leaving if target), None) or now.target(position)
        translation = np.clip(GAIN * (goal - position), -MAX_TRANSLATION, MAX_TRANSLATION)
        turn = (towards * Rotation.from_matrix(rotation).inv()).as_rotvec()
        return np.concatenate([translation, np.clip(GAIN * turn, -MAX_ROTATION, MAX_ROTATION), [gripper]])

    def privileged(self) -> dict:
        """Grasp point (3,) and place point (3,) [m], and whether the object is held: targets of auxiliary losses."""
        motion, position = self._motion(), self._scene.ee_pose()[0]
        return {"grasp_points": motion.grasp(), "place_points": motion.place(), "held": motion.held(position)}

    def done(self) -> bool:
        """Whether the task's goal is reached."""
        return all(self._scene.holds(job.predicate) for job in self._task)

    def record(self, gripper: float) -> None:
        """Tell the expert which gripper command was executed, its own or another's."""
        for motion in self._motions:
            motion.closed = gripper < 0.5

    def _motion(self) -> "Motion":
        return next(
            (motion for motion, job in zip(self._motions, self._task) if not self._scene.holds(job.predicate)), self._motions[-1]
        )


Target = tuple[np.ndarray, Rotation, float]  # position (3,) [m] and rotation to go to, gripper 0 closed or 1 open


class Motion(Protocol):
    """How one job is done. closed: the gripper's last command."""

    closed: bool

    def target(self, position: np.ndarray) -> Target:
        """Where the gripper shall go now from a position (3,) [m]."""

    def leave(self, position: np.ndarray) -> Target | None:
        """The same where another job is the next and the gripper at this position still stands around something of this one's."""

    def grasp(self) -> np.ndarray:
        """Where to hold now (3,) [m]."""

    def place(self) -> np.ndarray:
        """Where the gripper opens, or stops (3,) [m]."""

    def held(self, position: np.ndarray) -> bool:
        """Whether the gripper at this position (3,) [m] holds what it is to hold."""


def motion_for(scene: LiberoScene, job: Job) -> Motion:
    """The motion for a job in a scene."""
    match job:
        case Put():
            return PickAndPlace(scene, job)
        case TurnOn():
            return Turning(scene, job)
        case Open():
            return Pulling(scene, job)


class PickAndPlace:
    """Over it, down, close, up, over to its place, down, open."""

    def __init__(self, scene: LiberoScene, job: Put):
        self._scene, self._job = scene, job
        self._shape = extent(scene, job.item)
        middle = (self._shape.low + self._shape.high) / 2 * [1, 1, 0]
        self._middle = scene.object_pose(job.item)[1].T @ middle  # in the item's own axes
        self._region = None if job.drop or _is_thing(scene, job.place) else job.place
        self._top = extent(scene, job.place).high[2] if not job.drop and not self._region else 0.0
        self._fixtures = {name: extent(scene, name) for name in scene.fixture_names()}
        self._wall = wall(scene, job.item, self._shape.high[2] / 2) if job.rim else None  # such as a drawer's front
        self.closed = False

    def target(self, position: np.ndarray) -> Target:
        """As a Motion's."""
        grasp = self.grasp()
        if self._holds(grasp, position):
            goal, gripper = self._carry(position)
            return goal, _yawed(-np.pi / 2) if self._job.upright else DOWN, gripper
        goal, gripper = self._approach(position, grasp)
        return goal, _yawed(self._thin_side()) if self._job.upright else DOWN, gripper

    def _thin_side(self) -> float:
        """Yaw [rad] of the hand that holds the item across its own x axis, within a quarter of a turn."""
        across = self._scene.object_pose(self._job.item)[1][:, 0]
        return float((np.arctan2(across[1], across[0])) % np.pi - np.pi / 2)

    def leave(self, position: np.ndarray) -> Target | None:
        """As a Motion's: what was put down, if it does not lie in a basket."""
        error = self.grasp() - position
        if self._job.drop or np.hypot(error[0], error[1]) > 0.03 or not -0.06 < error[2] < 0.03:
            return None
        return position + np.array([0.0, 0.0, ASIDE]), DOWN, 1.0

    def place(self) -> np.ndarray:
        """As a Motion's."""
        return self._place()[0]

    def held(self, position: np.ndarray) -> bool:
        """As a Motion's."""
        return self._holds(self.grasp(), position)

    def _holds(self, grasp: np.ndarray, position: np.ndarray) -> bool:
        """Closed at the object, with something between the fingers where the object is thicker than a bowl's rim."""
        gripped = self._job.rim or self._scene.fingers.sum() > EMPTY_GAP
        return bool(self.closed and gripped and np.linalg.norm(grasp - position) < HELD_RADIUS)

    def grasp(self) -> np.ndarray:
        """As a Motion's: a bowl at its rim, anything else below its top."""
        position, rotation = self._scene.object_pose(self._job.item)
        if not self._job.rim:
            middle = rotation @ self._middle if self._job.upright else np.zeros(3)
            return position + self._grasp_offset() + middle
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
        if self._job.rim:
            return np.array([0.0, self._job.rim, max(self._shape.high[2] - 0.018, self._shape.low[2] + 0.013)])
        return np.array([0.0, 0.0, max(self._shape.high[2] - self._job.below_top, self._shape.low[2] + 0.013)])

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
        if self._job.rim:  # one that stood aslant hangs otherwise than it was to be held
            hanging = position - self._scene.object_pose(self._job.item)[0]
            place[:2] += hanging[:2] - self._grasp_offset()[:2]
        carry = min(max(carry, self._clear_height(position)), max(HIGHEST, place[2]))
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
            return np.array([basket[0] + self._job.aside, basket[1], 0.24]), 0.28
        if self._region:
            support = self._scene.site_position(self._region) + np.array([self._job.aside, 0.0, 0.0])
            top = top_at(self._scene, support)
        else:
            support = self._scene.object_pose(self._job.place)[0]
            top = support[2] + self._top
        offset = self._grasp_offset()
        release = top + offset[2] - self._shape.low[2] + 0.012
        carry = max(release + 0.12, 0.16) if self._shape.high[2] > FLAT else release + 0.04
        return np.array([support[0] + offset[0], support[1] + offset[1], release]), carry


def _yawed(angle: float) -> Rotation:
    """The gripper straight down, turned by an angle [rad] about the vertical."""
    return Rotation.from_rotvec([0.0, 0.0, angle]) * DOWN


def _grips(scene: LiberoScene, closed: bool, grasp: np.ndarray, position: np.ndarray) -> bool:
    """Whether the closed gripper is at the grasp with something between its fingers."""
    return bool(closed and scene.fingers.sum() > EMPTY_GAP and np.linalg.norm(grasp - position) < HELD_RADIUS)


def _is_thing(scene: LiberoScene, name: str) -> bool:
    return name in (*scene.object_names(), *scene.fixture_names())


class Turning:
    """Over a stove's knob, down, close, turn."""

    def __init__(self, scene: LiberoScene, job: TurnOn):
        self._scene, self._job = scene, job
        self.closed = False

    def target(self, position: np.ndarray) -> Target:
        """As a Motion's."""
        knob, angle = self.grasp(), self._scene.joint_position(f"{self._job.stove}_button")
        error = knob - position
        if self.held(position):
            return knob, _yawed(angle + KNOB_LEAD), 0.0
        at = _yawed(angle)
        if np.all(np.abs(error) < KNOB_TOLERANCE):
            return knob, at, 0.0
        height = np.clip(FUNNEL_SLOPE * (np.linalg.norm(error[:2]) - FUNNEL_TOLERANCE), 0.0, HOVER)
        return knob + np.array([0.0, 0.0, height - SINK]), at, 1.0

    def leave(self, position: np.ndarray) -> Target | None:
        """As a Motion's: straight up."""
        error = self.grasp() - position
        if np.hypot(error[0], error[1]) > 0.03 or error[2] < -0.06:
            return None
        return position + np.array([0.0, 0.0, ASIDE]), Rotation.from_matrix(self._scene.ee_pose()[1]), 1.0

    def grasp(self) -> np.ndarray:
        """As a Motion's: the knob's middle."""
        return self._scene.object_pose(self._job.stove)[0] + np.array([0.0, 0.0, KNOB_HEIGHT])

    def place(self) -> np.ndarray:
        """As a Motion's: the knob's middle, too."""
        return self.grasp()

    def held(self, position: np.ndarray) -> bool:
        """As a Motion's."""
        return _grips(self._scene, self.closed, self.grasp(), position)


class Pulling:
    """Before a drawer's handle with the hand level, over it, close, pull."""

    def __init__(self, scene: LiberoScene, job: Open):
        self._scene, self._job = scene, job
        self._drawer = job.region.removesuffix("_region")
        self.closed = False

    def target(self, position: np.ndarray) -> Target:
        """As a Motion's."""
        handle = self.grasp()
        if self.held(position):
            return np.array([handle[0], position[1] + ASIDE, handle[2]]), LEVEL, 0.0
        error = handle - position
        tilt = (LEVEL * Rotation.from_matrix(self._scene.ee_pose()[1]).inv()).magnitude()
        if np.all(np.abs(error) < HANDLE_TOLERANCE) and tilt < HANDLE_TILT:
            return handle + np.array([0.0, 0.02, 0.0]), LEVEL, 0.0
        aside = np.hypot(error[0], error[2])
        # a funnel in front of the handle, farther away as long as the hand is not level
        away = np.clip(3.0 * (aside - 0.008) + 0.25 * max(tilt - 0.15, 0.0), 0.0, 0.12)
        return handle + np.array([0.0, away - 0.006, 0.0]), LEVEL, 1.0

    def leave(self, position: np.ndarray) -> Target | None:
        """As a Motion's: straight away from the handle."""
        error = self.grasp() - position
        if np.hypot(error[0], error[2]) > 0.04 or error[1] < -0.07:
            return None
        return position + np.array([0.0, ASIDE, 0.0]), LEVEL, 1.0

    def grasp(self) -> np.ndarray:
        """As a Motion's: the handle's middle."""
        cabinet, level = self._drawer.rsplit("_", 1)
        at = self._scene.object_pose(cabinet)[0] + HANDLES[level]
        return at + np.array([0.0, -self._scene.joint_position(f"{self._drawer}_level"), 0.0])

    def place(self) -> np.ndarray:
        """As a Motion's: where the handle of the open drawer is."""
        handle = self.grasp()
        return handle + np.array([0.0, 0.16 + self._scene.joint_position(f"{self._drawer}_level"), 0.0])

    def held(self, position: np.ndarray) -> bool:
        """As a Motion's."""
        return _grips(self._scene, self.closed, self.grasp(), position)
