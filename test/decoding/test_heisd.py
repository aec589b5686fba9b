# SPDX-License-Identifier: Apache-2.0
"""HeiSD chooses by the fused metric, skips by similarity for a few steps at most, and does without a database that fails."""

import numpy as np
import pytest

from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.history import History
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import Candidates
from vla_sd_ros.kinematics.pose import Pose
from vla_sd_ros.policy.actions import decode
from vla_sd_ros.retrieval import DatabaseUnavailable, Entries, Origin, TrajectoryDatabase

INSTRUCTION = "pick up the milk and place it in the basket"
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
STORED = np.array([[10, 20, 30, 40, 50, 60, 254], [11, 21, 31, 41, 51, 61, 254], [12, 22, 32, 42, 52, 62, 254]])


class NoDrafts:
    """A drafter that proposes nothing."""

    def session(self, nodes, depth, top_k, tokens):
        return Candidates(np.empty((0, 7), dtype=int))


def database(vla, bins=STORED) -> TrajectoryDatabase:
    """Entries whose features are this image's, the first one most of all."""
    features = vla.observe(IMAGE, INSTRUCTION).features.numpy()
    features = np.stack([features + 0.001 * i * np.abs(features).max() * np.eye(len(features))[i] for i in range(len(bins))])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    entries = Entries(
        features.astype(np.float32),
        vla.statistics.unnormalise(decode(bins)).astype(np.float32),
        np.zeros((len(bins), 3, 7), np.float32),
        np.zeros(len(bins), np.int32),
        np.arange(len(bins), dtype=np.int32),
    )
    return TrajectoryDatabase({INSTRUCTION: entries}, Origin("random", "0"), ["episode"])


def run(decoder, vla, steps: int, speed: float):
    """Decisions along a straight path at this speed [m a step]."""
    history, decisions = History(vla.statistics), []
    for step in range(steps):
        history.see(Pose(np.array([speed * step, 0.0, 0.0]), np.eye(3)))
        decisions.append(decoder.decide(IMAGE, INSTRUCTION, history))
        history.record(decisions[-1].bins)
    return decisions


FAST, SLOW = 0.04, 0.0
RULES = {"metric_boundary": 0.3, "metric_radius": [0.0, 0.5], "metric_length": [0.0, 0.3], "metric_alpha": 0.0}


def test_it_retrieves_where_the_arm_is_fast_and_drafts_where_it_is_slow(vla):
    settings = Settings(skip_run=0, **RULES)
    decoder = factory.make("heisd", vla, settings, NoDrafts(), database(vla))
    assert [d.path for d in run(decoder, vla, 8, FAST)][5:] == ["retrieval"] * 3
    decisions = run(decoder, vla, 8, SLOW)
    assert [d.path for d in decisions] == ["autoregressive"] * 3 + ["draft"] * 5
    assert decisions[-1].fused_metric == pytest.approx(0.0)


def test_similar_enough_steps_go_unverified_but_not_too_many_in_a_row(vla):
    settings = Settings(skip_similarity=0.99, skip_run=2, **RULES)
    decisions = run(factory.make("heisd", vla, settings, NoDrafts(), database(vla)), vla, 11, FAST)
    skipped = [d for d in decisions if d.path == "skip"]
    assert all(d.forward_passes == 0 and np.array_equal(d.bins, STORED[0]) for d in skipped)
    runs = "".join("s" if d.path == "skip" else "." for d in decisions)
    assert "ss" in runs and "sss" not in runs


def test_groups_are_recombined_across_retrievals(vla):
    """Position of one neighbour, rotation of another: only together they are what the verifier wants."""
    plain = factory.make("autoregressive", vla).decide(IMAGE, INSTRUCTION).bins
    bins = np.stack([np.append(plain[:3], (plain[3:] + 90) % 255), np.append((plain[:3] + 90) % 255, plain[3:])])
    lengths = [
        run(
            factory.make("heisd", vla, Settings(skip_run=0, retrieval_recombine=on, **RULES), NoDrafts(), database(vla, bins)),
            vla,
            8,
            FAST,
        )[-1].accepted_length
        for on in (True, False)
    ]
    assert Settings().retrieval_recombine and lengths[0] == 5 and lengths[1] < 5


def test_the_threshold_rises_when_the_verifier_rejects(vla):
    settings = Settings(skip_similarity=1.1, skip_adjustment=0.01, **RULES)
    decoder = factory.make("heisd", vla, settings, NoDrafts(), database(vla))
    gate = decoder._method._gate
    before = gate.threshold = 0.5
    gate._settings = Settings(skip_run=0, skip_adjustment=0.01)
    decisions = run(decoder, vla, 8, FAST)
    assert "retrieval" in [d.path for d in decisions] and gate.threshold > before


def test_what_the_verifier_agrees_with_is_taken_from_the_database(vla):
    plain = factory.make("autoregressive", vla).decide(IMAGE, INSTRUCTION).bins
    near = np.clip(plain + [9, -9, 9, 3, 3, 3, 0], 0, 254)
    settings = Settings(skip_run=0, sequence_largest=255, sequence_total=765, **RULES)
    decoder = factory.make("heisd", vla, settings, NoDrafts(), database(vla, near[None]))
    last = run(decoder, vla, 8, FAST)[-1]
    # as published, the prefill has decided the first token before anything is verified
    assert last.path == "retrieval" and last.bins[:6].tolist() == [plain[0], *near[1:6]] and last.accepted_length == 5


@pytest.mark.parametrize("name", ["heisd", "heisd_reference", "retrieval_only"])
def test_a_server_that_is_away_or_an_unknown_instruction_leaves_the_verifier_alone(vla, name):
    plain = factory.make("autoregressive", vla)

    class Away:
        def query(self, *arguments):
            raise DatabaseUnavailable("the server does not answer")

    for broken, instruction in ((Away(), INSTRUCTION), (database(vla), "fold the towel")):
        decoder = factory.make(name, vla, Settings(relaxed_radius=0.0, **RULES), NoDrafts(), broken)
        history = History(vla.statistics)
        for step in range(6):
            history.see(Pose(np.array([FAST * step, 0.0, 0.0]), np.eye(3)))
            decision = decoder.decide(IMAGE, instruction, history)
            assert np.array_equal(decision.bins, plain.decide(IMAGE, instruction).bins)
            history.record(decision.bins)


class Killed:
    """Answers three queries and no more."""

    def __init__(self, database):
        self._database, self._left = database, 3

    def query(self, *arguments):
        self._left -= 1
        if self._left < 0:
            raise DatabaseUnavailable("the server does not answer")
        return self._database.query(*arguments)


@pytest.mark.parametrize("name, path, killed", [("heisd", "retrieval", 6), ("retrieval_only", "skip", 3)])
def test_from_the_step_on_at_which_the_server_is_killed_the_verifier_is_left_alone(vla, name, path, killed):
    """heisd asks from its fourth step on."""
    plain = factory.make("autoregressive", vla).decide(IMAGE, INSTRUCTION).bins
    settings = Settings(skip_run=0, relaxed_radius=0.0, **RULES)
    decisions = run(factory.make(name, vla, settings, NoDrafts(), Killed(database(vla))), vla, 12, FAST)
    assert decisions[killed - 1].path == path and path not in [d.path for d in decisions[killed:]]
    assert all(np.array_equal(d.bins, plain) for d in decisions[killed:])


def test_without_measured_poses_it_drafts(vla):
    decoder = factory.make("heisd", vla, Settings(**RULES), NoDrafts(), database(vla))
    history = History(vla.statistics)
    for _ in range(6):
        history.see(None)
        decision = decoder.decide(IMAGE, INSTRUCTION, history)
        history.record(decision.bins)
    assert decision.path == "draft" and np.isnan(decision.fused_metric)


def test_the_released_schedule_verifies_every_third_step(vla):
    decoder = factory.make("heisd_reference", vla, Settings(**RULES), NoDrafts(), database(vla))
    paths = [d.path for d in run(decoder, vla, 14, FAST)]
    first = paths.index("skip")
    assert paths[first : first + 6] == ["skip", "skip", "retrieval"] * 2


def test_a_missing_part_is_one_sentence(vla):
    with pytest.raises(ValueError, match="decoder 'heisd' needs a drafter: set policy.drafter"):
        factory.make("heisd", vla, database=database(vla))
    with pytest.raises(ValueError, match="decoder 'retrieval_only' needs a database: set policy.database"):
        factory.make("retrieval_only", vla)
    with pytest.raises(ValueError, match="unknown decoder 'oracle': choose one of autoregressive, naive_sd"):
        factory.make("oracle", vla)
