# SPDX-License-Identifier: Apache-2.0
"""~/hold holds until it is released: over each transition of the lifecycle, and asked for in any state."""

import pytest

from vla_sd_ros.control.codes import Code

ALL = ("deactivate", "cleanup", "configure", "activate")


def assert_held(arm):
    sent = len(arm.sent)
    arm.drive(2, goal=7)
    assert arm.status.code == Code.HELD and not arm.status.moving
    assert len(arm.sent) == sent
    assert arm.hold(False).success
    arm.drive(1, goal=8)
    assert arm.status.moving


@pytest.mark.parametrize("before", range(5))
def test_it_is_kept_over_each_transition_after_it(arm, before):
    """Asked for after `before` of the transitions."""
    from panda import urdf

    arm.lifecycle(*ALL[:before])
    assert arm.hold(True).success
    arm.lifecycle(*ALL[before:])
    arm.activate()
    arm.describe(urdf())
    arm.measure()
    assert_held(arm)


def test_released_while_the_node_is_unconfigured_it_is_over(arm):
    from panda import urdf

    arm.hold(True)
    arm.lifecycle("deactivate", "cleanup")
    arm.hold(False)
    arm.lifecycle("configure")
    arm.describe(urdf())
    arm.activate()
    arm.measure()
    arm.drive(1)
    assert arm.status.moving
