# SPDX-License-Identifier: Apache-2.0
"""vla-sd calibrate finds what the observations were made with, and writes a file that a decoder's settings can be read from."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from vla_sd_ros import policy
from vla_sd_ros.assembly import Source
from vla_sd_ros.assembly.local import Model, load
from vla_sd_ros.bench import cost
from vla_sd_ros.bench.decode import replay
from vla_sd_ros.bench.drafts import survey_of
from vla_sd_ros.cli import main
from vla_sd_ros.decoding.parameter_file import read_settings
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.policy.drafter import FILE, DrafterModel
from vla_sd_ros.policy.model import DraftHead
from vla_sd_ros.retrieval import DatabaseUnavailable
from vla_sd_ros.training import calibrate, trees
from vla_sd_ros.training.threshold import likeliest


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def test_decays_are_those_of_the_actions(rng):
    truth = np.array([0.9, 0.7, 0.5, 0.3, 1.0, 0.0])
    before = np.column_stack((rng.normal(size=(4000, 6)), np.ones(4000)))
    after = before * np.append(truth, 1.0) + rng.normal(size=(4000, 7)) * 0.01
    assert calibrate.decays(before, after) == pytest.approx(truth, abs=0.05)


def test_first_steps_and_gripper_events_do_not_count():
    before = np.array([[np.nan] * 7, [0.5] * 6 + [1], [0.5] * 6 + [1]])
    after = np.array([[1.0] * 6 + [1], [0.25] * 6 + [1], [-9.0] * 6 + [-1]])
    assert calibrate.decays(before, after) == pytest.approx([0.5] * 6)


def test_the_skip_threshold_is_the_lowest_one_that_keeps_its_precision(rng):
    score = rng.uniform(0, 1, 5000)
    accepted = rng.uniform(0, 1, 5000) < np.where(score > 0.6, 0.97, 0.3)
    threshold = calibrate.skip_threshold(score, accepted, 0.9)
    assert accepted[score >= threshold].mean() >= 0.89
    assert 0.5 < threshold < 0.61
    assert calibrate.skip_threshold(score, np.zeros(5000, dtype=bool), 0.9) == 1.1


def test_the_boundary_parts_what_was_accepted_from_what_was_not(rng):
    values = np.concatenate([rng.uniform(0.0, 0.4, 500), rng.uniform(0.4, 1.0, 500), [np.nan] * 3])
    accepted = np.concatenate([np.zeros(500, dtype=bool), np.ones(500, dtype=bool), [True] * 3])
    assert calibrate.boundary(values, accepted) == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("exponent", [1.0, 4.0])
def test_k_s_and_phi_are_those_that_the_steps_were_made_with(rng, exponent):
    changes = rng.exponential(0.05, 20_000)
    harmless = rng.uniform(size=20_000) < np.exp(-((changes / 0.07) ** exponent))
    found = likeliest(changes, harmless)
    assert found.exponent == exponent and found.scale == pytest.approx(0.07, rel=0.35) and found.gain > 0.05
    assert found.harmless == pytest.approx(harmless.mean())


def test_a_change_that_tells_nothing_gains_nothing(rng):
    found = likeliest(rng.exponential(0.05, 5000), rng.uniform(size=5000) < 0.6)
    assert found.gain < 0 and "nats" in found.sentence()


def costs(per_position: float) -> cost.Costs:
    """A device on which each pass costs 1 ms and a bit for each position."""
    return cost.Costs(1.0, lambda n: 1.0, lambda n: 1 + per_position * n, 0.1, lambda n: 0.1)


def test_width_pays_where_positions_are_free_and_a_chain_where_they_are_not():
    plain = {"sequences": {"autoregressive: prefill 0 0" + ", extend 0 0" * 6: 1}}
    chain = {"draft: prefill 0 0, extend 5 1, extend 3 1, extend 1 1": 1}
    rows = {
        "autoregressive": plain,
        "naive_sd@naive_sd_tree=6+5+1": {"tree": [6, 5, 1], "sequences": chain},
        "naive_sd@naive_sd_tree=50+5+8": {"tree": [50, 5, 8], "sequences": {"draft: prefill 0 0, extend 49 3, extend 8 1": 1}},
    }
    shapes = trees.Shapes(rows, costs(0.0), 1)
    assert shapes.best("naive_sd", costs(0.0)) == "naive_sd@naive_sd_tree=50+5+8"
    assert shapes.best("naive_sd", costs(0.1)) == "naive_sd@naive_sd_tree=6+5+1"


def rows_of(decoder: str, path: str, *means: float) -> dict:
    """A row for each mean latency, all with the same passes, which the fewer nodes the cheaper are."""
    return {
        f"{decoder}@{decoder}_tree={nodes}+5+1": {
            "tree": [nodes, 5, 1],
            "sequences": {f"{path}: prefill 0 0, extend {nodes} 5": 1},
            "paths": {path: 1.0},
            "latency_ms": {"mean": mean},
        }
        for nodes, mean in enumerate(means, 3)
    }


def test_what_was_measured_is_chosen_by_and_what_was_expected_is_told():
    shapes = trees.Shapes(rows_of("spec_vla", "draft", 20.0, 19.0, 21.0) | rows_of("kerv", "draft", 9.0, 9.5), costs(0.1), 1)
    assert shapes.report()["best"] == {"spec_vla": "spec_vla@spec_vla_tree=4+5+1", "kerv": "kerv@kerv_tree=3+5+1"}
    assert shapes.report()["best_expected"]["spec_vla"] == "spec_vla@spec_vla_tree=3+5+1"
    assert shapes.settings() == {"spec_vla_tree": [4, 5, 1], "kerv_tree": [3, 5, 1], "heisd_tree": [4, 5, 1]}


@pytest.mark.parametrize(("path", "nodes"), [("draft", 5), ("skip", 4)])
def test_heisd_has_its_own_shape_if_it_drafted_at_all(path, nodes):
    rows = rows_of("spec_vla", "draft", 20.0, 19.0, 21.0) | rows_of("heisd", path, 8.0, 7.0, 6.0)
    assert trees.Shapes(rows, costs(0.1), 1).settings()["heisd_tree"] == [nodes, 5, 1]


def test_what_an_action_costs_is_the_sum_of_its_passes():
    device = cost.Costs(10.0, lambda n: 5 + n, lambda n: 1 + 0.1 * n, 2.0, lambda n: 0.3 * n, 0.5)
    passes = [("prefill", 0, 0), ("extend", 5, 3), ("extend", 1, 0), ("extend", 0, 0)]
    # read the prompt, four more levels of two; then what was accepted and one token, and no further level
    drafted = 10.5 + 5 + (2.0 + 4 * 0.6) + 1.6 + 4 * 0.3 + 1.2 + 1.1
    assert device.action("draft", passes, (50, 5, 2)) == pytest.approx(drafted)
    assert device.action("retrieval", passes) == pytest.approx(10.5 + 5 + 1.6 + 1.2 + 1.1)
    assert device.action("skip", []) == pytest.approx(10.5)
    assert device.action("ahead", []) == pytest.approx(0.5)  # without a look


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, rng):
    """A random policy with a drafter, and two episodes that it has seen."""
    folder = tmp_path_factory.mktemp("recorded")
    policy.write_random(folder / "policy")
    vla = policy.load(folder / "policy")
    torch.manual_seed(0)
    checkpoint.save_weights(folder / "policy" / FILE, DrafterModel(vla.config.text).state_dict())
    for episode in range(2):
        (folder / "seen").mkdir(exist_ok=True)
        np.savez(
            folder / "seen" / f"{episode}.npz",
            images=rng.integers(0, 256, (15, 32, 32, 3), np.uint8),
            bins=rng.integers(0, 256, (15, 7)),
            instruction="pick up the milk and place it in the basket",
            positions=rng.normal(size=(15, 3)).cumsum(0) * 0.01,
            rotations=np.broadcast_to(np.eye(3), (15, 3, 3)),
        )
    return folder


def test_the_file_is_read_back_as_settings(recorded, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trees, "SHAPES", trees.SHAPES[2:5])
    output, report = tmp_path / "decoder.yaml", tmp_path / "calibration.json"
    common = ["calibrate", "--checkpoint", str(recorded / "policy"), "--output", str(output), "--tree-steps", "4"]
    given = ["--set", "kalman_observe=measured"]
    assert main([*common, "--observations", str(recorded / "seen"), "--json", str(report), *given]) == 0
    settings = read_settings(str(output))  # raises for a value out of range
    assert settings["kalman_observe"] == "measured"
    assert {"kalman_decay", "composite", "metric_radius", "metric_length", "kerv_scale", "kerv_exponent"} <= settings.keys()
    written = json.loads(report.read_text())
    assert written["observations"] == 4 and len(written["decoders"]) == 1 + 3 * len(trees.SHAPES)
    assert written["decoders"][written["best"]["kerv"]]["tree"] == settings["kerv_tree"]
    assert written["decoders"]["autoregressive"]["expected_ms"] > 0
    for name in ("naive_sd", "spec_vla", "kerv", "heisd"):
        assert tuple(settings[f"{name}_tree"]) in trees.SHAPES
    assert settings["heisd_tree"] == settings["spec_vla_tree"]
    assert sum("<- the fastest" in line for line in capsys.readouterr().out.splitlines()) == 3
    assert main([*common, "--observations", str(tmp_path / "nothing")]) == 2
    assert "vla-sd bench libero --record" in capsys.readouterr().err
    assert main([*common, "--observations", str(recorded / "seen"), "--set", "kalman_sees=measured"]) == 2
    assert "unknown setting 'kalman_sees'" in capsys.readouterr().err


def test_few_observations_calibrate_what_they_tell(recorded, tmp_path):
    common = ["calibrate", "--checkpoint", str(recorded / "policy"), "--output", str(tmp_path / "few.yaml"), "--tree-steps", "0"]
    assert main([*common, "--observations", str(recorded / "seen"), "--most", "2"]) == 0
    assert "metric_radius" not in read_settings(str(tmp_path / "few.yaml"))


def test_of_several_statistics_one_is_named(recorded, tmp_path, capsys):
    folder = tmp_path / "policy"
    shutil.copytree(recorded / "policy", folder)
    statistics = json.loads((folder / "dataset_statistics.json").read_text())
    (folder / "dataset_statistics.json").write_text(json.dumps(statistics | {"second": statistics["random"]}))
    common = ["calibrate", "--checkpoint", str(folder), "--output", str(tmp_path / "d.yaml"), "--tree-steps", "0", "--most", "4"]
    common += ["--observations", str(recorded / "seen")]
    assert main(common) == 2
    assert "--unnorm-key" in capsys.readouterr().err
    assert main([*common, "--unnorm-key", "second"]) == 0
    assert main(["bench", "decode", "--checkpoint", str(folder), "--unnorm-key", "second", "--actions", "1", "--repeats", "1"]) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(path, images=np.zeros((4, 8, 8, 3), np.uint8), actions=np.zeros((4, 7)), instruction="go"),
    ],
)
def test_what_is_no_observation_is_one_sentence(recorded, tmp_path, capsys, spoil):
    shutil.copytree(recorded / "seen", tmp_path / "seen")
    spoil(tmp_path / "seen" / "1.npz")
    common = ["--checkpoint", str(recorded / "policy"), "--observations", str(tmp_path / "seen")]
    for command in (["calibrate", "--output", str(tmp_path / "d.yaml")], ["bench", "decode"], ["bench", "drafts"]):
        assert main([*command, *common]) == 2
        said = capsys.readouterr().err
        assert "1.npz is not what vla-sd bench libero --record writes, or damaged" in said and said.count("\n") == 1


def test_heisd_is_measured_where_there_is_a_database(recorded, monkeypatch):
    class Away:
        def query(self, *arguments):
            raise DatabaseUnavailable("the server does not answer")

    monkeypatch.setattr(trees, "SHAPES", ((6, 5, 1),))
    monkeypatch.setattr(cost, "measure", lambda *arguments: costs(0.1))
    model = replace(load(Source(str(recorded / "policy"))), database=Away())
    shapes = trees.measure(model, partial(replay, model.vla, recorded / "seen", 10), Settings(), 5)
    assert shapes.decoders == ["naive_sd", "spec_vla", "kerv", "heisd"] and len(shapes.of("heisd")) == 1
    assert "draft" in shapes.rows[shapes.best("heisd")]["paths"]  # so that it has its own


def test_what_the_filter_observes_is_what_its_decay_is_fitted_to(recorded):
    vla = policy.load(recorded / "policy")
    executed, measured = (
        calibrate.calibrate(Model(vla), partial(replay, vla, recorded / "seen", 20), Settings(kalman_observe=what)).settings
        for what in ("executed", "measured")
    )
    assert measured["kalman_decay"] != executed["kalman_decay"]


def test_without_a_drafter_there_is_nothing_to_fit_of_drafting(recorded):
    vla = policy.load(recorded / "policy")
    found = calibrate.calibrate(Model(vla), partial(replay, vla, recorded / "seen", 10))
    assert found.threshold is found.shapes is None and "kerv_scale" not in found.settings


def test_a_path_that_does_not_move_leaves_its_settings_alone(recorded, tmp_path):
    with np.load(recorded / "seen" / "0.npz") as file:
        np.savez(tmp_path / "still.npz", **dict(file) | {"positions": np.zeros((15, 3))})
    vla = policy.load(recorded / "policy")
    found = calibrate.calibrate(Model(vla), partial(replay, vla, tmp_path, 100)).settings
    assert "metric_length" not in found and "kalman_decay" in found


def test_whole_episodes_from_all_over_are_taken(recorded):
    vla = policy.load(recorded / "policy")
    steps = partial(replay, vla, recorded / "seen", 100)
    assert [len(history) for _, _, history in trees.spread(steps, 20)] in ([*range(15), *range(5)],)
    assert len(list(trees.spread(steps, 100))) == 30


def test_costs_are_measured_on_the_device(recorded):
    model = load(Source(str(recorded / "policy")))
    found = cost.measure(model.vla, model.drafter, np.zeros((32, 32, 3), np.uint8), "pick up the milk", repeats=3)
    assert found.vision > 0 and found.prefill(0) > 0 and found.extend(1) > 0 and found.read > 0 and found.draft(1) >= 0
    assert found.action("autoregressive", [("prefill", 0, 0)] + [("extend", 0, 0)] * 6) > found.vision


@pytest.fixture
def foretelling(recorded, monkeypatch):
    """The policy with a head that is sure, one step ahead, of what it is told in `says` (7,); and two episodes."""
    vla, says = policy.load(recorded / "policy"), np.array([9, 9, 9, 9, 9, 9, 0])
    vla.use_draft_head(DraftHead(vla.config.vision.width, vla.config.text.hidden_size, looks_ahead=True))
    vla.draft_ahead = lambda prompt, executed, by: np.eye(256)[says]
    return vla, says


def test_one_step_ahead_is_asked_only_where_fused_would_ask(foretelling, recorded, tmp_path):
    vla, says = foretelling
    with np.load(recorded / "seen" / "0.npz") as file:
        bins = file["bins"].copy()
        bins[:, 6] = 0
        bins[9, 6] = 255  # the gripper turns, and back
        for episode in range(2):
            np.savez(tmp_path / f"{episode}.npz", **dict(file) | {"bins": bins})
    found = survey_of(vla, replay(vla, tmp_path, 100))
    for by in (1, 2):
        asked = [step for step in range(15) if step > by and step not in (10, 11)]
        confidence = found.foretold_confidence[:, by - 1]
        assert np.flatnonzero(np.isfinite(confidence)).tolist() == asked + [15 + step for step in asked]
        assert (found.foretold[asked, by - 1] == says).all()


def test_the_confidence_one_step_ahead_is_that_of_the_precision(foretelling, recorded):
    vla, _ = foretelling
    found = survey_of(vla, replay(vla, recorded / "seen", 100))
    assert "ahead_confidence" not in calibrate.fit(replace(found, foretold_confidence=np.full((len(found.plain), 2), np.nan)))
    many = {name: np.concatenate([value] * 5) for name, value in vars(found).items() if isinstance(value, np.ndarray)}
    found = replace(found, **many, drafts={"last_action": many["plain"]})
    right = np.arange(len(found.plain)) % 3 > 0
    one = np.where(right[:, None], found.plain, found.plain + np.array([0, 0, 0, 0, 0, 0, 1]))  # only the gripper's is off
    sure = np.stack([np.linspace(0.0, 0.4, len(right)) + 0.5 * right, np.ones(len(right))], 1)
    sure[::10] = np.nan
    foretold = np.stack([one, one + 1], 1)  # what comes two steps ahead is always wrong, and sure
    found = replace(found, foretold=foretold, foretold_confidence=sure, foretold_radius=np.zeros_like(foretold))
    assert 0.3 < calibrate.fit(found, Settings(ahead_steps=1))["ahead_confidence"] < 0.5
    assert calibrate.fit(found, Settings(ahead_steps=2))["ahead_confidence"] == 1.1
    assert calibrate.fit(replace(found, foretold=foretold + 1), Settings(ahead_steps=1))["ahead_confidence"] == 1.1
