# SPDX-License-Identifier: Apache-2.0
"""Kinematics of a serial arm from its URDF, by pinocchio.

The inverse is Levenberg-Marquardt with a damping that vanishes with the error, so it is steady near singularities and
still converges quadratically: T. Sugihara, "Solvability-Unconcerned Inverse Kinematics by the Levenberg-Marquardt
Method", 2011. Joints at a limit that the step would leave are taken out of the step; restarts help where it stalls.
"""

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pinocchio as pin

from vla_sd_ros.quoting import listed, quoted

SOLVED = 1e-5  # m and rad: the error at which a posture is a solution
DAMPING = 1e-9  # added to half the squared error
LARGEST_CHANGE = 0.7  # rad or m: of any joint in one iteration
ITERATIONS = 40  # of one attempt; a close start needs three, a far one about ten
STALLED = 1e-7  # rad or m: an iteration that changes every joint by less has come to its end
SLOWEST = 1e-3  # rad/s or m/s: a joint that the description allows less would make every motion take minutes
MOST_LINKS = 1000  # pinocchio goes down the chain of links by recursion: some thousands overflow the stack of the process

IDENTITY = np.eye(6)


class ArmKinematics:
    """Pose and twist of one link (the tip) as functions of the arm's joints, and back.

    Lengths in metres, angles in radians, everything in the axes of the base, a link of the URDF. Joints that are not named
    (fingers, those that carry the base) do not matter: none of them lies between base and tip.
    """

    def __init__(self, urdf: str, tip: str, joint_names: Sequence[str], base: str = ""):
        """base: a link that none of the named joints moves; empty: the root of the URDF.

        Raises ValueError, with one sentence, when the URDF does not parse, tip, base or a joint is not in it, or their
        order or a limit of a joint makes no sense.
        """
        full = _model(urdf)
        links = [frame.name for frame in full.frames if frame.type == pin.FrameType.BODY]
        base = base or links[0]
        for link in (tip, base):
            if link not in links:
                raise ValueError(f"the robot description has no link '{link}'; its links are: {listed(links)}")
        joints = list(full.names)[1:]  # the first is pinocchio's own, the universe
        missing = [name for name in joint_names if name not in joints]
        if missing:
            raise ValueError(f"the robot description has no movable joint '{missing[0]}'; its movable joints are: {listed(joints)}")
        _check_order(full, base, tip, joint_names)
        others = [full.getJointId(name) for name in joints if name not in joint_names]
        self._model = pin.buildReducedModel(full, others, pin.neutral(full))
        many = [name for name in joint_names if self._model.joints[self._model.getJointId(name)].nq != 1]
        if many:
            raise ValueError(f"joint '{many[0]}' is not a revolute or prismatic joint with one coordinate")
        self.joint_names = tuple(joint_names)
        self._root_at(base)
        self._data = self._model.createData()
        self._tip, self._tip_name = self._model.getFrameId(tip, pin.FrameType.BODY), tip
        # Of the whole model: in the reduced one a finger would be fixed to the hand.
        self._links = {
            frame.name: (frame.parentJoint, pin.SE3(frame.placement)) for frame in full.frames if frame.type == pin.FrameType.BODY
        }
        # Row of each named joint in pinocchio's vectors, whose order is that of the kinematic tree.
        self._rows = [self._model.joints[self._model.getJointId(name)].idx_v for name in joint_names]
        self.position_limits = (self._model.lowerPositionLimit[self._rows], self._model.upperPositionLimit[self._rows])
        self.velocity_limits = self._model.velocityLimit[self._rows]  # infinite where the URDF gives none
        self._check_limits()

    def _root_at(self, base: str) -> None:
        """Express everything in the axes of a link that does not move: the joints next to the root carry all the others."""
        placement = self._model.frames[self._model.getFrameId(base, pin.FrameType.BODY)].placement.inverse()
        for joint in range(1, self._model.njoints):
            if self._model.parents[joint] == 0:
                self._model.jointPlacements[joint] = placement * self._model.jointPlacements[joint]
        for frame in self._model.frames:
            if frame.parentJoint == 0:
                frame.placement = placement * frame.placement

    def _check_limits(self) -> None:
        for name, lower, upper, velocity in zip(self.joint_names, *self.position_limits, self.velocity_limits):
            if not velocity >= SLOWEST:
                raise ValueError(
                    f"the robot description allows joint '{name}' a velocity of {velocity:g}, so that it could hardly move: write "
                    "its real limit"
                )
            if not lower < upper:
                raise ValueError(
                    f"the robot description limits joint '{name}' to {lower:g} .. {upper:g}, so that it could never move: write "
                    "its real limits"
                )

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
            raise ValueError(
                f"the link '{link}' is not fixed to the tip '{self._tip_name}': a joint lies between them; "
                f"these links are: {', '.join(fixed)}"
            )
        placement = here.actInv(there)
        return placement.translation.copy(), placement.rotation.copy()

    def jacobian(self, q: np.ndarray) -> np.ndarray:
        """The matrix (6, n) for which jacobian(q) @ dq is twist(q, dq)."""
        jacobian = pin.computeFrameJacobian(
            self._model, self._data, self._ordered(q), self._tip, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        return jacobian[:, self._rows]

    def forward_and_jacobian(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position (3,), rotation (3, 3) and Jacobian (6, n) at q (n,), as `forward` and `jacobian` give them, in half the time."""
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
        return (step if largest <= LARGEST_CHANGE else step * (LARGEST_CHANGE / largest)), size**0.5

    def twist(self, q: np.ndarray, dq: np.ndarray) -> np.ndarray:
        """Twist (6,) of the tip, base axes, at the tip: linear [m/s], angular [rad/s]; q and dq are (n,)."""
        pin.forwardKinematics(self._model, self._data, self._ordered(q), self._ordered(dq))
        motion = pin.getFrameVelocity(self._model, self._data, self._tip, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        return np.concatenate([motion.linear, motion.angular])

    def _ordered(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, dtype=float)
        if values.shape != (len(self._rows),):
            raise ValueError(
                f"expected {len(self._rows)} joint values, one for each of {self.joint_names}, but the shape is {values.shape}"
            )
        ordered = np.empty(len(self._rows))
        ordered[self._rows] = values
        return ordered


def _model(urdf: str) -> pin.Model:
    """Raises ValueError, with one sentence, for what is no robot description."""
    if (links := urdf.count("<link")) > MOST_LINKS:
        raise ValueError(f"the robot description has {links} links, but at most {MOST_LINKS} are read")
    try:
        return pin.buildModelFromXML(urdf)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the robot description is not a valid URDF: {_flaw(urdf) or error}") from error


def _flaw(urdf: str) -> str:
    """What pinocchio does not tell of a URDF that it refuses."""
    try:
        robot = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        return str(error)
    for kind in ("link", "joint"):
        name, times = (Counter(element.get("name") for element in robot.iter(kind)).most_common(1) or [("", 0)])[0]
        if times > 1:
            return f"{times} {kind}s are called {quoted(str(name))}"
    return ""


def _check_order(model: pin.Model, base: str, tip: str, joint_names: Sequence[str]) -> None:
    """Raises ValueError unless the named joints, and no others, move the tip against the base, which stands still."""
    if doubled := [name for name, times in Counter(joint_names).items() if times > 1]:
        raise ValueError(f"joint_names has '{doubled[0]}' twice")
    carrying, moving = _moved_by(model, base), _moved_by(model, tip)
    for name in joint_names:
        if name in carrying:
            raise ValueError(f"joint '{name}' moves the base frame '{base}' itself: name a link before the arm's first joint")
    for name in (*carrying, *moving):
        if (name in carrying) != (name in moving) and name not in joint_names:
            raise ValueError(
                f"joint '{name}' lies between the base frame '{base}' and the tip '{tip}', but is not one of joint_names, so its "
                "position would not be known"
            )


def _moved_by(model: pin.Model, link: str) -> list[str]:
    """The movable joints between the root and a link."""
    joint, names = model.frames[model.getFrameId(link, pin.FrameType.BODY)].parentJoint, []
    while joint:
        names.append(model.names[joint])
        joint = model.parents[joint]
    return names


def manipulability(jacobian: np.ndarray) -> float:
    """sqrt(det(J J^T)) of a Jacobian (6, n)."""
    return float(np.sqrt(max(np.linalg.det(jacobian @ jacobian.T), 0.0)))
