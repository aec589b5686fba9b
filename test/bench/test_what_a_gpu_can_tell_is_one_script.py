# SPDX-License-Identifier: Apache-2.0
"""benchmarks/on_gpu.sh runs its parts one after the other, each once, whatever becomes of another; here on a CPU, in miniature."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import demonstration_files
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the extra [data]")

from vla_sd_ros.bench.price import PROFILES, read_actions  # noqa: E402
from vla_sd_ros.bench.results import Step, sequences  # noqa: E402

ROOT = Path(__file__).parents[2]


STEPS = [Step("draft", {}, [("prefill", 0, 0), ("extend", 5, 5)]), Step("skip", {}, [])]
PARTS = "graphs", "price", "replay", "transformers", "batches", "adapt"  # int8, fp8 and int4 need torchao


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a trace, small recordings, and commands that need not be started anew for each part; see warm.py."""
    root = tmp_path_factory.mktemp("on_gpu")
    (root / "trace.json").write_text(json.dumps({"decoders": {"kerv": {"sequences": sequences(STEPS), "tree": [6, 5, 1]}}}))
    rng = np.random.default_rng(1)
    for i in range(4):
        actions = np.append(rng.uniform(-0.01, 0.01, (3, 6)), np.ones((3, 1)), axis=1)
        images = rng.integers(0, 255, (3, 16, 16, 3)).astype(np.uint8)
        demonstration_files.write(
            root / f"recordings/episode{i}.npz", i, images=images, actions=actions, instruction="pick up the milk"
        )
    command, environment = (
        [sys.executable, Path(__file__).with_name("warm.py"), root / "bin"],
        os.environ | {"OMP_NUM_THREADS": "1"},
    )
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as warm:
        assert warm.stdout.readline() == b"ready\n"
        yield root
        warm.stdin.close()


@pytest.fixture(scope="module")
def on_gpu(folder):
    def run(*parts: str, **changed: str) -> subprocess.CompletedProcess:
        environment = {
            "BIN": str(folder / "bin"),
            "DEVICE": "cpu",
            "CHECKPOINT": "random-tiny-openvla",
            "OUT": str(folder / "out"),
            "TRACE": str(folder / "trace.json"),
            "SOURCE": str(folder / "recordings"),
            "ACTIONS": "2",
            "REPEATS": "1",
        }
        command = [ROOT / "benchmarks" / "on_gpu.sh", *parts]
        return subprocess.run(command, env=os.environ | environment | changed, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture(scope="module")
def first(on_gpu, folder):
    """A run of all parts, of which one fails."""
    return on_gpu(*PARTS, TRACE=str(folder / "missing"))


def read(folder: Path, part: str) -> dict:
    return json.loads((folder / "out" / f"{part}.json").read_text())


def test_every_part_runs_whatever_becomes_of_another(first, folder):
    assert first.returncode == 1 and "replay: failed after" in first.stdout and "is not a trace" in first.stdout
    assert re.findall(r"^(\w+): \d+ s$", first.stdout, re.M) == [part for part in PARTS if part != "replay"], first.stdout
    floor = read(folder, "price")["floor"]
    assert floor["read_gb_per_s"] > 0 and floor["tflops"] > 0
    assert len(read(folder, "transformers")["transformers_ms"]) == 3
    assert read(folder, "batches")["batches"].keys() == {"1", "2", "4", "8"}
    assert "## Decoders" in (folder / "out" / "adapted" / "report.md").read_text()
    assert "passed" in (said := (folder / "out" / "graphs.log").read_text()) or "skipped" in said


def test_a_part_is_run_once_and_one_that_fails_is_run_again(first, on_gpu, folder):
    again = on_gpu(*PARTS)
    assert again.returncode == 0, again.stdout
    assert [part for part in PARTS if f"{part}: done before" not in again.stdout] == ["replay"]
    assert read(folder, "replay")["decoders"].keys() == {"kerv"}
    (there,) = read(folder, "projected")["projected"].values()  # by the floors of this machine, and what was measured here
    assert there["device"]["measured"] and there["decoders"].keys() == {"autoregressive", "kerv"}
    assert there["errors"].keys() == PROFILES.keys() - {"skip"} and all(row["measured_ms"] > 0 for row in there["errors"].values())


def test_what_has_no_time_left_is_left_for_the_next_run(on_gpu, tmp_path):
    run = on_gpu("price", LIMIT="0", OUT=str(tmp_path))
    assert run.returncode == 1 and "price: no time left, run it again" in run.stdout and not (tmp_path / "price.json").exists()


def test_an_unknown_part_is_one_sentence(on_gpu):
    run = on_gpu("everything")
    assert run.returncode == 2 and run.stderr.startswith("there is no part 'everything': choose of graphs price replay")


def test_what_it_replays_is_there():
    (trace,) = re.findall(r"TRACE:-([^}]+)}", (ROOT / "benchmarks" / "on_gpu.sh").read_text())
    assert {"autoregressive", "spec_vla", "kerv", "heisd", "prefill_jacobi", "fused"} <= read_actions(ROOT / trace).keys()
