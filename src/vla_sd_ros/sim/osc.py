# SPDX-License-Identifier: Apache-2.0
"""Operational space control of the simulated arm: joint torques that pull the end effector to a target pose.

Khatib, "A unified approach for motion and force control of robot manipulators", IEEE J-RA 3(1), 1987, with position
and orientation decoupled and a posture held in the null space as in robosuite's OSC_POSE; stiffer than that one, so that
the arm lags its target by about 0.1 s as a real impedance controller does.
"""

import mujoco
import numpy as np

STIFFNESS = 400.0  # [1/s^2], critically damped
POSTURE_STIFFNESS = 10.0


class OperationalSpaceController:
    """Torques for the arm of a compiled model. site: id of the end effector's site; joints: ids of the arm's joints."""

    def __init__(self, model: mujoco.MjModel, site: int, joints: list[int], actuators: list[int]):
        self._model, self._site = model, site
        self._dofs = np.array([model.jnt_dofadr[joint] for joint in joints])
        self._qpos = np.array([model.jnt_qposadr[joint] for joint in joints])
        self._dof_grid = np.ix_(self._dofs, self._dofs)
        self._actuators = np.array(actuators)
        self._low, self._high = model.actuator_ctrlrange[self._actuators].T
        self._mass = np.zeros((model.nv, model.nv))
        self._jacobian = np.zeros((6, model.nv))
        self._posture = np.zeros(len(joints))
        self.position = np.zeros(3)
        self.rotation = np.eye(3)

    def reset(self, data: mujoco.MjData) -> None:
        """Take the present pose as target and the present joint positions as the null space's posture."""
        self.position = data.site_xpos[self._site].copy()
        self.rotation = data.site_xmat[self._site].reshape(3, 3).copy()
        self._posture = data.qpos[self._qpos].copy()

    def apply(self, data: mujoco.MjData) -> None:
        """Write the torques for the present state into data.ctrl; call between mj_step1 and mj_step2."""
        mujoco.mj_fullM(self._model, data, self._mass)
        mujoco.mj_jacSite(self._model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        jacobian = self._jacobian[:, self._dofs]
        velocity = data.qvel[self._dofs]
        twist = jacobian @ velocity
        error = np.concatenate(
            [self.position - data.site_xpos[self._site], rotation_error(self.rotation, data.site_xmat[self._site].reshape(3, 3))]
        )
        acceleration = STIFFNESS * error - 2 * np.sqrt(STIFFNESS) * twist

        mass = self._mass[self._dof_grid]
        mass_inverse_jt = np.linalg.solve(mass, jacobian.T)
        inertia_inverse = jacobian @ mass_inverse_jt
        force = np.linalg.solve(inertia_inverse[:3, :3], acceleration[:3])
        moment = np.linalg.solve(inertia_inverse[3:, 3:], acceleration[3:])
        torque = jacobian.T @ np.concatenate([force, moment])

        posture = mass @ (POSTURE_STIFFNESS * (self._posture - data.qpos[self._qpos]) - 2 * np.sqrt(POSTURE_STIFFNESS) * velocity)
        projected = posture - jacobian.T @ np.linalg.solve(inertia_inverse, mass_inverse_jt.T @ posture)
        data.ctrl[self._actuators] = np.clip(torque + projected + data.qfrc_bias[self._dofs], self._low, self._high)


def rotation_error(target: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Small-angle rotation vector (3,) [rad] from actual to target, both (3, 3): half the sum of the axes' cross products."""
    turn = target @ actual.T  # its antisymmetric part is that sum; np.cross would cost more than all the rest of the loop
    return 0.5 * np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
