# SPDX-License-Identifier: Apache-2.0
"""The drafter's tree is the one that its rule names, found by plain enumeration; its cache always equals a fresh start."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_sd_ros import policy
from vla_sd_ros.policy.draft import below, chain
from vla_sd_ros.policy.drafter import Budget, Drafter, DrafterModel

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
SLACK = 1e-4  # of a log probability


@pytest.fixture(scope="module")
def vla(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    policy.write_random(directory)
    vla = policy.load(directory)
    vla.lm_head *= 30  # some tokens are likelier than others
    return vla


@pytest.fixture(scope="module")
def observation(vla):
    """A prompt's embeddings and hidden states."""
    prompt = vla.observe(IMAGE, "pick up the milk")
    return prompt.embeddings.clone(), vla.prefill(prompt).prompt.clone()


def model_of(vla, seed=0) -> DrafterModel:
    torch.manual_seed(seed)
    return DrafterModel(vla.config.text)


def drafter_at(vla, observation, seed=0) -> Drafter:
    drafter = Drafter(model_of(vla, seed), vla)
    drafter.start(*observation)
    return drafter


budgets = st.builds(Budget, nodes=st.integers(1, 60), depth=st.integers(1, 5), top_k=st.integers(1, 8))


def paths(draft) -> list[tuple[int, ...]]:
    """The tokens from the root to each node."""
    found = []
    for token, parent in zip(draft.bins.tolist(), draft.parents.tolist()):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return found


class Enumeration:
    """Log probabilities of continuations, each from one whole pass of the training model: no cache, no tree, no mask."""

    def __init__(self, vla, observation, root, seed):
        self._vla, self._model = vla, model_of(vla, seed).eval()
        embeddings, hidden = observation
        self._embeddings = torch.cat((embeddings[1:], vla.action_embeddings[root : root + 1]))
        self._hidden = hidden

    @torch.no_grad()
    def after(self, path) -> np.ndarray:
        """Log probabilities (256,) of the token that follows a path below the root."""
        embeddings, hidden = self._embeddings, self._hidden
        state = self._model(embeddings[None], hidden[None])[0, -1:]
        for token in path:
            embeddings = torch.cat((embeddings, self._vla.action_embeddings[token : token + 1]))
            hidden = torch.cat((hidden, state))
            state = self._model(embeddings[None], hidden[None])[0, -1:]
        return F.log_softmax(state[0] @ self._vla.lm_head.T, -1).numpy()

    def candidates(self, depth, top_k, surely) -> dict[tuple[int, ...], float]:
        """Cumulative log probabilities of all nodes that the rule looks at; where rounding decides, surely: without it."""
        found, frontier = {}, {(): 0.0}
        for _ in range(depth):
            level = {}
            for path, score in frontier.items():
                children = {(*path, token): score + value for token, value in enumerate(self.after(path).tolist())}
                level |= best(children, top_k, surely)
            found |= level
            frontier = best(level, top_k, surely)
        return found


def best(scores: dict, count: int, surely: bool) -> dict:
    """The entries that are among the best: those that stay there under small errors, or those that may get there."""
    ranked = sorted(scores.values(), reverse=True) + [-np.inf] * (count + 1)
    least = ranked[count] + SLACK if surely else ranked[count - 1] - SLACK
    return {path: score for path, score in scores.items() if score >= least}


@given(budget=budgets, root=st.integers(0, 255), room=st.integers(1, 6), seed=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_the_kept_nodes_are_the_most_probable_of_all_candidates(vla, observation, budget, root, room, seed):
    assume(budget.nodes > 1)
    draft = drafter_at(vla, observation, seed).propose(root, room, budget)
    depth, enumeration = min(budget.depth, room), Enumeration(vla, observation, root, seed)
    possible = enumeration.candidates(depth, budget.top_k, surely=False)
    kept = paths(draft)
    assert len(set(kept)) == len(kept) == min(budget.nodes - 1, budget.top_k + (depth - 1) * budget.top_k**2)
    scores = [possible[path] for path in kept]  # a KeyError here: a node that the rule does not know
    assert all(first >= second - SLACK for first, second in zip(scores, scores[1:])), "not in the order of probability"
    certain = enumeration.candidates(depth, budget.top_k, surely=True)
    assert min(scores) >= max((score for path, score in certain.items() if path not in set(kept)), default=-np.inf) - SLACK


@given(budget=budgets, root=st.integers(0, 255), room=st.integers(0, 6), seed=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_tree_stays_within_its_budget_and_its_room(vla, observation, budget, root, room, seed):
    draft = drafter_at(vla, observation, seed).propose(root, room, budget)
    assert len(draft) < budget.nodes
    assert (draft.parents < np.arange(len(draft))).all()
    depths = draft.shape.depths
    assert depths.max(initial=-1) + 1 <= min(budget.depth, room)
    assert np.bincount(draft.parents + 1, minlength=1).max() <= budget.top_k
    for depth in set(depths):
        assert len({draft.parents[i] for i in np.flatnonzero(depths == depth)}) <= budget.top_k
    assert (len(draft) > 0) == (room > 0 and budget.nodes > 1)


def test_width_one_is_the_greedy_chain(vla, observation):
    draft = drafter_at(vla, observation).propose(7, 5, Budget(top_k=1))
    enumeration, path = Enumeration(vla, observation, 7, 0), []
    for _ in range(5):
        path.append(int(enumeration.after(path).argmax()))
    assert draft.shape.chain and draft.bins.tolist() == path


def test_a_smaller_budget_is_the_beginning_of_the_larger_tree(vla, observation):
    large = drafter_at(vla, observation).propose(7, 5, Budget(nodes=256))
    small = drafter_at(vla, observation).propose(7, 5, Budget(nodes=20))
    assert np.array_equal(small.bins, large.bins[:19]) and np.array_equal(small.parents, large.parents[:19])


def test_of_equally_probable_tokens_the_lowest_bins_come_first(vla, observation):
    flat = vla.lm_head.clone()
    try:
        vla.lm_head.zero_()
        draft = drafter_at(vla, observation).propose(7, 5, Budget(nodes=9, top_k=8))
    finally:
        vla.lm_head.copy_(flat)
    assert draft.bins.tolist() == list(range(8)) and (draft.parents == -1).all()


@given(kept=st.lists(st.integers(1, 3), min_size=1, max_size=3), data=st.data())
@settings(max_examples=12, deadline=None)
def test_following_the_verifier_equals_starting_with_all_it_has_committed(vla, kept, data):
    """Rounds of propose, verify, keep a random path: the next draft does not depend on how the tokens came."""
    prompt = vla.observe(IMAGE, "pick up the milk")
    out = vla.prefill(prompt)
    drafter = Drafter(model_of(vla), vla)
    drafter.start(prompt.embeddings, out.prompt)
    root, committed, states = data.draw(st.integers(0, 255)), [], out.prompt
    for count in kept:
        draft = drafter.propose(root, 5, Budget(nodes=20))
        whole = below(root, draft)
        out = vla.extend(whole)
        leaf = data.draw(st.integers(0, len(whole) - 1))
        path = np.flatnonzero(whole.shape.ancestry[leaf])[:count].tolist()
        vla.keep(path)
        drafter.follow(whole.bins[path], out.hidden[path])
        committed += whole.bins[path].tolist()
        states = torch.cat((states, out.hidden[path]))
        root = data.draw(st.integers(0, 255))
    again = Drafter(model_of(vla), vla)
    again.start(torch.cat((prompt.embeddings, vla.action_embeddings[committed])), states)
    small = Budget(nodes=17, top_k=4)
    assert set(paths(drafter.propose(root, 5, small))) == set(paths(again.propose(root, 5, small)))


def test_tokens_accepted_in_the_prefill_are_followed_without_a_draft_of_its_own(vla):
    prompt = vla.observe(IMAGE, "pick up the milk")
    out = vla.prefill(prompt, chain([3, 1, 4, 1]))
    drafter = Drafter(model_of(vla), vla)
    drafter.start(prompt.embeddings, out.prompt)
    drafter.follow(np.array([3, 1]), out.hidden[1:3])
    again = Drafter(model_of(vla), vla)
    again.start(torch.cat((prompt.embeddings, vla.action_embeddings[[3, 1]])), torch.cat((out.prompt, out.hidden[1:3])))
    assert set(paths(drafter.propose(5, 3, Budget(nodes=17)))) == set(paths(again.propose(5, 3, Budget(nodes=17))))


def test_a_new_observation_leaves_no_trace_of_the_one_before(vla, observation):
    drafter = drafter_at(vla, observation)
    expected = paths(drafter.propose(7, 5))
    drafter.start(observation[0].flip(0), observation[1].flip(0))
    assert paths(drafter.propose(7, 5)) != expected
    drafter.start(*observation)
    assert paths(drafter.propose(7, 5)) == expected


def test_calls_out_of_turn_are_refused(vla, observation):
    drafter = drafter_at(vla, observation)
    drafter.propose(7, 5)
    with pytest.raises(ValueError, match="must follow"):
        drafter.propose(8, 4)
    with pytest.raises(ValueError, match="bin 8.*below bin 7"):
        drafter.follow(np.array([8]), observation[1][:1])


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"nodes": 257}, {"depth": 0}, {"depth": 7}, {"top_k": 65}, {"top_k": 2.0}])
def test_a_budget_that_cannot_be_names_its_field(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number"):
        Budget(**wrong)
