# SPDX-License-Identifier: Apache-2.0
"""The nodes of this package, by the names of their executables."""

DRIVERS = ("franka_driver", "wxai_driver")  # of arms by pip
NODES = ("arm_node", "vla_node", "sim_node", "sim_arm_node", *DRIVERS, "goal_recorder")
