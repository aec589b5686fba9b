# SPDX-License-Identifier: Apache-2.0
"""A policy here, a seat at it beside another client's, and the same policy behind a server: one interface, the same actions."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from served import INSTRUCTION, SETTINGS, Local, images, served_here  # noqa: E402

from vla_sd_ros import policy  # noqa: E402
from vla_sd_ros.assembly import Address, Choice, open_brain, warm_up  # noqa: E402
from vla_sd_ros.assembly.local import LocalBrain  # noqa: E402


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    policy.write_random(folder, seed=4)
    return Local(folder, "prefill_relaxed", SETTINGS)


@pytest.fixture(params=["here", "served", "a seat at the server's"])
def brain(request, local):
    if request.param == "here":
        yield LocalBrain(local.model, local.choice)
        return
    with served_here(local, batch=1 + (request.param != "served")) as port:
        brain = open_brain(Address(f"ws://127.0.0.1:{port}", 30.0))
        yield brain
        brain.close()


def test_each_decides_as_the_decoder_alone(brain, local):
    warm_up(brain)
    assert brain.name == "prefill_relaxed" and brain.self_test()
    assert brain.too_long(INSTRUCTION) == "" and isinstance(brain.unknown_words(INSTRUCTION), list)
    for _ in range(2):  # two goals, each with its own record
        record, actions = brain.begin(), []
        for image in images(4):
            record.see(None)
            decision = brain.decide(image, INSTRUCTION, record)
            record.record(decision.bins)
            actions.append(decision.action)
        assert len(record) == 4
        np.testing.assert_allclose(actions, local.actions(images(4)), rtol=1e-12)


def test_what_a_server_decides_by_cannot_be_chosen_here(local):
    with served_here(local) as port:
        brain = open_brain(Address(f"ws://127.0.0.1:{port}", 30.0))
        for name in ("decoder.name", "policy.unnorm_key"):
            with pytest.raises(ValueError, match=f"parameter '{name}' has no effect with policy.remote"):
                brain.check(Choice("prefill"), {name})
        brain.close()
