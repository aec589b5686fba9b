# SPDX-License-Identifier: Apache-2.0
"""Qualities of service by what they are for."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# A state that changes now and then: whoever comes later hears the newest one.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A stream of commands, of which only the newest counts, and that must arrive.
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# A stream of measurements, of which only the newest counts: best effort hears publishers of both kinds.
SENSOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# The same for who reads now and then and wants all of them: 2 s of a topic at 50 Hz.
SENSOR_QUEUE = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
