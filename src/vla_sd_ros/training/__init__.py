# SPDX-License-Identifier: Apache-2.0
"""Training of the embedded policy from demonstrations. No ROS in here."""
