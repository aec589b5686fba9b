# SPDX-License-Identifier: Apache-2.0
"""ROS messages to arrays and back, each kind in one place, and the qualities of service by name."""
