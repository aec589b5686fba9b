# SPDX-License-Identifier: Apache-2.0
"""Two arm_nodes on one robot: both come to rest and are silent, whoever was first; the one that is left goes on with a new goal."""

import time

from vla_sd_ros.control.codes import Code


def until_they_see(arms, publishers):
    deadline = time.monotonic() + 10.0
    while any(arm.node.count_publishers("target_pose") != publishers for arm in arms):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_neither_publishes_on(make_arm):
    first, second = make_arm("arm_node").start(), make_arm("second")
    first.drive(2, translation=(0.05, 0.0, 0.0))
    second.start()
    until_they_see((first, second), 2)
    first.run(1.0)
    assert first.speeds.max() > 0.2 and first.speeds[-1] < 0.01, "it came to rest smoothly"
    sent = len(first.sent)
    for arm in (first, second):
        arm.drive(2, goal=5)
        assert arm.status.code == Code.ROBOT_FAULT and "the arm must have one master" in arm.status.message
    assert len(first.sent) == sent and not second.sent
    second.node.trigger_deactivate(), second.node.trigger_cleanup()
    until_they_see((first,), 1)
    first.run(0.6)
    assert len(first.sent) == sent, "nothing moves by itself"
    first.drive(1, goal=6)
    assert first.status.moving and len(first.sent) > sent
