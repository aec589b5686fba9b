# SPDX-License-Identifier: Apache-2.0
"""wxai_driver: a WidowX AI without ros2_control: trossen-arm (extra `trossen`) behind arm_node's topics.

target_pose and gripper_command (position of the finger [m]) in; joint_states, robot_description and robot_fault out; the
services ~/recover and ~/home. The real-time loop is trossen-arm's, in C++.
"""

import sys

import numpy as np

from vla_sd_ros.drivers import wxai
from vla_sd_ros.nodes.driver_node import SHARED, DriverNode
from vla_sd_ros.nodes.parameters import ParameterSpec
from vla_sd_ros.nodes.process import run

DEFAULTS = wxai.Settings(address="")


class WxaiDriver(DriverNode):
    """See the module's docstring."""

    TABLE = (
        ParameterSpec("ip_address", "192.168.1.2", "Address of the arm's controller.", read_only=True),
        ParameterSpec("variant", DEFAULTS.variant, "End effector of the arm.", choices=wxai.VARIANTS, read_only=True),
        ParameterSpec("clear_error", False, "Clear an error that the arm reports as the driver starts.", read_only=True),
        ParameterSpec("base_frame", DEFAULTS.base, "Base frame of the targets.", read_only=True),
        ParameterSpec("tip_link", DEFAULTS.tip, "Link that the targets are for.", read_only=True),
        ParameterSpec("joint_names", list(DEFAULTS.joint_names), "The arm's joints, base to tip.", read_only=True),
        ParameterSpec("home.posture", list(DEFAULTS.home), "Joint positions of ~/home [rad].", -np.pi, np.pi, read_only=True),
        ParameterSpec(
            "home.speed", DEFAULTS.home_speed, "Greatest speed of a joint on the way there [rad/s].", 0.05, 2.0, read_only=True
        ),
        *SHARED,
    )

    def __init__(self, name: str = "wxai_driver", **options):
        super().__init__(name, **options)

    @staticmethod
    def check(values):
        if len(values["joint_names"]) != 6:
            raise ValueError("joint_names must be the six joints of a WidowX AI")

    def connect(self):
        v = self.values
        return wxai.WidowXAI(
            wxai.Settings(
                address=v["ip_address"],
                variant=v["variant"],
                clear_error=v["clear_error"],
                base=v["base_frame"],
                tip=v["tip_link"],
                joint_names=tuple(v["joint_names"]),
                home=tuple(v["home.posture"]),
                home_speed=v["home.speed"],
            )
        )


def main() -> int:
    """Entry point of the executable wxai_driver."""
    return run(WxaiDriver)


if __name__ == "__main__":
    sys.exit(main())
