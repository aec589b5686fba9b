# SPDX-License-Identifier: Apache-2.0
"""The arm_node of the console's vla_node, with its drivers by pip: what they tell, and what they are asked."""

import math
import time
from collections.abc import Callable
from threading import RLock
from typing import Any

from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vla_sd_msgs.msg import ArmStatus

from vla_sd_ros.console import Refused
from vla_sd_ros.console.asking import ask
from vla_sd_ros.control.codes import Code
from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.node_names import DRIVERS

SILENT = 1.0  # s without a status, which comes at 10 Hz
HOLD_PATIENCE = 1.0  # s for the answer to a hold
RECOVERY = 40.0  # s for a recovery
RECOVERED = (ArmStatus.ROBOT_FAULT, ArmStatus.ARM_RUNS_AWAY, ArmStatus.JOINT_STATES_INVALID)  # what ~/recover of arm_node is for
GRIPPER = ("unknown", "open", "closed", "moving")


class Arm:
    """Of the node whose status is on the topic that it follows. lock: of who reads. note(kind, text): a line for operators."""

    def __init__(self, node: Node, lock: RLock, note: Callable[[str, str], None]):
        self._node, self._lock, self._note = node, lock, note
        self.name, self._topic = "arm_node", ""
        self._status, self._heard_at = ArmStatus(), -math.inf
        self._lifecycle = ""
        self._robot_fault = ""  # as a driver by pip tells it
        self._inputs: list[Any] = []  # subscriptions
        self._hold: Any = None  # client of ~/hold
        self._asks_state: Any = None
        self._recovers: dict[str, Client] = {}  # ~/recover of arm_node and of the drivers, by the names of their nodes

    def follow(self, topic: str) -> bool:
        """Hear the arm_node that publishes its status there, and ask it; whether it is another one than before."""
        if topic == self._topic:
            return False
        node, name = self._node, topic.rpartition("/")[0]
        space = name.rpartition("/")[0]
        for heard in self._inputs:
            node.destroy_subscription(heard)
        for client in filter(None, (self._hold, self._asks_state, *self._recovers.values())):
            node.destroy_client(client)
        self._topic, self.name, self._robot_fault = topic, name, ""
        self._inputs = [
            node.create_subscription(ArmStatus, topic, self._on_status, LATCHED),
            node.create_subscription(String, f"{space}/robot_fault", self._on_robot_fault, LATCHED),
        ]
        self._recovers = {"arm_node": node.create_client(Trigger, f"{name}/recover")} | {
            # a driver by pip brings its robot back itself
            driver: node.create_client(Trigger, f"{space}/{driver}/recover")
            for driver in DRIVERS
        }
        self._hold = node.create_client(SetBool, f"{name}/hold")
        self._asks_state = node.create_client(GetState, f"{name}/get_state")
        return True

    def look(self) -> None:
        """Ask for the state of the lifecycle."""
        if self._asks_state.service_is_ready():
            self._asks_state.call_async(GetState.Request()).add_done_callback(lambda done: self._on_state(done.result()))

    @property
    def there(self) -> bool:
        """Whether the node speaks."""
        return time.monotonic() - self._heard_at < SILENT

    def state(self, namespace: str) -> dict:
        """What pages show of it. namespace: that of the console."""
        s, there = self._status, self.there
        problem = silent("arm_node", namespace, self._heard_at, SILENT)
        if problem and self._lifecycle not in ("", "active"):
            problem = f"arm_node is {self._lifecycle}, not active: configure and activate it"
        return {
            "there": there,
            "problem": problem,
            "moving": there and s.state == ArmStatus.MOVING,
            "code": s.code,
            "name": _code(s.code),
            "message": s.message,
            "held": there and s.code == ArmStatus.HELD,
            "fault": there and s.code not in (ArmStatus.OK, ArmStatus.NO_COMMAND),
            "clipped": s.clipped,
            "refused": s.refused,
            "recover": there and bool(self._robot_fault or s.code in RECOVERED),
            "gripper": GRIPPER[min(s.gripper, 3)],
            "gripper_message": s.gripper_message,
        }

    async def hold(self, hold: bool) -> str:
        """~/hold of arm_node, and what it says. Raises Refused where nobody answers."""
        answer = await ask(self._hold, SetBool.Request(data=hold), HOLD_PATIENCE, f"{self.name} is not there")
        return answer.message or "the arm is released: the next goal may move it"

    async def recover(self) -> str:
        """~/recover of the driver by pip that tells a fault of its robot, otherwise that of arm_node. It moves no arm."""
        drivers = [name for name in DRIVERS if self._robot_fault and self._recovers[name].service_is_ready()]
        name = drivers[0] if drivers else "arm_node"
        answer = await ask(self._recovers[name], Trigger.Request(), RECOVERY, f"{name} is not there")
        if not answer.success:
            raise Refused(f"{name} did not recover: {answer.message}")
        return answer.message or f"{name} has recovered: the next goal may begin"

    # What is heard, in the thread of the executor

    def _on_status(self, m: ArmStatus) -> None:
        with self._lock:
            before, self._status = self._status, m
            self._heard_at = time.monotonic()
            if m.code != before.code and m.code > ArmStatus.NO_COMMAND:
                self._note("fault", f"arm: {m.message or _code(m.code)}")

    def _on_robot_fault(self, m: String) -> None:
        self._robot_fault = m.data

    def _on_state(self, answer: GetState.Response) -> None:
        self._lifecycle = answer.current_state.label


def silent(name: str, namespace: str, heard_at: float, patience: float) -> str:
    """Why nothing is known of a node, as a sentence; empty where it was heard less than `patience` s ago."""
    silence = time.monotonic() - heard_at
    if silence < patience:
        return ""
    return (
        f"{name} has been silent for {silence:.0f} s" if heard_at > -math.inf else f"{name} of {namespace} has not been heard yet"
    )


def _code(number: int) -> str:
    """The name of an ArmStatus code; of one that is newer than this console, the number."""
    return Code(number).name if number in Code._value2member_map_ else str(number)
