# SPDX-License-Identifier: Apache-2.0
"""Prompts become the ids that OpenVLA was trained on, and its action ids become the right actions and back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from openvla_checkpoint import GOLDEN, Q01, Q99, llama2_tokenizer
from tokenizers import Tokenizer

from vla_sd_ros.policy.actions import choose_statistics, decode, encode, parse_statistics
from vla_sd_ros.policy.config import openvla_config
from vla_sd_ros.policy.prompt import check_llama2, prompt_ids, read_tokenizer, word_tokenizer

REAL = os.environ.get("VLA_SD_OPENVLA_DIR", "")


@pytest.fixture(params=["pieces", "real"])
def tokenizer(request, tmp_path) -> Tokenizer:
    """Of the pieces that the prompts need, and the published one where there is a checkpoint."""
    if request.param == "real" and not REAL:
        pytest.skip("VLA_SD_OPENVLA_DIR names no checkpoint")
    if request.param == "pieces":
        llama2_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return read_tokenizer((Path(REAL) if request.param == "real" else tmp_path) / "tokenizer.json")


@pytest.mark.parametrize("instruction", GOLDEN)
def test_golden_ids(tokenizer, instruction):
    assert prompt_ids(tokenizer, instruction, openvla_config().prompt_end_id) == GOLDEN[instruction]
    assert prompt_ids(tokenizer, instruction.upper(), 29871) == GOLDEN[instruction]


def test_a_padding_or_a_limit_in_the_file_changes_nothing(tmp_path):
    tokenizer = llama2_tokenizer()
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    instruction, ids = next(iter(GOLDEN.items()))
    assert prompt_ids(read_tokenizer(tmp_path / "tokenizer.json"), instruction, 29871) == ids


def test_another_tokenizer_is_noticed(tokenizer):
    check_llama2(tokenizer, 29871)
    with pytest.raises(ValueError, match="not Llama-2's"):
        check_llama2(word_tokenizer(["put it there"]), 29871)


def test_every_action_id_decodes_as_openvla_does_it():
    end = openvla_config().action_end
    assert end == 32000
    centres = (np.linspace(-1, 1, 256)[:-1] + np.linspace(-1, 1, 256)[1:]) / 2
    for token in range(31744, 32000):
        expected = centres[np.clip(32000 - token - 1, 0, 254)]
        assert decode(np.array([end - 1 - token]))[0] == pytest.approx(expected, abs=1e-15)
    assert decode(np.array([end - 1 - 31872]))[0] == pytest.approx(0, abs=1e-15)


def test_every_value_encodes_as_openvla_does_it():
    values = np.concatenate((np.linspace(-1.2, 1.2, 4801), np.linspace(-1, 1, 256)))
    expected = 32000 - np.digitize(np.clip(values, -1, 1), np.linspace(-1, 1, 256))
    assert np.array_equal(32000 - 1 - encode(values), expected)
    assert expected.min() == 31744 and expected.max() == 31999


def entry(**action) -> dict:
    return {"action": {"q01": Q01, "q99": Q99} | action, "num_transitions": 3}


def test_unnormalising_with_each_key_and_each_mask():
    statistics = parse_statistics(
        {"bridge_orig": entry(mask=[True] * 6 + [False]), "no_mask": entry(), "roll_raw": entry(mask=[True] * 3 + [False] * 4)}
    )
    low, high, a = np.array(Q01), np.array(Q99), decode(np.array([0, 254, 127, 3, 99, 200, 255]))
    scaled = 0.5 * (a + 1) * (high - low) + low
    assert np.allclose(statistics["bridge_orig"].unnormalise(a), [*scaled[:6], a[6]])
    assert np.allclose(statistics["no_mask"].unnormalise(a), scaled)
    assert np.allclose(statistics["roll_raw"].unnormalise(a), [*scaled[:3], *a[3:]])


def test_unnormalising_with_every_key_of_a_real_checkpoint():
    if not REAL:
        pytest.skip("VLA_SD_OPENVLA_DIR names no checkpoint")
    entries = json.loads((Path(REAL) / "config.json").read_text())["norm_stats"]
    for key, statistics in parse_statistics(entries).items():
        edges = statistics.unnormalise(np.array([[-1.0] * 7, [1.0] * 7]))
        assert np.allclose(edges[:, :6], [statistics.q01[:6], statistics.q99[:6]]), key


def test_keys_of_libero_are_found_by_their_plain_names_and_others_are_listed():
    statistics = parse_statistics({"libero_goal_no_noops": entry(), "bridge_orig": entry()})
    assert choose_statistics(statistics, "libero_goal") == "libero_goal_no_noops"
    assert choose_statistics(statistics, "bridge_orig") == "bridge_orig"
    for wrong in ("", "libero_10", "bridge"):
        with pytest.raises(ValueError, match="bridge_orig, libero_goal_no_noops"):
            choose_statistics(statistics, wrong)
    assert choose_statistics({"only": statistics["bridge_orig"]}, "") == "only"


@pytest.mark.parametrize(
    "action, sentence",
    [
        ({"q01": Q01[:6]}, "seven numbers"),
        ({"q99": [float("nan")] * 7}, "not finite"),
        ({"q01": None}, "'mine'"),
        ({"mask": [True] * 6}, "seven numbers"),
        ({"q01": "abcdefg"}, "'mine'"),
    ],
)
def test_damaged_statistics_name_their_key(action, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        parse_statistics({"mine": entry(**action)})
    assert "'mine'" in str(error.value)
