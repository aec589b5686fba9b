# SPDX-License-Identifier: Apache-2.0
"""`vla-sd train-head` teaches a policy's draft head what the policy itself will say."""

import shutil

import numpy as np
import pytest
from policies import SENTENCES, write_episodes, write_policy

from vla_sd_ros import policy
from vla_sd_ros.cli import main
from vla_sd_ros.decoding import factory
from vla_sd_ros.policy.checkpoint import DRAFT_HEAD, draft_head


def command(root, *more: str) -> int:
    return main(
        [
            "train-head",
            "--checkpoint",
            str(root / "policy"),
            "--demonstrations",
            str(root / "demonstrations"),
            "--batch-size",
            "16",
            "--held-out",
            "3",
            "--steps",
            "300",
            "--learning-rate",
            "3e-3",
            *more,
        ]
    )


def right(vla, images) -> float:
    """Share of the verifier's tokens that the head finds most probable."""
    decoder = factory.make("autoregressive", vla)
    drafts = [vla.draft(vla.observe(image, SENTENCES[1])).argmax(-1) for image in images]
    return float(np.mean([draft == decoder.decide(image, SENTENCES[1]).bins for draft, image in zip(drafts, images)]))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("head")
    write_policy(root / "policy")
    write_episodes(root / "demonstrations")
    return root


@pytest.mark.parametrize("without_a_head", [False, True])
def test_the_head_learns_what_the_verifier_says_to_new_images(root, without_a_head, tmp_path, capsys):
    shutil.copytree(root / "policy", tmp_path / "policy")
    (tmp_path / "demonstrations").symlink_to(root / "demonstrations")
    images = np.random.default_rng(9).integers(0, 255, (8, 32, 32, 3), np.uint8)
    assert right(policy.load(tmp_path / "policy"), images) < 0.2
    if without_a_head:
        (tmp_path / "policy" / DRAFT_HEAD).unlink()
    assert command(tmp_path) == 0
    assert right(policy.load(tmp_path / "policy"), images) > 0.5
    assert "held out: loss" in capsys.readouterr().out


def test_too_few_episodes_are_one_sentence(root, capsys):
    assert command(root, "--held-out", "1") == 2
    assert "leave none to learn from" in capsys.readouterr().err


@pytest.fixture(scope="module")
def circle(tmp_path_factory):
    """Episodes in which each of four images is always followed by the same one: what comes next can be known."""
    root = tmp_path_factory.mktemp("circle")
    write_policy(root / "policy")
    (root / "demonstrations").mkdir()
    rng = np.random.default_rng(5)
    images = rng.integers(0, 255, (4, 32, 32, 3), np.uint8)
    for i in range(6):
        actions = np.append(rng.uniform(-0.01, 0.01, (12, 6)), np.ones((12, 1)), axis=1)
        np.savez(
            root / "demonstrations" / f"episode{i:04d}.npz",
            images=images[(np.arange(12) + i) % 4],
            actions=actions,
            instruction=SENTENCES[1],
            success=True,
        )
    return root, images


def test_it_learns_what_the_verifier_says_to_the_next_image(circle, tmp_path, capsys):
    root, images = circle
    assert command(root, "--output", str(tmp_path)) == 0 and "; 2 ahead: loss" in capsys.readouterr().out
    vla = policy.load(root / "policy")
    vla.use_draft_head(draft_head(tmp_path, vla.config))
    said = [factory.make("autoregressive", vla).decide(image, SENTENCES[1]).bins for image in images]
    for i, image in enumerate(images):
        for by in (1, 2):
            before = np.stack([said[(i + by - 2) % 4], said[(i + by - 1) % 4]])
            ahead = vla.draft_ahead(vla.observe(image, SENTENCES[1]), before, by).argmax(-1)
            assert (ahead == said[(i + by) % 4]).mean() > 0.8, f"{by} after image {i}"
        assert (vla.draft(vla.observe(image, SENTENCES[1])).argmax(-1) == said[i]).mean() > 0.8


def test_images_that_do_not_follow_each_other_teach_nothing_of_the_next_step(circle, tmp_path, capsys):
    root, _ = circle
    assert command(root, "--output", str(tmp_path), "--every", "2", "--steps", "20") == 0
    assert "ahead" not in capsys.readouterr().out
    assert not draft_head(tmp_path, policy.load(root / "policy").config).looks_ahead
