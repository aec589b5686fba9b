# SPDX-License-Identifier: Apache-2.0
"""A small arm with the joint names and lengths of a Panda, as a URDF, and messages to talk about it."""

import numpy as np
from geometry_msgs.msg import PoseStamped, Vector3
from pinocchio import Quaternion
from processes import LATCHED
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from vla_sd_msgs.msg import EndEffectorCommand

from vla_sd_ros.kinematics.arm import ArmKinematics

# xyz and rpy of each joint in the link before (Denavit-Hartenberg parameters of the Panda).
ORIGINS = [
    ("0 0 0.333", "0 0 0"),
    ("0 0 0", "-1.5707963 0 0"),
    ("0 -0.316 0", "1.5707963 0 0"),
    ("0.0825 0 0", "1.5707963 0 0"),
    ("-0.0825 0.384 0", "-1.5707963 0 0"),
    ("0 0 0", "1.5707963 0 0"),
    ("0.088 0 0", "1.5707963 0 0"),
]
HOME = [0.0, -0.2, 0.0, -2.4, 0.0, 2.2, 0.785]
NAMES = [f"panda_joint{i}" for i in range(1, 8)]


def urdf() -> str:
    """The URDF: panda_link0 .. panda_link7, one fixed joint to panda_tcp, and one finger."""
    links = "".join(f'<link name="panda_link{i}"/>' for i in range(8))
    joints = "".join(
        f'<joint name="panda_joint{i}" type="revolute"><parent link="panda_link{i - 1}"/><child link="panda_link{i}"/>'
        f'<origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="0 0 1"/><limit lower="-3" upper="3" effort="80" velocity="2"/>'
        "</joint>"
        for i, (xyz, rpy) in enumerate(ORIGINS, start=1)
    )
    tip = (
        '<link name="panda_tcp"/><link name="finger"/>'
        '<joint name="tcp" type="fixed"><parent link="panda_link7"/><child link="panda_tcp"/>'
        '<origin xyz="0 0 0.2104" rpy="0 0 -0.785398"/></joint>'
        '<joint name="panda_finger_joint1" type="prismatic"><parent link="panda_tcp"/><child link="finger"/>'
        '<axis xyz="0 1 0"/><limit lower="0" upper="0.04" effort="20" velocity="0.2"/></joint>'
    )
    return f'<robot name="panda">{links}{joints}{tip}</robot>'


class Arm:
    """The driver's side of an arm that is at once where it is sent: robot_description, joint_states at 100 Hz.

    `stuck`: it stays where it is.
    """

    def __init__(self, ros, q=HOME):
        self.ros, self.q, self.stuck = ros, list(q), False
        self._kinematics = ArmKinematics(urdf(), "panda_tcp", NAMES)
        ros.node.create_subscription(PoseStamped, "target_pose", self._go, 1)
        self._joint_states = ros.node.create_publisher(JointState, "joint_states", 10)
        ros.publish(String, "robot_description", String(data=urdf()), LATCHED, wait=False)
        self._timer = ros.node.create_timer(0.01, self._publish)

    def _go(self, message):
        p, o = message.pose.position, message.pose.orientation
        q = self._kinematics.inverse(np.array([p.x, p.y, p.z]), Quaternion(o.w, o.x, o.y, o.z).matrix(), np.array(self.q))
        if q is not None and not self.stuck:
            self.q = q.tolist()

    def _publish(self):
        message = JointState(name=[*NAMES, "panda_finger_joint1"], position=[*self.q, 0.04])
        message.header.stamp = self.ros.node.get_clock().now().to_msg()
        self._joint_states.publish(message)

    def stop(self):
        self._timer.cancel()


def command(
    goal=1, step=0, translation=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.0), gripper=1.0, period=0.2, hold=False, frame="panda_link0"
) -> EndEffectorCommand:
    x, y, z = translation
    roll, pitch, yaw = rotation
    message = EndEffectorCommand(
        step=step, hold=hold, gripper=gripper, translation=Vector3(x=x, y=y, z=z), rotation=Vector3(x=roll, y=pitch, z=yaw)
    )
    message.header.frame_id = frame
    message.goal_id.uuid = [goal] * 16
    message.period.nanosec = round(period * 1e9)
    return message
