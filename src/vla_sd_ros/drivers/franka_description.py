# SPDX-License-Identifier: Apache-2.0
"""What libfranka says of the robot, as franka_description would have it."""

import re

import numpy as np

FLANGE_TO_TCP = (0.1034, -np.pi / 4)  # m, rad about z: of Franka's hand, as franka_description has it
FINGER = 0.04  # m: the way of one finger
LINK = re.compile(r'(<(?:link|joint) name="|<(?:parent|child) link=")')


def description(urdf: str, prefix: str, hand: bool) -> str:
    """The robot's own URDF with the names that franka_description has: links and joints begin with the prefix; the hand."""
    named = LINK.sub(rf"\g<1>{prefix}", urdf)
    if not hand:
        return named
    away, turn = FLANGE_TO_TCP
    fixed = "".join(
        f'<link name="{prefix}{link}"/><joint name="{prefix}{link}_joint" type="fixed"><parent link="{prefix}{parent}"/>'
        f'<child link="{prefix}{link}"/><origin xyz="0 0 {z}" rpy="0 0 {yaw}"/></joint>'
        for link, parent, z, yaw in (("hand", "link8", 0.0, turn), ("hand_tcp", "hand", away, 0.0))
    )
    fingers = "".join(
        f'<link name="{prefix}{side}finger"/><joint name="{prefix}finger_joint{i}" type="prismatic"><parent link="{prefix}hand"/>'
        f'<child link="{prefix}{side}finger"/><origin xyz="0 0 0.0584"/><axis xyz="0 {sign} 0"/>'
        f'<limit lower="0" upper="{FINGER}" velocity="0.2" effort="100"/></joint>'
        for i, side, sign in ((1, "left", 1), (2, "right", -1))
    )
    return named.replace("</robot>", fixed + fingers + "</robot>")
