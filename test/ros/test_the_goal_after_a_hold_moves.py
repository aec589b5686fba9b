# SPDX-License-Identifier: Apache-2.0
"""What a hand has ended in a goal, a hold that is released or a change of dry_run, is over with that goal: the next one moves."""

import time

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_srvs.srv import SetBool
from system import System
from vla_sd_msgs.msg import ArmStatus


@pytest.fixture(scope="module")
def system(checkpoint, tmp_path_factory):
    with System(tmp_path_factory.mktemp("held"), "arm", checkpoint, vla={"arm_status.grace": 2.0}, relay=False) as system:
        yield system


def hold(system, on: bool) -> None:
    assert system.ros.call(SetBool, "arm_node/hold", SetBool.Request(data=on)).success


def dry_run(system, on: bool) -> None:
    value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=on)
    request = SetParameters.Request(parameters=[Parameter(name="dry_run", value=value)])
    assert system.ros.call(SetParameters, "arm_node/set_parameters", request).results[0].successful


@pytest.fixture(autouse=True)
def at_its_first_pose(system):
    system.reset()


@pytest.mark.parametrize("after", [0.0, 0.3, 1.0])
def test_after_a_hold_that_was_released_at_once_or_soon(system, after):
    system.start_moving()
    hold(system, True)
    time.sleep(after)
    hold(system, False)
    ended(system)
    moves_again(system)


def test_after_dry_run_was_changed_in_the_goal(system):
    system.start_moving()
    dry_run(system, True)
    ended(system)
    system.clear()
    system.client.start("pick up the milk")  # nothing is sent
    system.ros.wait_until(lambda: len(system.commands) > 3, "commands")
    dry_run(system, False)
    ended(system)
    moves_again(system)


def ended(system) -> None:
    assert system.client.result(8.0).error_code in (ArmStatus.HELD, ArmStatus.INTERRUPTED)
    time.sleep(1.0)  # what still comes of the goal
    assert system.statuses[-1][1].code != ArmStatus.HELD


def moves_again(system) -> None:
    system.clear()
    system.start_moving()
    system.end_goal()
    system.clear()
