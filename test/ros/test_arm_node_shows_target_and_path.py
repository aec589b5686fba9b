# SPDX-License-Identifier: Apache-2.0
"""commanded_pose and measured_path: what viewers see of the motion, whatever interface the robot's side has."""

import numpy as np
from geometry_msgs.msg import PoseArray, PoseStamped
from panda import command
from vla_sd_msgs.msg import EndEffectorCommand


def at(pose):
    return np.array([pose.position.x, pose.position.y, pose.position.z])


def test_viewers_see_the_commanded_pose_and_the_path_of_the_last_seconds(arm_node, ros):
    commanded, paths = ros.listen(PoseStamped, "commanded_pose"), ros.listen(PoseArray, "measured_path")
    ros.wait_until(lambda: paths, "a path")
    assert not commanded, "there is no target before the first command"
    for step in range(10):
        ros.publish(EndEffectorCommand, "command", command(step=step, translation=(0.0, 0.0, 0.02)))
        ros.wait_until(lambda n=len(arm_node.targets): len(arm_node.targets) >= n + 20, "0.2 s of targets")
    ros.wait_until(lambda: commanded, "a commanded pose")
    np.testing.assert_allclose(at(commanded[-1][1].pose), at(arm_node.targets[-1][1].pose), atol=0.02)
    seen = len(paths)
    ros.wait_until(lambda: len(paths) > seen + 1, "a newer path")
    path = paths[-1][1]
    assert path.header.frame_id == "panda_link0"
    heights = [pose.position.z for pose in path.poses]
    assert 8 <= len(heights) <= 150
    assert 0.1 < max(heights) - min(heights) < 0.21
    np.testing.assert_allclose(at(path.poses[-1]), at(arm_node.measured[-1][1].pose), atol=0.02)
