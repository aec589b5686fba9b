# SPDX-License-Identifier: Apache-2.0
"""benchmarks/on_gpu.sh runs its parts one after the other, each once, whatever becomes of another; here on a CPU, in miniature."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla_sd_ros.bench.price import read_actions
from vla_sd_ros.bench.results import Step, sequences

ROOT = Path(__file__).parents[2]


@pytest.fixture
def on_gpu(tmp_path):
    steps = [Step("draft", {}, [("prefill", 0, 0), ("extend", 5, 5)]), Step("skip", {}, [])]
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"decoders": {"kerv": {"sequences": sequences(steps), "tree": [6, 5, 1]}}}))

    def run(*parts: str, **changed: str) -> subprocess.CompletedProcess:
        environment = (
            os.environ
            | {
                "BIN": str(Path(sys.executable).parent),
                "DEVICE": "cpu",
                "CHECKPOINT": "random-tiny-openvla",
                "OUT": str(tmp_path / "out"),
                "TRACE": str(trace),
                "ACTIONS": "2",
                "REPEATS": "1",
                "OMP_NUM_THREADS": "1",
            }
            | changed
        )
        command = [ROOT / "benchmarks" / "on_gpu.sh", *parts]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

    return run


def test_a_part_is_run_once_and_one_that_fails_is_run_again(on_gpu, tmp_path):
    first = on_gpu("replay", "price", TRACE=str(tmp_path / "missing"))
    assert first.returncode == 1 and "replay: failed after" in first.stdout and "is not a trace" in first.stdout
    again = on_gpu("replay", "price")
    assert again.returncode == 0, again.stdout
    assert "price: done before" in again.stdout and "replay: done before" not in again.stdout
    floor = json.loads((tmp_path / "out" / "price.json").read_text())["floor"]
    assert floor["read_gb_per_s"] > 0 and floor["tflops"] > 0
    assert json.loads((tmp_path / "out" / "replay.json").read_text())["decoders"].keys() == {"kerv"}


def test_what_has_no_time_left_is_left_for_the_next_run(on_gpu, tmp_path):
    run = on_gpu("price", LIMIT="0")
    assert (
        run.returncode == 1 and "price: no time left, run it again" in run.stdout and not (tmp_path / "out" / "price.json").exists()
    )


def test_an_unknown_part_is_one_sentence(on_gpu):
    run = on_gpu("everything")
    assert run.returncode == 2 and run.stderr.startswith("there is no part 'everything': choose of graphs price replay")


def test_what_it_replays_is_there():
    (trace,) = re.findall(r"TRACE:-([^}]+)}", (ROOT / "benchmarks" / "on_gpu.sh").read_text())
    assert {"autoregressive", "spec_vla", "kerv", "heisd", "prefill_jacobi", "fused"} <= read_actions(ROOT / trace).keys()
