# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that ask for the reliability which the publishers offer, for images and whatever else a driver decides.

One that asks for reliable hears nothing from a best-effort publisher. One that asks for best effort loses most images of
640 x 480 and more: they travel in fragments, 15 and more of them, that overrun the middleware's buffers, and nobody sends
a lost fragment again. Some drivers publish reliably (realsense2_camera and usb_cam, as they are shipped), others not.
"""

import time
from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy

GRAPH_PERIOD = 0.5  # s, between two looks at who publishes
# More than one message: where the reader keeps only one, the first fragment of the next pushes out an unfinished one.
DEPTH = 5
QOS = ("auto", "reliable", "best_effort")
_POLICIES = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}


class MatchedSubscription:
    """A subscription that is made anew when the publishers of its topic call for another reliability.

    Call `look` often, from one thread at a time. Everything else as `create_subscription`; with the group PolledOnly,
    `take` gives the messages.
    """

    def __init__(
        self,
        node: Any,
        kind: type,
        topic: str,
        callback: Callable = lambda message: None,
        depth: int = DEPTH,
        qos: str = "auto",
        **options: Any,
    ):
        """qos: one of QOS; auto: reliable where all publishers are."""
        self._node, self._kind, self._callback, self._depth, self._wanted = node, kind, callback, depth, qos
        self._options = options
        self.topic = node.resolve_topic_name(topic)
        self._publishers: list = []
        self._looked_at = float("-inf")
        self._subscription: Any = None
        self.reliability = "reliable"  # what is asked for, or best_effort
        self.look()

    def look(self) -> None:
        """See who publishes, at most each GRAPH_PERIOD, and subscribe anew where that calls for it."""
        now = time.monotonic()
        if now - self._looked_at < GRAPH_PERIOD:
            return
        self._looked_at = now
        self._publishers = self._node.get_publishers_info_by_topic(self.topic)
        wanted = self._choice()
        if self._subscription is None or wanted != self.reliability:
            self.close()
            self.reliability = wanted
            profile = QoSProfile(depth=self._depth, reliability=_POLICIES[wanted])
            # rclpy's own callback would warn of each change before it is answered; `why_silent` says what stays wrong.
            silent = SubscriptionEventCallbacks(use_default_callbacks=False)
            self._subscription = self._node.create_subscription(
                self._kind, self.topic, self._callback, profile, event_callbacks=silent, **self._options
            )

    def take(self) -> tuple[Any, dict] | None:
        """The oldest message that was not taken yet, and what the middleware knows of it."""
        return self._subscription.handle.take_message(self._kind, False)

    def why_silent(self) -> str:
        """The likely cause and what mends it, for a topic from which nothing comes; empty where none is known."""
        if not self._publishers:
            return f"nobody publishes {self.topic}: start the driver, or correct the topic"
        expected = f"{self._kind.__module__.split('.')[0]}/msg/{self._kind.__name__}"
        types = {info.topic_type for info in self._publishers}
        if expected not in types:
            return f"{self.topic} carries {types.pop()}, not {expected}: correct the topic, or image.compressed"
        if not self._best_effort():
            return ""
        if self.reliability == "reliable":
            return f"{self.topic} is published best-effort, and image.qos asks for reliable: set it to auto"
        return (
            f"{self.topic} is published best-effort, with which raw images of 640 x 480 and more get lost: let the driver publish "
            "reliably, or take its compressed images (image.compressed: true), or start it with FASTDDS_DEFAULT_PROFILES_FILE "
            "(on Jazzy FASTRTPS_DEFAULT_PROFILES_FILE) set to this package's config/large_images.xml"
        )

    def close(self) -> None:
        """Destroy the subscription; `look` makes a new one."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _best_effort(self) -> bool:
        return any(info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for info in self._publishers)

    def _choice(self) -> str:
        if self._wanted != "auto":
            return self._wanted
        if not self._publishers:  # nothing to match: no change
            return self.reliability
        return "best_effort" if self._best_effort() else "reliable"
