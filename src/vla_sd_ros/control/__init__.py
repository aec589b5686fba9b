# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of arm_node: from deltas of one step to a smooth, limited stream of targets. No ROS here."""
