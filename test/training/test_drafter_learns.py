# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train-drafter` learns what a policy will say, resumes, and measures on held-out episodes what decoding will do."""

import csv
import shutil

import numpy as np
import pytest
import torch
from policies import SENTENCES, ask, write_episodes, write_policy

from vla_sd_ros import policy
from vla_sd_ros.cli import main
from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy.draft import chain
from vla_sd_ros.policy.drafter import Budget, Drafter, DrafterModel, load_drafter
from vla_sd_ros.training import answers
from vla_sd_ros.training.answers import Ends
from vla_sd_ros.training.train_drafter import batch, drafter_losses, verifications


def command(root, *more: str) -> int:
    return main(
        [
            "train-drafter",
            "--checkpoint",
            str(root / "policy"),
            "--demonstrations",
            str(root / "demonstrations"),
            "--processes",
            "1",
            "--batch-size",
            "16",
            "--warm-up",
            "10",
            "--held-out",
            "3",
            "--noise",
            "0.05",
            "--evaluate",
            "16",
            *more,
        ]
    )


def rows(path) -> list[list[float]]:
    with path.open() as file:
        return [[float(value) for value in row] for row in csv.reader(file)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    write_policy(root / "policy")
    write_episodes(root / "demonstrations")
    assert command(root, "--steps", "200", "--learning-rate", "3e-3") == 0
    return root


@pytest.fixture(scope="module")
def vla(trained):
    return policy.load(trained / "policy")


def images_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (6, 32, 32, 3), np.uint8)


@pytest.fixture
def decoded(vla, tmp_path):
    """From a seed of images and a sentence to rows of shards: what the policy says to them."""

    def rows(seed=1, sentence=SENTENCES[0]):
        return [
            (shard, i)
            for shard in ask(vla, images_of(seed), sentence, tmp_path / f"asked{seed}")
            for i in range(len(shard["bins"]))
        ]

    return rows


def verified(vla, drafter, row) -> list[int]:
    shard, i = row
    (embeddings,) = Ends.of(vla).embeddings([row])
    return verifications(drafter, embeddings, shard["hidden"][i].float(), shard["bins"][i].numpy(), Budget())


def mean_length(vla, drafter, rows) -> float:
    return np.mean(np.concatenate([verified(vla, drafter, row) for row in rows]))


def test_the_loss_falls_and_longer_drafts_are_accepted_on_new_images(trained, vla, decoded):
    losses = [row[2] for row in rows(trained / "policy/answers/drafter_log.csv")]
    assert losses[-1] < 0.7 * losses[0]
    torch.manual_seed(0)
    untrained, new = Drafter(DrafterModel(vla.config.text), vla), decoded()
    before, after = mean_length(vla, untrained, new), mean_length(vla, load_drafter(trained / "policy", vla), new)
    assert after > before + 1, (before, after)


def test_the_measure_of_held_out_episodes_is_written(trained):
    ((step, length, passes),) = rows(trained / "policy/answers/drafter_held_out.csv")
    assert step == 200 and 1 <= length <= 6 and 2 <= passes <= 7


def test_what_is_measured_offline_is_what_exact_decoding_does(trained, vla, decoded):
    """The decoder with the real verifier: the same tokens as one by one, in as many passes as foretold."""
    decoder = factory.make("naive_sd", vla, Settings(drafter_depth=Budget().depth), load_drafter(trained / "policy", vla))
    drafter = load_drafter(trained / "policy", vla)
    for image, (shard, i) in zip(images_of(seed=2), decoded(2, SENTENCES[1]), strict=True):
        decision = decoder.decide(image, SENTENCES[1])
        assert np.array_equal(decision.bins, shard["bins"][i])
        assert [record.accepted + 1 for record in decision.passes[1:]] == verified(vla, drafter, (shard, i))


def test_a_second_run_goes_on_and_asks_nothing_again(trained):
    work = trained / "policy/answers"
    asked = {path: path.stat().st_mtime_ns for path in (*work.glob("*-*.safetensors"), *work.glob("*.npz"))}
    assert len(asked) == 12
    assert command(trained, "--steps", "250") == 0
    assert asked == {path: path.stat().st_mtime_ns for path in (*work.glob("*-*.safetensors"), *work.glob("*.npz"))}
    assert [row[0] for row in rows(work / "drafter_log.csv")] == [50, 100, 150, 200, 250]


def test_another_policy_in_the_same_place_makes_it_begin_anew(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "copy")
    write_policy(tmp_path / "copy/policy", seed=1)
    assert command(tmp_path / "copy", "--steps", "50") == 0
    assert "policy, or how it is asked, has changed" in capsys.readouterr().out
    assert [row[0] for row in rows(tmp_path / "copy/policy/answers/drafter_log.csv")] == [50]
    decoder = factory.make("autoregressive", policy.load(tmp_path / "copy/policy"))
    with np.load(tmp_path / "copy/demonstrations/episode0000.npz") as episode:
        expected = [decoder.decide(image, SENTENCES[0]).bins for image in episode["images"]]
    episodes = answers.answered(tmp_path / "copy/policy/answers")
    saved = [np.concatenate([shard["bins"] for shard in answers.each(answers.shards_of([e]), ["bins"])]) for e in episodes]
    assert any(np.array_equal(bins, expected) for bins in saved)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (["--checkpoint", "nowhere"], "'nowhere' was not found"),
        (["--demonstrations", "nowhere"], "the source nowhere does not exist"),
        (["--held-out", "1"], "leave none to learn from"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(tmp_path, capsys, change, sentence):
    write_policy(tmp_path / "policy")
    write_episodes(tmp_path / "demonstrations", count=2, steps=1)
    assert command(tmp_path, *change) == 2
    assert sentence in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_the_losses_read_the_six_states_after_the_prompt_and_no_padding(vla, decoded):
    _, hidden, lengths = batch(Ends.of(vla), decoded(3)[:3] + decoded(4, SENTENCES[1])[:3])
    assert len(set(lengths.tolist())) == 2
    predicted = torch.full_like(hidden[:, 1:], float("nan"))
    for row, length in enumerate(lengths):
        predicted[row, length - 1 : length + 5] = hidden[row, length : length + 6]
    losses = drafter_losses(predicted, hidden, lengths, vla.lm_head, 0.1)
    assert losses["hidden"] == 0 and losses["agreement"] == 1 and losses["tokens"].abs() < 1e-5
    worse = drafter_losses(predicted + 0.1, hidden, lengths, vla.lm_head, 0.1)
    assert worse["hidden"].item() == pytest.approx(0.5 * 0.1**2, rel=1e-3) and worse["tokens"] > 1e-3
    assert worse["loss"].item() == pytest.approx((worse["hidden"] + 0.1 * worse["tokens"]).item())


def test_a_batch_holds_what_the_verifier_computed(vla, decoded):
    """Embeddings and hidden states of one prefill over the image and the tokens, with rows that do not see each other."""
    asked = decoded(3)[:2] + decoded(4, SENTENCES[1])[:2]
    for image, sentence, row in ((images_of(3)[1], SENTENCES[0], asked[1]), (images_of(4)[1], SENTENCES[1], asked[3])):
        prompt, bins = vla.observe(image, sentence), row[0]["bins"][row[1]].numpy()
        out = vla.prefill(prompt, chain(bins[:6]))
        (embeddings,), hidden = Ends.of(vla).embeddings([row]), row[0]["hidden"][row[1]].float()
        assert torch.allclose(embeddings, torch.cat((prompt.embeddings, vla.action_embeddings[bins[:6]])), atol=1e-2)
        assert torch.allclose(hidden, torch.cat((out.prompt, out.hidden[1:])), atol=1e-2)
    embeddings, hidden, lengths = batch(Ends.of(vla), asked)
    model = DrafterModel(vla.config.text).eval()
    with torch.no_grad():
        together = model(embeddings[:, 1:], hidden[:, :-1])
        for row, length in enumerate(lengths.tolist()):
            count = length + 6
            alone = model(embeddings[row : row + 1, 1:count], hidden[row : row + 1, : count - 1])[0]
            assert torch.allclose(together[row, : count - 1], alone, atol=1e-5)
