# SPDX-License-Identifier: Apache-2.0
"""LIBERO scenes in MuJoCo, the scripted expert and the demonstrations made with it. No ROS in here."""
