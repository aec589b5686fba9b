# SPDX-License-Identifier: Apache-2.0
"""From joint states to poses and twists of the end effector. No ROS here."""
