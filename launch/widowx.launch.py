# SPDX-License-Identifier: Apache-2.0
"""A WidowX arm: its driver, arm_node and vla_node. What is started is in src/vla_sd_ros/bringup.py.

ros2 launch vla_sd_ros widowx.launch.py                           # Interbotix WidowX 250 S with its driver
ros2 launch vla_sd_ros widowx.launch.py driver:=sim               # a simulated one behind the same topics
ros2 launch vla_sd_ros widowx.launch.py model:=wxai ip_address:=192.168.1.2   # Trossen WidowX AI with its driver
ros2 launch vla_sd_ros widowx.launch.py model:=wxai driver:=direct ip_address:=192.168.1.2  # by trossen-arm
"""

from vla_sd_ros.launching import description


def generate_launch_description():
    return description("widowx.launch.py")
