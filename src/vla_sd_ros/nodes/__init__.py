# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: thin wirings of the other rooms to topics. Only here and in the command line is rclpy imported."""
