# SPDX-License-Identifier: Apache-2.0
"""Drives a real arm from a camera and a sentence: a vision-language-action model behind ROS 2 nodes."""
