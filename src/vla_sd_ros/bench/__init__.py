# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench`: success, latency and floor of decoders, as tables and as results files. No ROS in here."""
