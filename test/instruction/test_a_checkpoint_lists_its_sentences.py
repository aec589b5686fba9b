# SPDX-License-Identifier: Apache-2.0
"""The sentences that a policy knows stand in its checkpoint; one that lists none, or a damaged list, has none."""

import pytest

from vla_sd_ros import instructions
from vla_sd_ros.instruction import normalized


@pytest.mark.parametrize(
    "one", ["pick up the milk and place it in the basket", "pick up the black bowl on the stove and place it on the plate"]
)
def test_the_shipped_policy_lists_its_own(one):
    known = instructions.of("libero")
    assert one in known and len(known) == len(set(known)) >= 10
    assert all(sentence == normalized(sentence) for sentence in known)


def test_a_folder_reads_back_what_was_written_each_sentence_once(tmp_path):
    instructions.write(tmp_path, ["open the drawer", "close it", "open the drawer"])
    assert instructions.of(str(tmp_path)) == ["open the drawer", "close it"]


@pytest.mark.parametrize("text", ["", "{", "{}", "5", "[" * 100_000, '[1, null, "x"]', b"\xff"])
def test_a_damaged_list_is_none(tmp_path, text):
    (tmp_path / instructions.NAME).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert instructions.of(str(tmp_path)) == (["x"] if "x" in str(text) and "null" in str(text) else [])


@pytest.mark.parametrize("checkpoint", ["", "openvla-7b", "./nowhere", "ws://127.0.0.1:8000", "\0/"])
def test_one_that_is_not_here_has_none(checkpoint):
    assert instructions.of(checkpoint) == []
