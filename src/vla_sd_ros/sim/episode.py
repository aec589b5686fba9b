# SPDX-License-Identifier: Apache-2.0
"""One closed-loop episode at 5 Hz: image in, action out, target interpolated as arm_node does."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from vla_sd_ros.sim.scene import LiberoScene

CONTROL_PERIOD = 0.2  # [s], the rate of bridge_orig
INTERPOLATION_PERIOD = 0.01  # [s]
# Box of the target in the base frame [m], that of config/sim.yaml: where the camera sees the gripper, down to the table.
WORKSPACE = np.array([[0.1, -0.5, 0.0], [0.8, 0.5, 0.45]])

# Published initial states are divided once for all: nothing is ever trained on the held-out ones.
TRAINING_STATES = range(38)
VALIDATION_STATES = range(38, 40)
HELD_OUT_STATES = range(40, 50)


class TargetFollower:
    """Holds the commanded target of a scene's arm and moves it by actions (7,) in the semantics of bridge_orig.

    Each action composes onto the previous commanded target; position linear, rotation along the shortest arc over one
    control period. delay [s]: time from the image to the start of the motion, in which the previous motion ends.
    """

    def __init__(self, scene: LiberoScene):
        self._scene = scene
        self.position, rotation = scene.ee_pose()
        self.rotation = Rotation.from_matrix(rotation)
        self._segment = self._still()

    def execute(self, action: np.ndarray, delay: float = 0.0) -> None:
        """Advance the scene by one control period, in which action (7,) [m, rad, opening] takes effect after `delay` [s]."""
        steps = round(CONTROL_PERIOD / INTERPOLATION_PERIOD)
        start = round(delay / INTERPOLATION_PERIOD)
        for step in range(steps):
            if step == start:
                self._segment = self._towards(action)
            position, rotation = next(self._segment)
            self._scene.set_target(position, rotation.as_matrix())
            self._scene.advance(INTERPOLATION_PERIOD)

    def _towards(self, action: np.ndarray) -> Iterator[tuple[np.ndarray, Rotation]]:
        start, start_rotation = self.position, self.rotation
        turn = Rotation.from_euler("xyz", action[3:6])
        self.position, self.rotation = np.clip(start + action[:3], *WORKSPACE), turn * start_rotation
        self._scene.set_gripper(action[6])
        return self._motion(start, start_rotation, self.position - start, turn.as_rotvec())

    @staticmethod
    def _motion(position, rotation, translation, rotation_vector) -> Iterator[tuple[np.ndarray, Rotation]]:
        steps = round(CONTROL_PERIOD / INTERPOLATION_PERIOD)
        for step in range(1, steps + 1):
            yield position + translation * step / steps, Rotation.from_rotvec(rotation_vector * step / steps) * rotation
        while True:
            yield position + translation, Rotation.from_rotvec(rotation_vector) * rotation

    def _still(self) -> Iterator[tuple[np.ndarray, Rotation]]:
        return self._motion(self.position, self.rotation, np.zeros(3), np.zeros(3))


def run_episode(
    scene: LiberoScene, act: Callable[[np.ndarray], np.ndarray], delay: float = 0.0, done: Callable[[], bool] | None = None
) -> bool:
    """Run from the scene's present state until done or the suite's step limit; returns whether it was done.

    act: maps the camera image (H, W, 3) uint8 to an action (7,). delay: see TargetFollower.execute. done: the task's
    success by default.
    """
    follower, done = TargetFollower(scene), done or scene.success
    for _ in range(scene.step_limit):
        follower.execute(act(scene.render()), delay)
        if done():
            return True
    return False
