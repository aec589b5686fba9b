# SPDX-License-Identifier: Apache-2.0
"""LIBERO scenes in MuJoCo, the scripted expert and the demonstrations made with it. No ROS in here."""
import os

os.environ.setdefault("MUJOCO_GL", "egl")  # no display needed; mujoco reads it when it is first imported
