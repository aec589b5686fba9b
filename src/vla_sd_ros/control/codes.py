# SPDX-License-Identifier: Apache-2.0
"""Why the arm holds: the codes of vla_sd_msgs/ArmStatus."""

from enum import IntEnum
from typing import NamedTuple


class Code(IntEnum):
    """Same names and values as the constants of the message, where each is explained."""

    OK = 0
    NO_COMMAND = 1
    COMMAND_STALE = 1101
    JOINT_STATES_STALE = 1102
    COMMAND_INVALID = 1103
    JOINT_STATES_INVALID = 1104
    CLOCK_JUMP = 1105
    ARM_DEVIATES = 1106
    ARM_NOT_FOLLOWING = 1107
    JOINT_LIMIT = 1108
    SINGULARITY = 1109
    DISABLED = 1110
    HELD = 1111
    COMMAND_CONFLICT = 1112
    ROBOT_FAULT = 1113
    LEAD_OFFSET = 1114
    ARM_RUNS_AWAY = 1115
    DESCRIPTION_CHANGED = 1116
    COMMANDS_CLIPPED = 1117
    TRAJECTORY_FAILED = 1118
    INTERRUPTED = 1119


class Fault(NamedTuple):
    """What is wrong: its code and one sentence."""

    code: Code
    message: str
