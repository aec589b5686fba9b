# SPDX-License-Identifier: Apache-2.0
"""The prompt is OpenVLA's, and the word tokenizer keeps every known word apart."""

import pytest

from vla_sd_ros.policy.prompt import prompt_ids, prompt_text, word_tokenizer

SENTENCES = ["pick up the milk and place it in the basket", "turn on the stove"]


def test_the_text_is_openvlas():
    assert prompt_text(" Turn ON the stove ") == "In: What action should the robot take to turn on the stove?\nOut:"


def test_known_words_have_ids_of_their_own_and_unknown_ones_share_one():
    tokenizer = word_tokenizer(SENTENCES)
    ids = prompt_ids(tokenizer, "pick up the stove", None)
    assert len(ids) == 3 + 4 and len(set(ids)) == len(ids)
    strange = prompt_ids(tokenizer, "pick up the zeppelin", None)
    assert strange[-2] == tokenizer.token_to_id("<unk>") and strange[:-2] == ids[:-2]


def test_bos_comes_first_and_the_end_token_once():
    tokenizer = word_tokenizer(SENTENCES)
    ids = prompt_ids(tokenizer, "turn on the stove", 99)
    assert ids[0] == tokenizer.token_to_id("<s>") and ids[-1] == 99
    assert prompt_ids(tokenizer, "turn on the stove", ids[-2])[-1] == ids[-2] and len(ids) == 3 + 4 + 1


def test_upper_case_makes_no_difference():
    tokenizer = word_tokenizer(SENTENCES)
    assert prompt_ids(tokenizer, "TURN ON the Stove", None) == prompt_ids(tokenizer, "turn on the stove", None)


@pytest.mark.parametrize(
    "written", ['"Pick up the milk and place it in the basket."', "pick up  the milk and place it in the basket。"]
)
def test_however_it_is_written_the_policy_reads_the_same(written):
    tokenizer = word_tokenizer(SENTENCES)
    assert prompt_ids(tokenizer, written, None) == prompt_ids(tokenizer, SENTENCES[0], None)
