# SPDX-License-Identifier: Apache-2.0
"""policy.adapted gives vla_node decoder, settings and key of a bundle; on a real arm no policy of the simulator is configured."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the extra [data]")
sys.path.insert(0, str(Path(__file__).parents[1] / "adapt"))

from adapting import adapt, write_openvla, write_recordings  # noqa: E402

from vla_sd_ros.assembly.bundle import read  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small OpenVLA checkpoint, and a bundle for it that names another decoder than a node's own."""
    root = tmp_path_factory.mktemp("made")
    write_openvla(root / "openvla")
    write_recordings(root / "recordings", count=4)
    assert adapt(root / "openvla", root / "recordings", root / "adapted") == 0
    path = root / "adapted" / "decoder.yaml"
    path.write_text(re.sub(r"name: \w+", "name: prefill", path.read_text()))
    return root


@pytest.fixture
def configured():
    """From parameters to a vla_node after configure, and what it logged as errors."""
    import rclpy
    from processes import Domain
    from rclpy.context import Context
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    from vla_sd_ros.nodes.vla_node import VlaNode

    made, domain = [], Domain()

    def start(**parameters):
        context, said = Context(), []
        rclpy.init(context=context, domain_id=domain.id, signal_handler_options=SignalHandlerOptions.NO)
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        node = VlaNode(context=context, namespace="/vla", parameter_overrides=given)
        made.append((node, context))
        logger = node.get_logger()
        node.get_logger = lambda: type(
            "Log", (), {"error": lambda self, text: said.append(text), "__getattr__": lambda self, name: getattr(logger, name)}
        )()
        node.trigger_configure()
        return node, said

    yield start
    for node, context in made:
        node.on_shutdown(None)
        node.destroy_node()
        context.try_shutdown()
    domain.release()


def test_the_bundle_is_taken_whole(made, configured):
    node, said = configured(
        **{
            "policy.checkpoint": str(made / "openvla"),
            "policy.adapted": str(made / "adapted"),
            "policy.real_arm": True,
            "decoder.name": "kerv",
        }
    )
    assert (node.state, said) == ("inactive", [])
    choice = read(made / "adapted").choice
    assert node.get_parameter("decoder.name").value == node.brain.name == choice.decoder
    assert list(node.get_parameter("decoder.metric_length").value) == choice.settings.metric_length
    assert node.get_parameter("policy.unnorm_key").value == "bridge_orig"
    from rclpy.parameter import Parameter

    assert node.set_parameters([Parameter("decoder.name", value="heisd")])[0].successful  # it has drafter and database
    assert node.brain.name == "heisd"


@pytest.mark.parametrize(
    "parameters, sentence",
    [
        (
            {"policy.checkpoint": "libero"},
            "checkpoint 'libero' is a policy of the simulator, which a real arm must not follow: give the policy that was trained "
            "for this arm with policy.checkpoint",
        ),
        ({"policy.checkpoint": "random-tiny-openvla"}, "is random weights, which a real arm must not follow"),
        ({"policy.checkpoint": ""}, "no policy is named: give the one that was trained for this arm"),
        (
            {"policy.checkpoint": "libero", "policy.real_arm": False, "policy.adapted": "{made}/adapted"},
            "was made for the checkpoint openvla",
        ),
        ({"policy.checkpoint": "libero", "policy.adapted": "{made}/nothing"}, "there is no bundle in"),
        ({"policy.remote": "ws://127.0.0.1:1", "policy.adapted": "{made}/adapted"}, "leave it or policy.remote empty"),
    ],
)
def test_what_a_real_arm_must_not_follow_is_refused_in_one_sentence(made, configured, parameters, sentence):
    given = {name: value.format(made=made) if isinstance(value, str) else value for name, value in parameters.items()}
    node, said = configured(**{"policy.real_arm": True} | given)
    assert node.state == "unconfigured"
    assert len(said) == 1 and sentence in said[0] and "\n" not in said[0]


def test_statistics_in_robosuites_units_are_refused(made, configured, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(made / "openvla", tmp_path / "libero")
    action = {"q01": [-0.9375] * 6 + [0.0], "q99": [0.9375] * 6 + [1.0], "mask": [True] * 6 + [False]}
    (folder / "dataset_statistics.json").write_text(json.dumps({"libero_spatial": {"action": action}}))
    node, said = configured(**{"policy.checkpoint": str(folder), "policy.real_arm": True})
    assert node.state == "unconfigured"
    assert "'libero_spatial' hold steps of 0.938 m in x, more than 0.25 m: they must be in metres" in said[0]
