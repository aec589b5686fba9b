# SPDX-License-Identifier: Apache-2.0
"""franka_driver: an FR3 without ros2_control: franky-control (extra `franka`) behind arm_node's topics.

target_pose and gripper_command (whole width [m]) in; joint_states, robot_description and robot_fault out; the services
~/recover, ~/home and ~/home_gripper. The 1 kHz loop is franky's, in C++; a real robot needs a PREEMPT_RT kernel.
"""

import sys

import numpy as np

from vla_sd_ros.drivers import franka
from vla_sd_ros.nodes.driver_node import SHARED, DriverNode
from vla_sd_ros.nodes.parameters import ParameterSpec
from vla_sd_ros.nodes.process import run

DEFAULTS = franka.Settings(address="")


class FrankaDriver(DriverNode):
    """See the module's docstring."""

    TABLE = (
        ParameterSpec("robot_ip", "", "Address of the robot's control box.", read_only=True),
        ParameterSpec(
            "realtime",
            "enforce",
            "enforce: refuse a kernel that keeps no real time; ignore: for a simulator.",
            choices=("enforce", "ignore"),
            read_only=True,
        ),
        ParameterSpec(
            "mode",
            "impedance",
            "impedance: torques, compliant; velocity: Franka's own controller, stiff.",
            choices=franka.MODES,
            read_only=True,
        ),
        ParameterSpec("base_frame", DEFAULTS.base, "Base frame of the targets.", read_only=True),
        ParameterSpec("tip_link", DEFAULTS.tip, "Link that the targets are for.", read_only=True),
        ParameterSpec("joint_names", list(DEFAULTS.joint_names), "The arm's joints, base to tip.", read_only=True),
        ParameterSpec("hand", True, "Whether the arm carries Franka's hand.", read_only=True),
        ParameterSpec("stiffness.translation", DEFAULTS.stiffness[0], "impedance: stiffness [N/m].", 50.0, 3000.0, read_only=True),
        ParameterSpec(
            "stiffness.rotation",
            DEFAULTS.stiffness[1],
            "impedance: stiffness of the rotation [Nm/rad].",
            1.0,
            300.0,
            read_only=True,
        ),
        ParameterSpec(
            "collision.force",
            DEFAULTS.thresholds[0],
            "Force on the hand at which Franka stops the arm [N].",
            5.0,
            200.0,
            read_only=True,
        ),
        ParameterSpec(
            "collision.torque", DEFAULTS.thresholds[1], "The same for the torque of a joint [Nm].", 5.0, 100.0, read_only=True
        ),
        ParameterSpec(
            "velocity.gain",
            DEFAULTS.velocity_gain,
            "velocity: share of the distance from the target that is made up for [1/s].",
            0.0,
            20.0,
            read_only=True,
        ),
        ParameterSpec(
            "velocity.dynamics",
            DEFAULTS.velocity_dynamics,
            "velocity: share of the robot's own limits of velocity, acceleration and jerk.",
            0.01,
            1.0,
            read_only=True,
        ),
        ParameterSpec(
            "home.posture",
            [round(float(x), 4) for x in DEFAULTS.home],
            "Joint positions of ~/home [rad].",
            -np.pi,
            4.7,
            read_only=True,
        ),
        ParameterSpec(
            "home.dynamics", DEFAULTS.home_dynamics, "Share of the robot's own limits on the way there.", 0.01, 0.5, read_only=True
        ),
        ParameterSpec("gripper.speed", DEFAULTS.gripper_speed, "Speed of the hand [m/s].", 0.01, 0.2, read_only=True),
        ParameterSpec("gripper.force", DEFAULTS.gripper_force, "Force with which it holds [N].", 1.0, 140.0, read_only=True),
        *SHARED,
    )

    def __init__(self, name: str = "franka_driver", **options):
        super().__init__(name, **options)

    @staticmethod
    def check(values):
        if not values["robot_ip"]:
            raise ValueError("robot_ip is empty: give the address of the robot's control box")
        if len(values["joint_names"]) != 7 or not values["joint_names"][0].endswith("joint1"):
            raise ValueError("joint_names must be the seven joints of a Franka, PREFIXjoint1 .. PREFIXjoint7")

    def connect(self):
        v = self.values
        return franka.Franka(
            franka.Settings(
                address=v["robot_ip"],
                realtime=v["realtime"] == "enforce",
                mode=v["mode"],
                base=v["base_frame"],
                tip=v["tip_link"],
                joint_names=tuple(v["joint_names"]),
                hand=v["hand"],
                stiffness=(v["stiffness.translation"], v["stiffness.rotation"]),
                thresholds=(v["collision.force"], v["collision.torque"]),
                velocity_gain=v["velocity.gain"],
                velocity_dynamics=v["velocity.dynamics"],
                home=tuple(v["home.posture"]),
                home_dynamics=v["home.dynamics"],
                gripper_speed=v["gripper.speed"],
                gripper_force=v["gripper.force"],
            )
        )


def main() -> int:
    """Entry point of the executable franka_driver."""
    return run(FrankaDriver)


if __name__ == "__main__":
    sys.exit(main())
