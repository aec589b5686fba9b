# SPDX-License-Identifier: Apache-2.0
"""A query sees the entries of its own instruction only; an unknown instruction finds nothing, which is no error."""

import numpy as np
import pytest
from trajectories import SENTENCES


@pytest.mark.parametrize("own, other", [SENTENCES, SENTENCES[::-1]])
def test_neighbours_are_of_the_same_instruction(database, own, other):
    asked = database.partitions[other].features[0]  # the most similar entry of all is in the other partition
    found = database.query(asked, own, 100)
    assert len(found) == len(database.partitions[own])
    assert set(found.episodes) == set(database.partitions[own].episodes)
    assert found.similarity.max() < 0.999


def test_an_unknown_instruction_finds_nothing(database):
    found = database.query(np.ones(12), "make coffee", 5)
    assert len(found) == 0
    assert found.actions.shape == (0, 7) and found.upcoming.shape == (0, 3, 7) and found.similarity.shape == (0,)


@pytest.mark.parametrize("written", ["Pick up the milk.", "  pick  up the MILK "])
def test_case_spacing_and_a_full_stop_make_no_difference(database, written):
    features = np.arange(12) + 1.0
    np.testing.assert_array_equal(
        database.query(features, written, 5).similarity, database.query(features, SENTENCES[0], 5).similarity
    )
