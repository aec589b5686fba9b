# SPDX-License-Identifier: Apache-2.0
"""A simulated arm: simulator, arm_node and vla_node. What is started is in src/vla_sd_ros/bringup.py.

    ros2 launch vla_sd_ros sim.launch.py
    ros2 launch vla_sd_ros sim.launch.py suite:=libero_spatial task:=3
    ros2 launch vla_sd_ros sim.launch.py arm:=widowx
    ros2 launch vla_sd_ros sim.launch.py autostart:=false     # then: ros2 lifecycle set /vla/vla_node configure

A node that ends takes the others with it, unless use_respawn is true, which starts it again; arm_node always does.
"""

from vla_sd_ros.launching import description


def generate_launch_description():
    return description("sim.launch.py")
