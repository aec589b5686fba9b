# SPDX-License-Identifier: Apache-2.0
"""However a sentence is written, it is the same to the policy and to the database; what it says is not touched."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros.instruction import normalized, objection

PLAIN = "put the bowl on the plate"


@pytest.mark.parametrize(
    "written",
    [
        "Put the bowl on the plate",
        "PUT THE BOWL ON THE PLATE",
        "put the bowl on the plate.",
        "put the bowl on the plate !",
        "put the bowl on the plate ...",
        "put the bowl on the plate…",
        "put the bowl on the plate。",
        "put the bowl on the plate！",
        "put the bowl on the plate؟",
        "put the bowl on the plate।",
        "put the bowl on the plate?",
        "put the bowl on the plate;",
        '"put the bowl on the plate"',
        "“Put the bowl on the plate.”",
        "'put the bowl on the plate'",
        "«put the bowl on the plate»",
        "„put the bowl on the plate“",
        "「put the bowl on the plate。」",
        "`put the bowl on the plate`",
        'put the "bowl" on the plate',
        "  put  the\tbowl\non the\u00a0plate\u3000",
        "put the bowl on the plate .",
        "\u201cPut the bowl\u201d on the plate.",
    ],
)
def test_it_is_the_plain_sentence(written):
    assert normalized(written) == PLAIN


@pytest.mark.parametrize(
    "written, same", [("the robot's cup", "the robot’s cup"), ("caf\u00e9", "cafe\u0301"), ("ÖFFNE DIE TÜR", "öffne die tür")]
)
def test_two_spellings_of_one_word_are_one(written, same):
    assert normalized(written) == normalized(same) != ""


def test_what_belongs_to_a_word_stays():
    assert normalized("The robot's cup, left of the 1.5 l bottle") == "the robot's cup, left of the 1.5 l bottle"
    assert normalized("क्‍ष and नी‌ल") == "क्‍ष and नी‌ल"  # joined, and kept apart, by ZWJ and ZWNJ


@pytest.mark.parametrize("nothing", ["", " \t\n", "...", '""', "。", " . “ ” ! "])
def test_where_nothing_is_said_nothing_is_left(nothing):
    assert normalized(nothing) == ""


@given(st.text())
def test_what_is_normalised_stays_as_it_is(text):
    once = normalized(text)
    assert normalized(once) == once


@pytest.mark.parametrize(
    "bad, words",
    [
        ("pick\u0000 up", "U\\+0000"),
        ("pick\x1b[2J up", "U\\+001B"),
        ("abc\u202egnirts", "U\\+202E"),
        ("\ud800", "U\\+D800"),
        ("", "is empty"),
        (" ... ", "is empty"),
    ],
)
def test_what_is_no_instruction_is_said(bad, words):
    assert regex.search(words, objection(bad))


@pytest.mark.parametrize(
    "good", [PLAIN, "put\tthe bowl\n", "नी‌ल कटोरा उठाओ।", "\ufeffpick up the cup", "お皿を取って。", "pick up the 👩‍🍳"]
)
def test_what_people_type_is_an_instruction(good):
    assert objection(good) == ""
