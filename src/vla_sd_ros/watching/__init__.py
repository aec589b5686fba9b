# SPDX-License-Identifier: Apache-2.0
"""What vla_node watches: the goal that runs, the pictures it is decided on, the age of what comes in. No ROS in here."""
