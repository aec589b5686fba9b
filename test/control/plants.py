# SPDX-License-Identifier: Apache-2.0
"""Arms behind Cartesian controllers, for the tests: each takes a target at every tick, or None for silence."""

from collections import deque

import numpy as np
from pinocchio import exp3

from vla_sd_ros.control.clipping import clip_step
from vla_sd_ros.kinematics.pose import Pose

TICK = 0.01
HOME = Pose(np.array([0.4, 0.0, 0.4]), np.diag([1.0, -1.0, -1.0]))  # a gripper that points down


def offset(translation, rotation_vector) -> Pose:
    """Where the frame that the controller moves lies, seen from the tip."""
    return Pose(np.array(translation, dtype=float), exp3(np.array(rotation_vector, dtype=float)))


def composed(pose: Pose, on: Pose) -> Pose:
    """The pose `on`, given in the axes of `pose`."""
    return Pose(pose.position + pose.rotation @ on.position, pose.rotation @ on.rotation)


def inverse(pose: Pose) -> Pose:
    return Pose(-pose.rotation.T @ pose.position, pose.rotation.T)


class Plant:
    """A controller that brings its own frame to the target; the tip, `pose`, goes along.

    lag [s]: of first order. fastest: m/s, rad/s. halts: what follows after this silence [s] is a stop; None: it goes on to
    its last target. sag (3,) [m]: how far below its target a load holds it.
    """

    def __init__(
        self,
        frame: Pose = offset((0, 0, 0), (0, 0, 0)),
        lag=0.07,
        fastest=(10.0, 30.0),
        halts=None,
        sag=np.zeros(3),
        start: Pose = HOME,
    ):
        self.pose, self._frame, self._lag, self._fastest, self._halts, self._sag = start, frame, lag, fastest, halts, sag
        self._target, self._silence = None, 0.0

    def step(self, target: Pose | None) -> Pose:
        self._silence = 0.0 if target is not None else self._silence + TICK
        self._target = target if target is not None else self._target
        if self._target is None or (self._halts is not None and self._silence > self._halts):
            return self.pose
        goal = composed(self._target, inverse(self._frame))
        goal = Pose(goal.position + self._sag, goal.rotation)
        step = (1.0 - np.exp(-TICK / self._lag)) * self.pose.displacement_to(goal)
        self.pose = self.pose.moved(clip_step(step, self._fastest[0] * TICK, self._fastest[1] * TICK))
        return self.pose


class Run:
    """A controller and a plant, tick by tick; `measured` is what the joint states say of the plant's pose."""

    def __init__(self, controller, plant: Plant, measured=lambda pose: pose, late: float = 0.02):
        """late [s]: from the plant's pose to the controller."""
        self.controller, self.plant, self.believed, self.now = controller, plant, measured, 100.0
        self.sent: list[Pose | None] = []
        self.poses = [plant.pose]
        self._on_the_way = deque([plant.pose] * int(round(late / TICK)))
        self.controller.measure(measured(plant.pose), self.now)

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.now += TICK
            self.sent.append(self.controller.tick(self.now))
            self.poses.append(self.plant.step(self.sent[-1]))
            self._on_the_way.append(self.plant.pose)
            self.controller.measure(self.believed(self._on_the_way.popleft()), self.now)

    def commands(self, commands, ticks: int = 20) -> None:
        for command in commands:
            self.controller.command(command, self.now)
            self.ticks(ticks)

    @property
    def moved(self) -> float:
        """The farthest that the tip was from its start [m]."""
        return max(float(np.linalg.norm(pose.position - self.poses[0].position)) for pose in self.poses)
