# SPDX-License-Identifier: Apache-2.0
"""LIBERO scenes in MuJoCo, the scripted expert and the demonstrations made with it. No ROS in here."""

import os

from vla_sd_ros.inputs import BadInput

RENDERERS = ("egl", "osmesa", "glfw", "glx")

os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL") or "egl"  # no display needed; mujoco reads it at its import
if os.environ["MUJOCO_GL"].lower().strip() not in RENDERERS:
    raise BadInput(f"MUJOCO_GL is {os.environ['MUJOCO_GL']!r}, but must be one of {', '.join(RENDERERS)}; unset, it is egl")
