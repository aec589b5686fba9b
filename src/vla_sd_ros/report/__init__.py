# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: bag, video, figure and summary. Everything is made from the bag; no ROS in here."""
