# SPDX-License-Identifier: Apache-2.0
"""The model on one machine, the robot at another: a policy server, and the client that stands for a model. No ROS in here.

The server speaks two protocols that exist already: POST /act of OpenVLA's deploy.py, and openpi's websocket.
"""
