# SPDX-License-Identifier: Apache-2.0
"""What vla_node heard is as old as its stamps and arrivals say, and nothing of it outlives a cleanup; by a clock that the test
sets."""

import numpy as np
import pytest

pytest.importorskip("vla_sd_msgs.msg", reason="vla_sd_msgs is not installed (pip install ./msg)")

from geometry_msgs.msg import PoseStamped  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from standin import Node, SetClock, Subscription  # noqa: E402
from vla_sd_msgs.msg import ArmStatus  # noqa: E402

from vla_sd_ros.nodes import inputs  # noqa: E402
from vla_sd_ros.nodes.inputs import Inputs, stamp_source  # noqa: E402

NOW = 1000.0


class Camera(Subscription):
    """A MatchedSubscription."""

    def __init__(self, node, kind, topic, **options):
        super().__init__(kind, topic, None)
        self.closed = False
        node.subscriptions[topic] = self

    def look(self):
        pass

    def take(self):
        return self.take_message(self.kind, False)

    def why_silent(self):
        return "nobody publishes /image"

    def close(self):
        self.closed = True


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def heard(node, monkeypatch):
    monkeypatch.setattr(inputs, "MatchedSubscription", Camera)
    heard = Inputs(node, SetClock(NOW))
    heard.open()
    return heard


def stamped(kind: type, stamp: float, **fields):
    message = kind(**fields)
    message.header.stamp.sec, message.header.stamp.nanosec = int(stamp), int(stamp % 1 * 1e9)
    return message


def put(node, topic: str, message, waited: float = 0.0) -> None:
    """A message that came `waited` seconds ago."""
    node.subscriptions[topic].waiting.append((message, round(1e9 * (NOW - waited))))


@pytest.mark.parametrize(
    "stamp, waited, age",
    [(NOW - 0.3, 0.0, 0.3), (NOW - 0.1, 0.5, 0.5), (0.0, 0.2, 0.2), (NOW + 2.0, 0.0, -2.0)],
    ids=["by its stamp", "by its arrival", "without a stamp", "ahead of the clock"],
)
def test_ages(heard, node, stamp, waited, age):
    put(node, "image", stamped(Image, stamp, encoding="rgb8"), waited)
    put(node, "joint_states", stamped(JointState, stamp, name=["a"], position=[0.5]), waited)
    heard.poll()
    assert heard.images.age(NOW, NOW) == pytest.approx(age, abs=1e-6)
    assert heard.joint_states.age(NOW, NOW) == pytest.approx(age, abs=1e-6)
    assert heard.joint_positions() == {"a": 0.5}


def test_the_newest_image_counts_and_an_unusable_kind_is_told(heard, node):
    put(node, "image", stamped(Image, NOW - 0.2, encoding="rgb8"))
    put(node, "image", stamped(Image, NOW - 0.1, encoding="bayer_rggb8"))
    heard.poll()
    assert heard.images.sample.stamp == pytest.approx(NOW - 0.1)
    assert "'bayer_rggb8' is not supported" in heard.camera_problem() and node.log == [heard.camera_problem()]


def test_a_pose_is_that_of_the_moment_and_of_the_base_frame(heard, node):
    for stamp, x, frame in ((NOW - 0.04, 0.1, "panda_link0"), (NOW - 0.02, 0.3, "panda_link0"), (NOW - 0.03, 9.0, "world")):
        message = stamped(PoseStamped, stamp)
        message.header.frame_id, message.pose.position.x, message.pose.orientation.w = frame, x, 1.0
        put(node, "measured_pose", message)
    pose = heard.pose_at(NOW - 0.03)
    assert np.allclose(pose.position, [0.2, 0.0, 0.0], atol=1e-5) and np.allclose(pose.rotation, np.eye(3))
    assert heard.pose_at(NOW - 5.0) is None


def test_an_arm_that_is_held_is_believed_as_long_as_it_speaks(heard):
    heard._on_arm_status(stamped(ArmStatus, NOW, code=ArmStatus.HELD, message="somebody holds it"))
    assert heard.held() == "somebody holds it"
    heard._clock.time += 1.1
    assert heard.held() == ""


def test_the_advice_about_silence_is_the_cameras(heard, node):
    assert heard.image_advice() == "nobody publishes /image"
    put(node, "image", stamped(Image, NOW - 30.0, encoding="rgb8"))
    heard.poll()
    assert heard.image_advice() == "check the publisher and its clock"  # one comes, with the stamps of another clock


def test_nothing_is_left_after_a_close(heard, node):
    put(node, "image", stamped(Image, NOW, encoding="rgb8"))
    heard.poll()
    camera = heard.camera
    heard.close()
    assert camera.closed and heard.camera is None and heard.images.sample is None and heard.camera_problem() == ""


def test_an_image_without_a_stamp_goes_on_with_that_of_its_arrival(heard, node):
    put(node, "image", stamped(Image, 0.0, encoding="rgb8"), waited=0.25)
    heard.poll()
    assert stamp_source(heard.images.sample).stamp.sec == 999 and heard.images.sample.stamp == pytest.approx(NOW - 0.25)


def test_an_image_from_before_simulated_time_began_has_a_stamp_that_can_be_sent(heard, node, monkeypatch):
    monkeypatch.setattr(heard._clock, "now", lambda: 0.0)
    put(node, "image", stamped(Image, 0.0, encoding="rgb8"), waited=0.25)
    heard.poll()
    assert heard.images.sample.stamp == pytest.approx(-0.25) and stamp_source(heard.images.sample).stamp.nanosec == 0


def test_a_frame_of_ten_megabytes_does_not_go_on_with_every_step(heard, node):
    message = stamped(Image, NOW, encoding="rgb8")
    message.header.frame_id = "x" * 10_000_000
    put(node, "image", message)
    heard.poll()
    assert stamp_source(heard.images.sample).frame_id == 255 * "x" and heard.camera_problem() == "" and node.log == []
