# SPDX-License-Identifier: Apache-2.0
"""A controller is trusted only while controller_manager says that it is active; what is wrong is one sentence."""

import pytest
from controllers import ControllerManager

from vla_sd_ros.arms.controllers import Controllers

pytestmark = pytest.mark.usefixtures("standins")


@pytest.fixture
def watch(bench):
    bench.node.values |= {"controller.name": "crisp", "controller.recovery_action": ""}
    watch = Controllers(bench.node)
    yield watch
    watch.close()


@pytest.fixture
def manager(bench):
    manager = ControllerManager(bench.robot, "crisp", "joint_state_broadcaster")
    bench.servers.append(manager.server)
    return manager


def look(bench, watch, condition=lambda fault: True, seconds=0.5):
    """The fault after some time of polls, in which the condition must come true."""
    met = False
    for _ in range(round(seconds / 0.1)):
        bench.now += 0.1
        watch.poll(bench.now)
        bench.settle()
        met = met or condition(watch.fault(bench.now))
    assert met
    return watch.fault(bench.now)


def known(bench, watch):
    for _ in range(200):
        if not look(bench, watch) and not watch.inactive:
            return
    raise AssertionError(f"the controller was never found: {watch.fault(bench.now)}")


def test_an_active_controller_is_no_fault_and_one_that_is_switched_off_is_one_at_the_next_look(bench, watch, manager):
    assert watch.inactive, "nothing is known of it yet"
    known(bench, watch)
    manager.states["crisp"] = "inactive"
    assert "'crisp' is inactive" in look(bench, watch, seconds=0.4) and watch.inactive
    manager.states["crisp"] = "active"
    assert "the next goal may begin after the service ~/recover was called" in look(bench, watch, seconds=0.4)
    assert not watch.inactive


def test_a_controller_that_is_only_started_later_needs_no_recovery(bench, watch, manager):
    manager.states["crisp"] = "unconfigured"
    for _ in range(100):
        if "'crisp' is unconfigured: activate it" in look(bench, watch):
            break
    manager.states["crisp"] = "active"
    assert look(bench, watch) == ""


def test_a_controller_of_another_name_is_told_with_those_that_there_are(bench, watch, manager):
    del manager.states["crisp"]
    for _ in range(100):
        if "has no controller 'crisp'" in look(bench, watch):
            break
    assert "it has: joint_state_broadcaster" in watch.fault(bench.now)


def test_a_manager_that_is_not_there_is_a_fault_after_a_second_and_sends_nothing_before(bench, watch):
    watch.poll(bench.now)
    assert "has not said yet" in watch.fault(bench.now + 0.9) and watch.inactive
    assert "/controller_manager/list_controllers does not answer" in watch.fault(bench.now + 1.1)


def test_without_a_name_nothing_is_watched(bench):
    watch = Controllers(bench.node)
    watch.poll(bench.now)
    assert watch.fault(bench.now + 100.0) == "" and not watch.inactive
    recovery = watch.recover(lambda: True, lambda: None)
    with pytest.raises(StopIteration, match="knows no way to recover"):
        recovery.send(None)


def test_a_controller_that_nobody_has_answered_for_takes_no_targets(bench, watch):
    assert "has not said yet whether the controller 'crisp' is active" in watch.fault(bench.now) and watch.inactive
