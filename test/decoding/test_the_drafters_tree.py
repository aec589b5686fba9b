# SPDX-License-Identifier: Apache-2.0
"""The drafter's tree is node for node the one that stands in golden/tree.json, begins behind the prompt, and of paths that are
accepted equally far the likeliest leaf's is taken."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_sd_ros import policy
from vla_sd_ros.decoding.acceptance import Relaxed
from vla_sd_ros.decoding.methods.spec_vla import RELEASED_TREE
from vla_sd_ros.decoding.speculative import accept
from vla_sd_ros.policy import engine
from vla_sd_ros.policy.draft import Draft
from vla_sd_ros.policy.drafter import Budget, Drafter, DrafterModel

GOLDEN = json.loads((Path(__file__).parent / "golden" / "tree.json").read_text())
INSTRUCTION = "pick up the milk"


@pytest.fixture(scope="module")
def drafts(tmp_path_factory):
    """Makes a drafter's first draft of an action, and tells the length of the prompt before it."""
    directory = tmp_path_factory.mktemp("checkpoint")
    policy.write_random(directory, seed=0)
    vla = policy.load(directory)
    vla.lm_head *= 200  # some tokens are likelier than others
    prompt = vla.observe(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8), INSTRUCTION)
    hidden = vla.prefill(prompt).prompt.clone()

    def draft(seed: int, root: int) -> tuple[Draft, int]:
        torch.manual_seed(seed)
        drafter = Drafter(DrafterModel(vla.config.text), vla)
        drafter.start(prompt.embeddings, hidden)
        return drafter.propose(root, 7, Budget(*RELEASED_TREE)), len(hidden)

    return draft


@pytest.mark.parametrize("case", GOLDEN["trees"])
def test_its_nodes(drafts, case):
    draft, _ = drafts(case["seed"], case["root"])
    assert draft.bins.tolist() == case["bins"] and draft.parents.tolist() == case["parents"]


def test_it_begins_at_the_prompts_length(drafts, monkeypatch):
    """Where the released code's first one begins at position 0."""
    case, given, forward = GOLDEN["trees"][0], [], engine.forward

    def spied(decoder, cache, x, start, positions=None, mask=None, shift=0):
        if positions is not None:
            given.append(positions.tolist())
            positions = positions - shift
        return forward(decoder, cache, x, start, positions, mask)

    monkeypatch.setattr(engine, "forward", spied)
    _, length = drafts(case["seed"], case["root"])
    assert given == [[length + level] * 8 for level in range(4)]
    monkeypatch.setattr(engine, "forward", lambda *arguments: spied(*arguments, shift=length))
    released, _ = drafts(case["seed"], case["root"])
    assert (released.bins.tolist(), released.parents.tolist()) != (case["bins"], case["parents"])


def test_of_equally_long_paths_the_likeliest_leaf_is_taken():
    """Nodes stand in the order of their probability, so that it is the first one; the released code takes the first
    one in level order."""
    draft = Draft(np.array([10, 12, 30, 31, 32]), np.array([-1, -1, 1, 0, 0]))  # node 2 is a leaf below node 1, the others below 0
    said = np.array([11, 31, 31, 0, 0, 0])  # after the root, then after each node
    assert accept(draft, said, 1, Relaxed(np.full(7, 10.0))) == [1, 2]
    assert accept(draft, said, 1, Relaxed(np.zeros(7))) == []
    said[2] = 200  # node 2 no longer stands
    assert accept(draft, said, 1, Relaxed(np.full(7, 10.0))) == [0, 3]
