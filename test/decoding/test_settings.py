# SPDX-License-Identifier: Apache-2.0
"""Settings are checked when they are made, and config/decoder.yaml is their manual."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from vla_sd_ros.decoding import factory, settings
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.sim import suites


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"relaxed_radius": -1.0}, "relaxed_radius is -1.0, but must lie in 0.0 .. 255.0"),
        ({"kalman_model": "magic"}, "kalman_model is 'magic', but must be one of constant_velocity, decaying"),
        ({"prefill_sources": ["head", "crystal"]}, "prefill_sources is 'crystal', but must be one of last_action"),
        ({"kalman_decay": [0.9]}, "kalman_decay has 1 entries, but needs 6"),
        (
            {"metric_radius": [0.5, 0.0]},
            r"metric_radius is \[0.5, 0\], but its first value, which becomes 0, must lie below its second",
        ),
        ({"metric_length": [0.2, 0.2]}, r"metric_length is \[0.2, 0.2\], but its first value"),
        ({"kerv_tree": [50, 7, 8]}, "kerv_tree has 7 where drafter_depth stands, but must lie in 0 .. 6"),
        ({"spec_vla_tree": [6, 5]}, "spec_vla_tree has 2 entries, but needs 3"),
        ({"kerv_radius_min": 20.0}, "kerv_radius_min is larger than kerv_radius_max"),
    ],
)
def test_a_bad_value_is_one_sentence(bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        Settings(**bad)


def test_the_parameter_file_has_every_setting_with_its_default():
    path = Path(__file__).parents[2] / "config" / "decoder.yaml"
    written = yaml.safe_load(path.read_text())["/**/vla_node"]["ros__parameters"]["decoder"]
    defaults = {e.name: e.default if e.default is not MISSING else e.default_factory() for e in fields(Settings)}
    assert written.keys() - {"name"} == defaults.keys()
    assert {name: value for name, value in written.items() if name != "name"} == defaults


def test_the_suites_are_those_of_the_simulation_whatever_is_changed_in_them():
    assert settings.SUITES == suites.SUITES
    assert [suites.base(suite) for suite in (*suites.SUITES, *suites.PERTURBED)] == [
        *suites.SUITES,
        *(suite for suite in suites.SUITES for _ in range(4)),
    ]


def test_the_suite_is_that_of_the_key_unless_it_is_set():
    assert Settings().suite_of("libero_goal_no_noops") == "libero_goal"
    assert Settings(suite="libero_10").suite_of("libero_goal_no_noops") == "libero_10"


def test_the_names_of_the_decoders_are_those_that_can_be_made():
    assert DECODERS == ("autoregressive", *factory.RECIPES)


def test_the_tree_is_the_released_one_unless_a_decoder_has_its_own():
    assert Settings().tree("spec_vla") == Settings().tree("kerv") == (50, 5, 8)
    own = Settings(drafter_nodes=20, kerv_tree=[6, 5, 1], heisd_tree=[0, 0, 2])
    assert own.tree("kerv") == (6, 5, 1) and own.tree("heisd") == (20, 5, 2) and own.tree("naive_sd") == (20, 5, 8)
