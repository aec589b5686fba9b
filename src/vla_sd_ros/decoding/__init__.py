# SPDX-License-Identifier: Apache-2.0
"""Decoders: from the verifier's logits to the seven tokens of one action. No ROS in here.

Nothing is imported here, so that a node can declare the settings as parameters before torch has been loaded.
"""
