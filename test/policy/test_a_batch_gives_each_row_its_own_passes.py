# SPDX-License-Identifier: Apache-2.0
"""Rows of a batch, of any prompts, drafts and committed lengths, get what the policy gives each of them alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_sd_ros import policy
from vla_sd_ros.policy.batch import BatchedVla
from vla_sd_ros.policy.draft import EMPTY, Draft, below, chain

INSTRUCTIONS = ["pick up the milk", "put the bowl on the plate", "open the middle drawer of the cabinet and close it again"]
TREE = Draft(np.array([3, 200, 7, 90, 12]), np.array([-1, 0, 0, -1, 3]))
DRAFTS = [EMPTY, chain([5]), chain([250, 0, 128, 9, 77, 31]), TREE]
PATHS = [[], [0], [0, 1], [0, 2]]  # of each draft, what is kept; the last one has to move


@pytest.fixture(scope="module")
def vla():
    return policy.load("random-tiny-openvla", dtype="float32", threads=1)


@pytest.fixture(scope="module")
def batch(vla):
    return BatchedVla(vla, 4)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def alone(vla, seed: int, instruction: int, first: int, second: int) -> list:
    out = [vla.prefill(vla.observe(image(seed), INSTRUCTIONS[instruction]), DRAFTS[first])]
    vla.keep(PATHS[first])
    out.append(vla.extend(below(1, DRAFTS[second])))
    vla.keep([0])
    return [*out, vla.extend(chain([44]))]


def together(batch, rows, cases) -> list[list]:
    prompts = batch.observe([image(seed) for seed, *_ in cases], [INSTRUCTIONS[i] for _, i, *_ in cases])
    passes = [batch.prefill(rows, prompts, [DRAFTS[first] for *_, first, _ in cases])]
    for row, (*_, first, _) in zip(rows, cases):
        batch.keep(row, PATHS[first])
    passes.append(batch.extend(rows, [below(1, DRAFTS[second]) for *_, second in cases]))
    for row in rows:
        batch.keep(row, [0])
    passes.append(batch.extend(rows, [chain([44])] * len(rows)))
    return list(zip(*passes))


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_each_row_agrees_with_the_policy_alone(vla, batch, data):
    case = st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 3), st.integers(0, 3))
    rows = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
    cases = [data.draw(case) for _ in rows]
    for found, one in zip(together(batch, rows, cases), cases):
        for ours, expected in zip(found, alone(vla, *one), strict=True):
            torch.testing.assert_close(ours.logits, expected.logits, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(ours.hidden, expected.hidden, rtol=1e-4, atol=1e-4)
            assert ours.greedy().tolist() == expected.greedy().tolist()
            assert type(ours) is type(expected)


def test_observations_of_a_batch_are_those_of_single_images(vla, batch):
    prompts = batch.observe([image(1), image(2)[:32]], INSTRUCTIONS[:2])
    singles = vla.observe(image(1), INSTRUCTIONS[0]), vla.observe(image(2)[:32], INSTRUCTIONS[1])
    for prompt, single in zip(prompts, singles, strict=True):
        for name in ("embeddings", "features", "cells", "text"):
            torch.testing.assert_close(getattr(prompt, name), getattr(single, name), rtol=1e-5, atol=1e-5)


def test_rows_that_do_not_take_part_keep_their_place(vla, batch):
    cases = [(1, 0, 0, 0), (2, 1, 0, 0)]
    prompts = batch.observe([image(1), image(2)], INSTRUCTIONS[:2])
    batch.prefill([0, 1], prompts)
    batch.extend([1], [chain([9])])
    batch.keep(1, [0])
    (ours,) = batch.extend([0], [chain([1])])
    torch.testing.assert_close(ours.logits, alone(vla, *cases[0])[1].logits, rtol=1e-4, atol=1e-4)


def test_what_a_damaged_pass_left_in_the_cache_does_not_spread(vla, batch):
    batch._cache.keys.fill_(torch.nan)
    batch._cache.values.fill_(torch.nan)
    cases = [(1, 0, 1, 2), (2, 2, 3, 3)]
    for found, one in zip(together(batch, [2, 0], cases), cases):
        for ours, expected in zip(found, alone(vla, *one), strict=True):
            torch.testing.assert_close(ours.logits, expected.logits, rtol=1e-4, atol=1e-4)
