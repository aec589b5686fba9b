# SPDX-License-Identifier: Apache-2.0
"""A Franka arm: its driver, arm_node and vla_node. What is started is in src/vla_sd_ros/bringup.py.

ros2 launch vla_sd_ros franka.launch.py robot_ip:=172.16.0.2  # its driver, crisp_controllers
ros2 launch vla_sd_ros franka.launch.py driver:=none          # the driver runs already
ros2 launch vla_sd_ros franka.launch.py driver:=direct robot_ip:=172.16.0.2  # franky-control instead of both
ros2 launch vla_sd_ros franka.launch.py driver:=sim           # a simulated Franka that behaves as crisp_controllers
# Two machines, one with the real-time kernel and one with the GPU, in the same ROS domain:
ros2 launch vla_sd_ros franka.launch.py nodes:=arm robot_ip:=172.16.0.2
ros2 launch vla_sd_ros franka.launch.py nodes:=vla driver:=none
"""

from vla_sd_ros.launching import description


def generate_launch_description():
    return description("franka.launch.py")
