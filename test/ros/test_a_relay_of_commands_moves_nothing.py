# SPDX-License-Identifier: Apache-2.0
"""A relay that sends each command once more, and a node that publishes commands beside: over DDS, the arm goes no farther than by each
command once; it holds and says why, and /diagnostics warns as soon as there are two publishers.
"""

import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from panda import command
from vla_sd_msgs.msg import ArmStatus, EndEffectorCommand

STEP = 0.01  # m


def way(arm_node):
    first, last = (seen[1].pose.position for seen in (arm_node.measured[0], arm_node.targets[-1]))
    return last.y - first.y


def drive(ros, steps, pause=0.2, goal=1):
    for step in range(steps):
        ros.publish(EndEffectorCommand, "command", command(goal=goal, step=step, translation=(0.0, STEP, 0.0)))
        time.sleep(pause)


@pytest.mark.parametrize("times", [1, 2, 4])
def test_each_command_moves_the_arm_once(arm_node, ros, times):
    """times: copies of each, 30 ms apart."""
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics")
    relay = ros.node.create_publisher(EndEffectorCommand, "command", 10)
    ros.wait_until(lambda: ros.node.count_publishers("command") and relay.get_subscription_count(), "arm_node's subscription")

    def pass_on(message):
        if message.step >= 4:  # from then on the relay runs
            for _ in range(times):
                time.sleep(0.03)
                relay.publish(message)

    def warned():
        return any(
            "2 nodes publish on /vla/command" in status.message and status.level == DiagnosticStatus.WARN
            for _, array in list(diagnostics)
            for status in array.status
        )

    ros.publish(EndEffectorCommand, "command", command(hold=True))
    ros.wait_until(warned, "a warning")
    for step in range(15):
        message = command(step=step, translation=(0.0, STEP, 0.0))
        began = time.monotonic()
        ros.publish(EndEffectorCommand, "command", message)
        pass_on(message)
        time.sleep(max(0.0, began + 0.2 - time.monotonic()))
        if step == 3:
            assert arm_node.statuses[-1][1].code == ArmStatus.OK, "a second publisher that is silent is no fault"
    status = arm_node.statuses[-1][1]
    assert (status.state, status.code) == (ArmStatus.HOLDING, ArmStatus.COMMAND_CONFLICT)
    assert "commands come again" in status.message
    assert 4 * STEP - 1e-3 < way(arm_node) < 6 * STEP + 1e-3


def test_commands_at_100_hz_do_not_add_up(arm_node, ros):
    drive(ros, 150, pause=0.01)
    status = arm_node.statuses[-1][1]
    assert (status.state, status.code) == (ArmStatus.HOLDING, ArmStatus.COMMAND_CONFLICT)
    assert "more commands come than one per period" in status.message
    assert way(arm_node) < 5 * STEP
