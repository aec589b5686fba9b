# SPDX-License-Identifier: Apache-2.0
"""What a brain is to use from now on is accepted at once, made by the thread that decides, and never beside what it replaces."""

import threading
import time
import weakref

import numpy as np
import pytest

from vla_sd_ros import policy
from vla_sd_ros.assembly import Choice, Source, open_brain
from vla_sd_ros.assembly.local import Model
from vla_sd_ros.decoding.settings import Settings

IMAGE, INSTRUCTION = np.zeros((48, 40, 3), np.uint8), "pick up the milk"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    policy.write_random(folder, seed=4)
    return folder


@pytest.fixture
def brain(checkpoint):
    return open_brain(Source(checkpoint, threads=1))


def test_a_choice_is_taken_at_once_however_long_it_takes_to_make(brain, monkeypatch):
    made, make = [], Model.decoder

    def slowly(*arguments):
        made.append(threading.current_thread())
        time.sleep(1.0)
        return make(*arguments)

    monkeypatch.setattr(Model, "decoder", slowly)
    choice, begin = Choice("prefill_relaxed", Settings(relaxed_radius=200.0)), time.monotonic()
    brain.check(choice, {"decoder.name"})
    brain.use(choice)
    assert time.monotonic() - begin < 0.2 and brain.name == "prefill_relaxed"
    record = brain.begin()
    assert brain.decide(IMAGE, INSTRUCTION, record).threshold == 200.0
    assert made == [threading.current_thread()]


def test_the_decoder_before_is_gone_when_the_next_one_is_made(brain, monkeypatch):
    brain.decide(IMAGE, INSTRUCTION)
    before, make, left = weakref.ref(brain._decoder), Model.decoder, []
    monkeypatch.setattr(Model, "decoder", lambda *arguments: left.append(before()) or make(*arguments))
    brain.use(Choice("prefill"))
    assert brain.decide(IMAGE, INSTRUCTION).decoder == "prefill"
    assert left == [None]


def test_nothing_is_made_anew_where_nothing_has_changed(brain):
    brain.use(Choice("prefill"))
    brain.decide(IMAGE, INSTRUCTION)
    decoder = brain._decoder
    brain.use(Choice("prefill"))
    brain.decide(IMAGE, INSTRUCTION)
    assert brain._decoder is decoder


@pytest.mark.parametrize(
    "choice, sentence",
    [
        (Choice("kerv"), "needs a drafter: set policy.drafter"),
        (Choice("retrieval_only"), "needs a database: set policy.database"),
        (Choice("oracle"), "unknown decoder 'oracle': choose one of autoregressive"),
        (Choice(unnorm_key="bridge_orig"), "bridge_orig"),
    ],
)
def test_what_is_known_not_to_work_is_refused_at_once(brain, choice, sentence):
    with pytest.raises(ValueError, match=sentence):
        brain.check(choice, {"decoder.name"})
    assert brain.decide(IMAGE, INSTRUCTION).decoder == "autoregressive"


def test_statistics_in_other_units_are_refused(checkpoint):
    with pytest.raises(ValueError, match="must be in metres and radians of one control period"):
        open_brain(Source(checkpoint, threads=1, largest_step=(1e-9, 1e-9)))
