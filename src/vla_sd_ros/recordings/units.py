# SPDX-License-Identifier: Apache-2.0
"""Units of recorded actions: found out from names and numbers, converted to the policy's metres, radians and opening.

No dataset is believed: what its description calls a delta in metres can be joint positions, or a joystick's -1 to 1.
"""

import re
from collections.abc import Iterable

import numpy as np

from vla_sd_ros.recordings.episode import Options

AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
MAX_TRANSLATION = 0.5  # [m] in one step; more is not metres
GRIPPER_SLACK = 0.05  # values of the gripper so far outside 0..1 are noise, and clipped
# Of a whole data set; the fastest policies of OpenVLA's mixture take 0.19 m and 0.57 rad at 3 Hz:
LARGEST = np.array([0.25] * 3 + [1.25] * 3)  # m, rad: the 1st or 99th percentile of a step
RESTING = 0.2  # m, rad: a median so far from zero is a place, for nobody moves to the same side in half of all steps
TOO_FAR = "cannot be metres and radians: give --action-scale (robosuite's units: 0.05 0.5)"
NO_DELTAS = "end-effector deltas x, y, z, roll, pitch, yaw and gripper are needed"
_JOINT = re.compile(
    r"joint|waist|shoulder|elbow|wrist|forearm|upper_?arm|servo|(^|[^a-z])(j|q|axis|link)_?\d|_(pan|lift|flex)\b", re.IGNORECASE
)


def joint_names(names: object) -> str:
    """The first of an action's names that is a joint's; empty where none is. names: as a dataset nests them."""
    return next((name for name in _flat(names) if _JOINT.search(name)), "")


def _flat(names: object) -> Iterable[str]:
    if isinstance(names, dict):
        names = list(names.values())
    if isinstance(names, (list, tuple)):
        return [name for part in names for name in _flat(part)]
    return [] if names is None else [str(names)]


def physical(actions: np.ndarray, options: Options) -> np.ndarray:
    """Actions (T, 7) of a dataset in metres, radians and opening; the deltas of `stride` frames as one."""
    metres, radians = options.action_scale
    closed, opened = options.gripper
    scaled = np.column_stack([actions[:, :3] * metres, actions[:, 3:6] * radians, (actions[:, 6] - closed) / (opened - closed)])
    return np.stack([composed(scaled[i : i + options.stride]) for i in range(0, len(scaled), options.stride)])


def composed(actions: np.ndarray) -> np.ndarray:
    """One action (7,) that does what these (n, 7) do one after the other, in the semantics of bridge_orig."""
    from pinocchio.rpy import matrixToRpy, rpyToMatrix

    if len(actions) == 1:
        return actions[0]
    rotation = np.eye(3)
    for roll, pitch, yaw in actions[:, 3:6]:
        rotation = rpyToMatrix(roll, pitch, yaw) @ rotation
    return np.concatenate([actions[:, :3].sum(0), matrixToRpy(rotation), actions[-1:, 6]])


def objection(actions: np.ndarray) -> str:
    """Why the actions (T, 7) of one episode cannot be metres, radians and opening, as the end of a sentence; else empty."""
    if actions.ndim != 2 or actions.shape[1] != 7 or not len(actions):
        return f"has actions of shape {actions.shape}, not (steps, 7): x, y, z, roll, pitch, yaw, gripper"
    if actions.dtype.kind not in "fiu":
        return f"has actions of the type {actions.dtype}, which are no numbers"
    if not np.isfinite(actions).all():
        return f"has an action that is not finite, at step {int(np.argmin(np.isfinite(actions).all(axis=1)))}"
    furthest, turn = np.abs(actions[:, :3]).max(), np.abs(actions[:, 3:6]).max()
    if furthest > MAX_TRANSLATION or turn > np.pi:
        return f"moves by {furthest:.2f} and turns by {turn:.2f} in one step, which {TOO_FAR}"
    if wrong := _gripper(actions[:, 6].min(), actions[:, 6].max()):
        return f"has {wrong}"
    return ""


def _gripper(lowest: float, highest: float) -> str:
    if lowest >= -GRIPPER_SLACK and highest <= 1.0 + GRIPPER_SLACK:
        return ""
    return f"gripper values of {lowest:g} to {highest:g}, not 0 (closed) to 1 (open): give --gripper CLOSED OPEN"


def whole_objection(actions: np.ndarray) -> str:
    """Why the actions (N, 7) of all episodes together are no steps in metres and radians; else empty. Begins with a verb."""
    resting = np.median(actions[:, :6], axis=0)
    if (np.abs(resting) > RESTING).any():
        axis = int(np.abs(resting).argmax())
        return (
            f"rest at {resting[axis]:.2f} in {AXES[axis]}: they are positions, of joints or of the end effector, and "
            f"{NO_DELTAS} (--action)"
        )
    low, high = np.quantile(actions, (0.01, 0.99), axis=0)
    largest = np.maximum(-low, high)[:6]
    if (largest > LARGEST).any():
        axis = int((largest / LARGEST).argmax())
        unit = "m" if axis < 3 else "rad"
        return f"hold steps of {largest[axis]:.2f} {unit} in {AXES[axis]} as a matter of course, which {TOO_FAR}"
    wrong = _gripper(low[6], high[6])
    return f"hold {wrong}" if wrong else ""
