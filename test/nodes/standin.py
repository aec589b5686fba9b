# SPDX-License-Identifier: Apache-2.0
"""What Goals and Inputs see of a node, and a clock that a test sets: no executor, no DDS."""

from collections import deque
from types import SimpleNamespace

import numpy as np
from builtin_interfaces.msg import Time
from vla_sd_msgs.action import ExecuteInstruction

from vla_sd_ros.nodes.vla_parameters import TABLE


class SetClock:
    """All clocks of a node, which stand at `time` [s]."""

    def __init__(self, time: float = 1000.0):
        self.time = time

    def now(self) -> float:
        return self.time

    def steady(self) -> float:
        return self.time

    def wall(self) -> int:
        return round(1e9 * self.time)

    def stamp(self) -> Time:
        return Time(sec=int(self.time), nanosec=int(self.time % 1 * 1e9))


class Publisher(list):
    publish = list.append


class Subscription:
    """What its node will find: (message, when the middleware received it [ns])."""

    def __init__(self, kind: type, topic: str, callback):
        self.kind, self.topic, self.callback, self.handle, self.waiting = kind, topic, callback, self, deque()

    def take_message(self, kind, raw):
        return (lambda found: (found[0], {"received_timestamp": found[1]}))(self.waiting.popleft()) if self.waiting else None


class Node:
    def __init__(self, **values):
        self.values = {spec.name: spec.default for spec in TABLE} | values
        self.state, self.active, self.brain, self.decoder_name = "active", True, None, "autoregressive"
        self.log, self.subscriptions = [], {}

    def get_name(self):
        return "vla_node"

    def get_logger(self):
        note = lambda text, **_: self.log.append(text)  # noqa: E731
        return SimpleNamespace(debug=note, info=note, warning=note, error=note)

    def get_subscriptions_info_by_topic(self, topic):
        return []

    def create_subscription(self, kind, topic, callback, qos, **options):
        return self.subscriptions.setdefault(topic, Subscription(kind, topic, callback))


class Handle:
    """A goal handle of rclpy."""

    def __init__(self, instruction: str = "pick up the milk", number: int = 1, **fields):
        self.request = ExecuteInstruction.Goal(instruction=instruction, **fields)
        self.goal_id = SimpleNamespace(uuid=np.full(16, number, np.uint8))
        self.is_cancel_requested, self.ended, self.execution = False, "", None

    def execute(self, function):
        self.execution = function

    def succeed(self):
        self.ended = "succeeded"

    def abort(self):
        self.ended = "aborted"

    def canceled(self):
        self.ended = "canceled"
