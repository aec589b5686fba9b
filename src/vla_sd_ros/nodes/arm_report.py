# SPDX-License-Identifier: Apache-2.0
"""What arm_node says of itself: ~/status at 10 Hz and at each change, its log, /diagnostics."""

import math
import time
from typing import Any

from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.arms.wiring import PATIENCE
from vla_sd_ros.control.codes import Code
from vla_sd_ros.control.controller import Status
from vla_sd_ros.control.gripper import State
from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes.parameters import ERROR, OK, WARN


class Alarm:
    """One thing that may be wrong, for the log: a warning where it lasts, or where it came in motion; until then it is only noted.

    As the robot's side starts, or a machine is busy, something is missing for a moment.
    """

    def __init__(self, logger: Any):
        self._logger = logger
        self._what: object = None  # is wrong
        self._told, self._since, self._loud = "", 0.0, False

    def tell(self, what: object, sentence: str, now: float, urgent: bool, started: bool) -> None:
        """what: is wrong, None where nothing is; its sentence may change. urgent: it came in motion. started: the robot's side
        has; before that everything is only noted, however long it takes. now [s, steady]."""
        if what != self._what:
            self._what, self._told, self._since, self._loud = what, "", now, False
        if what is None:
            return
        if not started:
            self._since = now
        loud = self._loud or urgent or now - self._since >= PATIENCE
        new, self._told, self._loud = (sentence, loud) != (self._told, self._loud), sentence, loud
        if new and loud:
            self._logger.warning(sentence)
        elif new:  # in a line of its own: rclpy lets no line log at two levels
            self._logger.info(sentence)


class ArmReport:
    """Of a node with a `controller`, and of its gripper."""

    def __init__(self, node: Any, gripper: Any):
        self._node, self._gripper = node, gripper
        self._publisher = node.create_publisher(ArmStatus, "~/status", LATCHED)
        self._sent: tuple[Status, State, str] | None = None
        self._arm_alarm, self._gripper_alarm = Alarm(node.get_logger()), Alarm(node.get_logger())
        self._ticks, self._ticks_since, self._longest_period, self._last_tick = 0, time.monotonic(), 0.0, math.nan

    def ticked(self, now: float) -> None:
        """One round of the control loop began, at the steady time `now` [s]."""
        self._ticks += 1
        if not math.isnan(self._last_tick):
            self._longest_period = max(self._longest_period, now - self._last_tick)
        self._last_tick = now

    def publish_on_change(self) -> None:
        """~/status, if it says something new."""
        if self._statuses() != self._sent:
            self.publish()

    def publish(self) -> None:
        """~/status, and in the log what is new and wrong."""
        node = self._node
        if not node.active:
            return
        now = time.monotonic()
        self._gripper.poll(now)
        moved = self._sent is not None and self._sent[0].moving
        self._sent = status, gripper, problem = self._statuses()
        started, code = node.controller.measured is not None, status.code
        self._arm_alarm.tell(code if code > Code.NO_COMMAND else None, status.message, now, moved, started)
        self._gripper_alarm.tell(True if problem else None, f"gripper: {problem}", now, False, started)
        message = ArmStatus(
            state=ArmStatus.MOVING if status.moving else ArmStatus.HOLDING,
            code=int(status.code),
            message=status.message,
            clipped=status.clipped,
            refused=status.refused,
            gripper=int(gripper),
            gripper_message=problem,
        )
        message.header.stamp = node.get_clock().now().to_msg()
        message.header.frame_id = node.values["base_frame"]
        self._publisher.publish(message)

    def _statuses(self) -> tuple[Status, State, str]:
        """Of the arm; the gripper's state and its problem."""
        return self._node.controller.status(time.monotonic()), self._gripper.state(), self._gripper.problem()

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        """For /diagnostics, of a node that is configured; see TableNode."""
        node, now = self._node, time.monotonic()
        status = node.controller.status(now)
        rate = self._ticks / (now - self._ticks_since) if now > self._ticks_since else 0.0
        values = {
            "lifecycle state": node.state,
            "code": int(status.code),
            "dry_run": node.values["dry_run"],
            "rate of target_pose [Hz]": f"{rate:.1f}",
            "longest period [ms]": f"{1e3 * self._longest_period:.1f}",
            "commands clipped": status.clipped,
            "commands refused": status.refused,
            "interfaces": f"{node.values['arm.interface']}, {node.values['gripper.interface']}",
        }
        self._ticks, self._ticks_since, self._longest_period = 0, now, 0.0
        if not node.active:
            return OK, node.state, values
        level = OK if status.code in (Code.OK, Code.NO_COMMAND) else ERROR
        warning = self._warning() if level == OK else ""
        return (WARN, warning, values) if warning else (level, status.message or "moving", values)

    def _warning(self) -> str:
        """What is no fault but should be looked after; empty where nothing is."""
        node = self._node
        if node.values["dry_run"]:
            return "dry run: nothing is sent to the robot"
        publishers = node.count_publishers(node.commands.topic_name)
        if publishers > 1:  # one that was killed counts until DDS gives it up
            return f"{publishers} nodes publish on {node.commands.topic_name}, and the arm holds if two of them command: end all but one"
        if node.controller.mostly_clipped:
            return (
                "most commands are shortened to step.max_translation and step.max_rotation, so the arm does less than "
                "the policy means: raise them, or lower action_scale"
            )
        problem = self._gripper.problem()
        return f"gripper: {problem}" if problem else ""
