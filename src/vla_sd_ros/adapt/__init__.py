# SPDX-License-Identifier: Apache-2.0
"""From recordings and a checkpoint to a bundle: draft head, drafter, database, settings, and a report. No ROS in here."""
