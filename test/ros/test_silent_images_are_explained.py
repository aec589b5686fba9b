# SPDX-License-Identifier: Apache-2.0
"""Where no image comes, the sentence names the likely cause: nobody publishes, the QoS do not match, the topic is another's."""

import pytest
from processes import Ros
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from vla_sd_ros.nodes import matching
from vla_sd_ros.nodes.matching import MatchedSubscription
from vla_sd_ros.nodes.polling import PolledOnly
from vla_sd_ros.watching.goal import GoalCode, GoalLimits, GoalWatch, Situation

OFFERS = {"best_effort": QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT), "reliable": QoSProfile(depth=1)}


@pytest.fixture
def driver(domain):
    """A node as if in another process: one participant of DDS cannot have two types of one topic."""
    driver = Ros(domain)
    yield driver.node
    driver.close()


@pytest.fixture
def camera(ros, driver, monkeypatch):
    """camera(qos, offers, kind): a subscription of image.qos `qos` that has seen the publishers in `offers`."""
    monkeypatch.setattr(matching, "GRAPH_PERIOD", 0.0)

    def subscribe(qos, offers=(), kind=Image):
        publishers = [driver.create_publisher(kind, "image", OFFERS[offer]) for offer in offers]
        ros.wait_until(lambda: ros.node.count_publishers("image") == len(publishers), "the publishers in the graph")
        subscription = MatchedSubscription(ros.node, Image, "image", qos=qos, callback_group=PolledOnly())
        subscription.publishers = publishers
        return subscription

    return subscribe


@pytest.mark.parametrize(
    "qos, offers, words",
    [
        ("auto", [], "nobody publishes /vla/image: start the driver, or correct the topic"),
        ("reliable", ["best_effort"], "published best-effort, and image.qos asks for reliable: set it to auto"),
        ("auto", ["reliable", "best_effort"], "published best-effort, with which raw images of 640 x 480 and more get lost"),
        ("auto", ["reliable"], ""),
    ],
)
def test_the_likely_cause_is_named(camera, qos, offers, words):
    said = camera(qos, offers).why_silent()
    assert words in said and bool(said) == bool(words)


def test_another_type_is_named(camera):
    said = camera("auto", ["reliable"], CompressedImage).why_silent()
    assert "/vla/image carries sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image" in said


def test_the_subscription_follows_the_publishers_and_keeps_to_them(camera, ros, driver):
    subscription = camera("auto", ["reliable"])
    assert subscription.reliability == "reliable"
    second = driver.create_publisher(Image, "image", OFFERS["best_effort"])
    ros.wait_until(lambda: subscription.look() or subscription.reliability == "best_effort", "best effort beside reliable")
    for publisher in subscription.publishers:
        driver.destroy_publisher(publisher)
    ros.wait_until(lambda: subscription.look() or ros.node.count_publishers("image") == 1, "the best-effort one alone")
    driver.destroy_publisher(second)
    ros.wait_until(lambda: subscription.look() or "nobody" in subscription.why_silent(), "nobody")
    assert subscription.reliability == "best_effort", "it changed without a reason"
    driver.create_publisher(Image, "image", OFFERS["reliable"])
    ros.wait_until(lambda: subscription.look() or subscription.reliability == "reliable", "reliable")


@pytest.mark.parametrize("qos, reliability", [("reliable", "reliable"), ("best_effort", "best_effort")])
def test_the_parameter_decides(camera, qos, reliability):
    assert camera(qos, ["best_effort", "reliable"]).reliability == reliability


def test_the_sentence_of_the_goal_has_it():
    limits = GoalLimits(
        time_limit=60.0,
        step_limit=100,
        control_period=0.1,
        image_timeout=0.5,
        image_grace=0.0,
        joint_states_timeout=1.0,
        joint_states_grace=1.0,
        arm_grace=1.0,
    )
    seen = Situation(
        steady=10.0, elapsed=1.0, steps=0, since_step=1.0, image_age=2.0, joint_states_age=0.0, image_advice="set image.qos to auto"
    )
    ending = GoalWatch().check(seen, limits).ending
    assert ending.code == GoalCode.IMAGE_STALE and ending.message.endswith("; set image.qos to auto.")
