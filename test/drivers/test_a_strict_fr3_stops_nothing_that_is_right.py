# SPDX-License-Identifier: Apache-2.0
"""On a simulator as strict as the FCI, motion goes on without a reflex, and a client that pauses is stopped and recovers.

Skipped where franka-sim has no environment of its own (FRANKA_SIM_PYTHON). The machine must have nothing else to do: a client
without real time loses 20 packets soon, and is stopped for it, rightly.
"""

import os
import subprocess

import pytest
from test_an_fr3_obeys_and_stops import arm, distance, faulty, go, joints
from vendors import StrictFr3

GOALS = 8
PAUSE = 0.12  # s: six times what the FCI allows


@pytest.fixture
def driver(tmp_path):
    with StrictFr3(tmp_path) as robot:
        driver = arm(robot)
        yield driver
        driver.stop()


def test_eight_goals_without_a_reflex(driver):
    for goal in range(GOALS):
        target = go(driver, [0.0, 0.08 if goal % 2 else -0.08, 0.03 if goal % 2 else -0.03])
        assert not driver.fault
    go(driver, [0.0, 0.0, 0.0], 0.5)
    assert distance(driver, target) < 0.01


def test_a_client_that_pauses_is_stopped_and_recovers_when_asked(driver):
    go(driver, [0.0, 0.05, 0.0])
    pid = os.getpid()
    subprocess.run(["sh", "-c", f"(kill -STOP {pid}; sleep {PAUSE}; kill -CONT {pid}) &"], check=True)
    assert "communication_constraints_violation" in faulty(driver)
    driver.recover()
    target = go(driver, [0.0, -0.05, 0.0])
    go(driver, [0.0, 0.0, 0.0], 0.5)
    assert not driver.fault and distance(driver, target) < 0.01 and len(joints(driver)) == 7
