# SPDX-License-Identifier: Apache-2.0
"""A robot description that would end the process, or let the arm never move, is refused with one sentence that says what mends it."""

import pytest
from arms import PANDA

from vla_sd_ros.kinematics.arm import ArmKinematics

LIMITS = 'velocity="2.175" effort="10"'


def refusal(urdf: str, names=PANDA.joint_names) -> str:
    with pytest.raises(ValueError) as error:
        ArmKinematics(urdf, "panda_tcp", names)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("velocity", ["0", "1e-06"])
def test_a_velocity_limit_that_is_none_is_named(velocity):
    urdf = PANDA.urdf().replace(LIMITS, f'velocity="{velocity}" effort="0"', 1)
    assert f"allows joint 'panda_joint1' a velocity of {velocity}, so that it could hardly move" in refusal(urdf)


def test_position_limits_that_leave_no_room_are_named():
    urdf = PANDA.urdf().replace('lower="-1.7628" upper="1.7628"', 'lower="0" upper="0"', 1)
    assert "limits joint 'panda_joint2' to 0 .. 0, " in refusal(urdf)


@pytest.mark.parametrize("links", [1001, 5000, 100_000])
def test_so_many_links_that_the_recursion_over_them_would_end_the_process(links):
    """They hang in one chain; 5000 overflow the stack."""
    chain = "".join(
        f'<link name="l{i}"/><joint name="j{i}" type="fixed"><parent link="{f"l{i - 1}" if i else "panda_tcp"}"/>'
        f'<child link="l{i}"/></joint>'
        for i in range(links - 9)
    )
    assert refusal(PANDA.urdf().replace("</robot>", f"{chain}</robot>")) == (
        f"the robot description has {links} links, but at most 1000 are read"
    )


def test_of_many_links_the_first_are_listed():
    urdf = (
        PANDA.urdf()
        .replace('"panda_tcp"', '"tool"')
        .replace(
            "</robot>",
            "".join(
                f'<link name="{"l" * 1000}{i}"/><joint name="j{i}" type="fixed"><parent link="tool"/><child link="{"l" * 1000}{i}"/></joint>'
                for i in range(500)
            )
            + "</robot>",
        )
    )
    words = refusal(urdf)
    assert "no link 'panda_tcp'; its links are: panda_link0, panda_link1," in words and len(words) < 3000


def test_names_that_come_twice_are_named():
    assert "2 joints are called 'panda_joint3'" in refusal(PANDA.urdf().replace('"panda_joint4"', '"panda_joint3"'))
    assert "2 links are called 'panda_link4'" in refusal(
        PANDA.urdf().replace('<link name="panda_link5"/>', '<link name="panda_link4"/>')
    )
    assert refusal(PANDA.urdf(), ["panda_joint1", *PANDA.joint_names]) == "joint_names has 'panda_joint1' twice"
