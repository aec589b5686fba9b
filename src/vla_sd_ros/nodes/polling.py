# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that are read when somebody asks, instead of waking the node for each message.

rclpy's multi-threaded executor spends 5 to 10 ms on each wake, whatever the callback does: a topic at 100 Hz fills a core.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.subscription import Subscription
from rosgraph_msgs.msg import Clock


class PolledOnly(CallbackGroup):
    """A group whose subscriptions no executor waits on: they are read when needed, with `take_message`.

    An image that has come in part wakes an executor again and again, too, which keeps the rest of it from coming: a whole core
    is busy then.
    """

    def can_execute(self, entity) -> bool:
        """Never: no executor may take the group's messages."""
        return False

    def beginning_execution(self, entity) -> bool:
        """Never, as can_execute."""
        return False

    def ending_execution(self, entity) -> None:
        """Nothing to do: nothing has begun."""


def from_zero_on(node: Any, callback: Callable[[Clock], None]) -> Callable[[Clock], None]:
    """A callback for /clock that passes over times before zero: rclpy's time source raises on them, which ends a node."""

    def take(message: Clock) -> None:
        if message.clock.sec >= 0:
            callback(message)
        else:
            node.get_logger().warning(
                f"/clock says {message.clock.sec} s, which is no time: see what publishes it", throttle_duration_sec=10.0
            )

    return take


class PolledTime(Node):
    """Comes before the class of a node whose simulated time moves on when it is asked for, not with each /clock message.

    Timers on the node's own clock would stand still meanwhile; those on the steady clock do not.
    """

    _time_input: tuple[Subscription, Callable[[Clock], None]] | None = None  # /clock, and what takes its messages over

    def create_subscription(self, msg_type: type, topic: str, callback: Callable, qos_profile: Any, **options: Any) -> Subscription:
        """As in rclpy, whose time source subscribes to /clock in this way, at start or when use_sim_time is set."""
        if msg_type is not Clock:
            return super().create_subscription(msg_type, topic, callback, qos_profile, **options)
        self._time_lock = threading.Lock()  # else an older message could be taken over after a newer one
        subscription = super().create_subscription(Clock, topic, callback, qos_profile, callback_group=PolledOnly())
        self._time_input = subscription, from_zero_on(self, callback)
        return subscription

    def get_clock(self):
        """The node's clock, after the newest /clock message that has come; that message counts from now on."""
        if self._time_input is not None:
            subscription, take = self._time_input
            with self._time_lock, suppress(InvalidHandle):  # use_sim_time was switched off
                if taken := subscription.handle.take_message(Clock, False):
                    take(taken[0])
        return super().get_clock()
