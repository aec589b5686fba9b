# SPDX-License-Identifier: Apache-2.0
"""Kinematics of a serial arm from its URDF, by pinocchio.

The inverse is Levenberg-Marquardt with a damping that vanishes with the error, so it is steady near singularities and
still converges quadratically: T. Sugihara, "Solvability-Unconcerned Inverse Kinematics by the Levenberg-Marquardt
Method", 2011. Joints at a limit that the step would leave are taken out of the step; restarts help where it stalls.
"""

from collections.abc import Sequence

import numpy as np
import pinocchio as pin

SOLVED = 1e-5  # m and rad: the error at which a posture is a solution
DAMPING = 1e-9  # added to half the squared error
LARGEST_CHANGE = 0.7  # rad or m: of any joint in one iteration
ITERATIONS = 40  # of one attempt; a close start needs three, a far one about ten
STALLED = 1e-7  # rad or m: an iteration that changes every joint by less has come to its end


IDENTITY = np.eye(6)


class ArmKinematics:
    """Pose and twist of one link (the tip) as functions of the arm's joints, and back.

    Joints of the URDF that are not named (fingers, a mobile base) stay at zero. Lengths in metres, angles in radians,
    everything in the axes of the URDF's root link, which is the robot's base.
    """

    def __init__(self, urdf: str, tip: str, joint_names: Sequence[str]):
        """Raises ValueError, with one sentence, when the URDF does not parse or the tip or a joint is not in it."""
        try:
            full = pin.buildModelFromXML(urdf)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"the robot description is not a valid URDF: {error}") from error
        links = [frame.name for frame in full.frames if frame.type == pin.FrameType.BODY]
        if tip not in links:
            raise ValueError(f"the robot description has no link '{tip}'; its links are: {', '.join(links)}")
        joints = list(full.names)[1:]  # the first is pinocchio's own, the universe
        missing = [name for name in joint_names if name not in joints]
        if missing:
            raise ValueError(f"the robot description has no movable joint '{missing[0]}'; its movable joints are: "
                             f"{', '.join(joints)}")
        others = [full.getJointId(name) for name in joints if name not in joint_names]
        self._model = pin.buildReducedModel(full, others, pin.neutral(full))
        many = [name for name in joint_names if self._model.joints[self._model.getJointId(name)].nq != 1]
        if many:
            raise ValueError(f"joint '{many[0]}' is not a revolute or prismatic joint with one coordinate")
        self.joint_names = tuple(joint_names)
        self._data = self._model.createData()
        self._tip, self._tip_name = self._model.getFrameId(tip), tip
        # Of the whole model: in the reduced one a finger would be fixed to the hand.
        self._links = {frame.name: (frame.parentJoint, pin.SE3(frame.placement)) for frame in full.frames
                       if frame.type == pin.FrameType.BODY}
        # Row of each named joint in pinocchio's vectors, whose order is that of the kinematic tree.
        self._rows = [self._model.joints[self._model.getJointId(name)].idx_v for name in joint_names]
        self.position_limits = (self._model.lowerPositionLimit[self._rows], self._model.upperPositionLimit[self._rows])
        self.velocity_limits = self._model.velocityLimit[self._rows]  # infinite where the URDF gives none

    def forward(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of the tip at the joint positions q (n,) [rad or m]."""
        pin.framesForwardKinematics(self._model, self._data, self._ordered(q))
        placement = self._data.oMf[self._tip]
        return placement.translation.copy(), placement.rotation.copy()

    def offset(self, link: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of another link in the tip's axes.

        Raises ValueError, with one sentence, when there is no such link or it is not fixed to the tip.
        """
        if link not in self._links:
            raise ValueError(f"the robot description has no link '{link}'; its links are: {', '.join(self._links)}")
        (joint, here), (other, there) = self._links[self._tip_name], self._links[link]
        if joint != other:
            fixed = [name for name, (parent, _) in self._links.items() if parent == joint]
            raise ValueError(f"the link '{link}' is not fixed to the tip '{self._tip_name}': a joint lies between them; "
                             f"these links are: {', '.join(fixed)}")
        placement = here.actInv(there)
        return placement.translation.copy(), placement.rotation.copy()

    def jacobian(self, q: np.ndarray) -> np.ndarray:
        """The matrix (6, n) for which jacobian(q) @ dq is twist(q, dq)."""
        jacobian = pin.computeFrameJacobian(self._model, self._data, self._ordered(q), self._tip,
                                            pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        return jacobian[:, self._rows]

    def forward_and_jacobian(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `forward` and `jacobian` return, in half the time."""
        pin.computeJointJacobians(self._model, self._data, self._ordered(q))
        placement = pin.updateFramePlacement(self._model, self._data, self._tip)
        jacobian = pin.getFrameJacobian(self._model, self._data, self._tip, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        return placement.translation.copy(), placement.rotation.copy(), jacobian[:, self._rows]

    def manipulability(self, q: np.ndarray) -> float:
        """sqrt(det(J J^T)): 0 in a singular posture (T. Yoshikawa, "Manipulability of Robotic Mechanisms", 1985)."""
        return manipulability(self.jacobian(q))

    def inverse(self, position: np.ndarray, rotation: np.ndarray, near: np.ndarray, attempts: int = 1) -> np.ndarray | None:
        """Joint positions (n,) within their limits that put the tip at position (3,) and rotation (3, 3), or None.

        The first attempt starts at the posture `near` (n,), brought within the limits, and takes the shortest steps
        that lead to the pose: for a pose close by, the solution is the one that continues `near`. The others start
        farther and farther from `near`, in a fixed order; use them where the arm does not follow at once.
        """
        target = pin.SE3(np.asarray(rotation, dtype=float), np.asarray(position, dtype=float))
        lower, upper = self.position_limits
        near = np.clip(near, lower, upper)
        for attempt in range(attempts):
            solution = self._solve(target, self._start(near, attempt, attempts))
            if solution is not None:
                return solution
        return None

    def _start(self, near: np.ndarray, attempt: int, attempts: int) -> np.ndarray:
        if attempt == 0:
            return near
        lower, upper = (np.clip(limit, near - np.pi, near + np.pi) for limit in self.position_limits)
        anywhere = np.random.default_rng(attempt).uniform(lower, upper)
        return near + (anywhere - near) * min(1.0, 0.3 + attempt / attempts)

    def _solve(self, target: pin.SE3, q: np.ndarray) -> np.ndarray | None:
        lower, upper = self.position_limits
        for _ in range(ITERATIONS):
            step, size = self._step(target, q)
            if size < SOLVED:
                return q
            moved = np.clip(q + step, lower, upper)
            if np.abs(moved - q).max() < STALLED:
                return None
            q = moved
        return None

    def _step(self, target: pin.SE3, q: np.ndarray) -> tuple[np.ndarray, float]:
        """One step (n,) from q towards the target, and the size of the error before it."""
        pin.computeJointJacobians(self._model, self._data, self._ordered(q))  # computes the placements too
        local = pin.getFrameJacobian(self._model, self._data, self._tip, pin.ReferenceFrame.LOCAL)[:, self._rows]
        error = pin.log6(pin.updateFramePlacement(self._model, self._data, self._tip).actInv(target)).vector
        size = float(error @ error)
        free = np.ones(len(q), dtype=bool)
        for _ in range(len(q)):
            used = local if free.all() else local * free
            step = used.T @ np.linalg.solve(used @ used.T + (0.5 * size + DAMPING) * IDENTITY, error)
            leaving = ((q <= self.position_limits[0]) & (step < 0.0)) | ((q >= self.position_limits[1]) & (step > 0.0))
            if not leaving.any():
                break
            free &= ~leaving
        largest = np.abs(step).max()
        return (step if largest <= LARGEST_CHANGE else step * (LARGEST_CHANGE / largest)), size ** 0.5

    def twist(self, q: np.ndarray, dq: np.ndarray) -> np.ndarray:
        """Twist (6,) of the tip, base axes, at the tip: linear [m/s], angular [rad/s]; q and dq are (n,)."""
        pin.forwardKinematics(self._model, self._data, self._ordered(q), self._ordered(dq))
        motion = pin.getFrameVelocity(self._model, self._data, self._tip, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        return np.concatenate([motion.linear, motion.angular])

    def _ordered(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, dtype=float)
        if values.shape != (len(self._rows),):
            raise ValueError(f"expected {len(self._rows)} joint values, one for each of {self.joint_names}, "
                             f"but the shape is {values.shape}")
        ordered = np.empty(len(self._rows))
        ordered[self._rows] = values
        return ordered


def manipulability(jacobian: np.ndarray) -> float:
    """sqrt(det(J J^T)) of a Jacobian (6, n)."""
    return float(np.sqrt(max(np.linalg.det(jacobian @ jacobian.T), 0.0)))
