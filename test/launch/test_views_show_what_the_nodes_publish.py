# SPDX-License-Identifier: Apache-2.0
"""The Foxglove layout and the RViz view name topics that the nodes publish, of the types their panels take, and real fields."""

import importlib
import json
import re
import sys
import time
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

for folder in ("", "ros"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))

ROOT = Path(__file__).parents[2]
LAYOUT = json.loads((ROOT / "config" / "vla_sd_ros.foxglove.json").read_text())
RVIZ = yaml.safe_load((ROOT / "config" / "vla_sd_ros.rviz").read_text())
PANELS = LAYOUT["configById"]
POSE, POSES = "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseArray"
RVIZ_TYPES = {"Pose": POSE, "PoseArray": POSES, "Image": "sensor_msgs/msg/Image", "RobotModel": "std_msgs/msg/String"}
# A camera's driver publishes it, under the default of the argument image_topic.
CAMERA = {"/camera/image_raw": ["sensor_msgs/msg/Image"]}


@pytest.fixture(scope="module")
def published():
    """Topics and types of arm_node, vla_node and a simulated Franka, as they are in the graph."""
    from processes import in_a_process

    return in_a_process(observed_topics)


def observed_topics() -> dict:
    from processes import Domain

    from vla_sd_ros.nodes.arm_node import ArmNode
    from vla_sd_ros.nodes.sim_arm_node import SimArmNode
    from vla_sd_ros.nodes.vla_node import VlaNode

    domain, context = Domain(), Context()
    rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
    overrides = [Parameter("robot", value="franka"), Parameter("prefix", value="fr3")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimArmNode, "_film", lambda node: None)  # needs a GPU or EGL, and nothing here is drawn
        nodes = [
            ArmNode("arm_node", context=context, namespace="/vla"),
            VlaNode("vla_node", context=context, namespace="/vla"),
            SimArmNode(context=context, namespace="/vla", parameter_overrides=overrides),
        ]
    nodes[0].configure()
    found, deadline = {}, time.monotonic() + 10.0
    while "/vla/measured_path" not in found and time.monotonic() < deadline:
        found = {
            name: types for node in nodes for name, types in nodes[0].get_publisher_names_and_types_by_node(node.get_name(), "/vla")
        }
        time.sleep(0.05)
    context.try_shutdown()
    return found


def fields_exist(kind: str, path: str) -> bool:
    """Whether a message of the type has the field `a.b.c`."""
    package, _, name = kind.split("/")
    message = getattr(importlib.import_module(f"{package}.msg"), name)
    for field in filter(None, path.split(".")):
        fields = message.get_fields_and_field_types()
        if field not in fields:
            return False
        kind = re.sub(r"\[.*\]|sequence<(.*?)(, \d+)?>", r"\1", fields[field])
        if "/" in kind:
            package, name = kind.split("/")
            message = getattr(importlib.import_module(f"{package}.msg"), name)
    return True


def message_paths():
    """(panel, topic, field) of everything that a panel plots or prints; a path is /topic/name.field.field."""
    for panel, config in PANELS.items():
        paths = [p["value"] for p in config.get("paths", [])] + [config[k] for k in ("topicPath", "topicToRender") if k in config]
        for path in paths:
            topic, _, field = path.partition(".")
            yield panel, topic, field


def test_everything_that_is_plotted_or_printed_is_a_field_of_a_published_message(published):
    seen = set()
    for panel, topic, field in message_paths():
        assert topic in published, f"{panel}: nobody publishes {topic}"
        assert fields_exist(published[topic][0], field), f"{panel}: {published[topic][0]} has no {field}"
        seen.add(topic)
    assert {"/vla/decode", "/vla/arm_node/status", "/diagnostics"} <= seen
    assert not fields_exist("geometry_msgs/msg/PoseStamped", "pose.position.w")


def test_the_3d_panel_shows_target_and_measured_path(published):
    topics = PANELS["3D!arm"]["topics"]
    assert {name: published[name] for name in topics} == {name: [POSES if name.endswith("path") else POSE] for name in topics}
    assert {"/vla/commanded_pose", "/vla/measured_path"} <= set(topics)
    # Poses are drawn as axes or arrows, arrays of poses also as lines.
    assert all(
        config["type"] in {"axis", "arrow"} | ({"line"} if name.endswith("path") else set()) for name, config in topics.items()
    )


def test_there_is_a_picture_of_the_simulated_and_of_a_real_camera(published):
    images = {config["imageMode"]["imageTopic"] for name, config in PANELS.items() if name.startswith("Image!")}
    assert images == {"/vla/image", *CAMERA}
    assert (published | CAMERA)["/vla/image"] == ["sensor_msgs/msg/Image"]


def test_every_panel_of_the_layout_is_configured_and_placed_once():
    def placed(node):
        return [node] if isinstance(node, str) else [*placed(node["first"]), *placed(node["second"])]

    tree = placed(LAYOUT["layout"])
    for name in list(tree):
        tree += [panel for tab in PANELS[name].get("tabs", []) for panel in placed(tab["layout"])]
    assert sorted(tree) == sorted(PANELS) and set(LAYOUT) == {
        "configById",
        "globalVariables",
        "userNodes",
        "playbackConfig",
        "layout",
    }


def test_rviz_shows_camera_robot_target_and_path_with_topics_of_the_right_type(published):
    shown = set()
    for display in RVIZ["Visualization Manager"]["Displays"]:
        kind = display["Class"].removeprefix("rviz_default_plugins/")
        if kind == "Grid":
            continue
        topic = display.get("Topic") or display["Description Topic"]
        assert published[f"/vla/{topic['Value']}"] == [RVIZ_TYPES[kind]], display["Name"]
        # What is published once is seen by those who come later only if they ask for it; sensors are best effort.
        latched = topic["Value"] == "robot_description"
        assert topic["Durability Policy"] == ("Transient Local" if latched else "Volatile")
        assert topic["Reliability Policy"] == ("Reliable" if latched else "Best Effort")
        shown.add(topic["Value"])
    assert shown == {"robot_description", "commanded_pose", "measured_pose", "measured_path", "image"}
