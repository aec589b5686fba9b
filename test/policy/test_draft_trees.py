# SPDX-License-Identifier: Apache-2.0
"""One pass over a draft tree gives each node what a pass over its own path alone would, and dropped nodes leave no trace."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_sd_ros import policy
from vla_sd_ros.policy.draft import EMPTY, Draft, below, chain, merge

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def vla(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    policy.write_random(directory)
    return policy.load(directory)


@st.composite
def drafts(draw, most=12):
    count = draw(st.integers(1, most))
    parents = [draw(st.integers(-1, node - 1)) for node in range(count)]
    return Draft(np.array(draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))), np.array(parents))


def path_to(draft: Draft, node: int) -> list[int]:
    path = []
    while node >= 0:
        path, node = [node, *path], int(draft.parents[node])
    return path


def alone(vla, prompt, committed: list[int], bins) -> np.ndarray:
    """Logits after the last of these tokens, by one plain pass over everything."""
    return vla.prefill(prompt, chain([*committed, *bins])).logits[-1].numpy()


@given(draft=drafts())
@settings(max_examples=60, deadline=None)
def test_a_tree_in_the_prefill_equals_its_paths_alone(vla, draft):
    prompt = vla.observe(IMAGE, "pick up the milk")
    together = vla.prefill(prompt, draft).logits.numpy()
    assert np.allclose(together[0], vla.prefill(prompt).logits[0].numpy(), atol=1e-5)
    for node in range(len(draft)):
        expected = alone(vla, prompt, [], draft.bins[path_to(draft, node)])
        assert np.allclose(together[node + 1], expected, atol=1e-5)


@given(first=drafts(8), second=drafts(8), data=st.data())
@settings(max_examples=60, deadline=None)
def test_after_keeping_any_path_nothing_else_is_seen(vla, first, second, data):
    prompt = vla.observe(IMAGE, "pick up the milk")
    vla.prefill(prompt, first)
    kept = path_to(first, data.draw(st.integers(-1, len(first) - 1)))
    vla.keep(kept)
    together = vla.extend(second).logits.numpy()
    for node in range(len(second)):
        expected = alone(vla, prompt, first.bins[kept].tolist(), second.bins[path_to(second, node)])
        vla.prefill(prompt, first), vla.keep(kept)  # alone() has used the cache
        assert np.allclose(together[node], expected, atol=1e-5)


@given(chains=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=6))
def test_merging_loses_no_path_and_repeats_no_beginning(chains):
    tree = merge(np.array(chains))
    paths = [tree.bins[row].tolist() for row in tree.shape.paths]
    assert sorted(paths) == sorted(map(list, {tuple(path) for path in chains}))
    assert len(tree) == len({tuple(path[: n + 1]) for path in chains for n in range(4)})
    assert paths[0] == chains[0]


def test_below_hangs_a_draft_under_a_known_token():
    draft = below(7, merge(np.array([[1, 2], [1, 3]])))
    assert draft.bins.tolist() == [7, 1, 2, 3] and draft.parents.tolist() == [-1, 0, 1, 1]
    assert below(7, EMPTY).bins.tolist() == [7]


def test_a_parent_behind_its_child_is_refused():
    with pytest.raises(ValueError, match="must come before"):
        _ = Draft(np.array([1, 2]), np.array([1, -1])).shape


def test_logits_that_are_not_finite_are_an_error(vla):
    out = vla.prefill(vla.observe(IMAGE, "pick up the milk"))
    broken = policy.vla.Pass(torch.full_like(out.logits, float("nan")), out.hidden)
    with pytest.raises(ValueError, match="not finite"):
        broken.greedy()
