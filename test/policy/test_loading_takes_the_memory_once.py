# SPDX-License-Identifier: Apache-2.0
"""Loading takes the weights' size and one tensor more; of the host, for another device, only that one tensor."""
import json
import os
import subprocess
import sys

import pytest
import torch
from openvla_checkpoint import CONFIG, TEXT, random_tensors, shapes, write

LARGE = TEXT | {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12}
SLACK = 24e6    # allocator, headers, modules
# Measures in a process of its own, from the highest resident memory before to that during the load [bytes].
MEASURE = """
import json, sys, torch
from pathlib import Path
from vla_sd_ros.policy import weights
from vla_sd_ros.policy.config import read_config

def status(field):
    return 1024 * int(dict(line.split(":") for line in open("/proc/self/status"))[field].split()[0])

directory, kind = Path(sys.argv[1]), sys.argv[2]
config = read_config(directory / "config.json")
if kind == "elsewhere":     # as for another device: each tensor is copied, but not to this process's memory
    weights._assign = lambda model, name, value: value.sum()
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
open("/proc/self/clear_refs", "w").write("5")   # the peak starts again from here
before = status("VmRSS")
dtype = torch.float32 if kind == "float32" else None
model = weights.read(directory, config, torch.device(sys.argv[3]), dtype)
print(json.dumps({"peak": status("VmHWM") - before, "after": status("VmRSS") - before}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The directory, the size of all weights and that of the largest one [bytes], in bfloat16."""
    directory = tmp_path_factory.mktemp("openvla") / "large"
    tensors = random_tensors(shapes(LARGE), torch.bfloat16)
    write(directory, tensors, CONFIG | {"text_config": LARGE}, shards=2)
    sizes = [tensor.nbytes for tensor in tensors.values()]
    return directory, sum(sizes), max(sizes)


def measure(directory, kind: str, device: str = "cpu") -> dict:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(directory), kind, device], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_as_stored(large):
    directory, total, largest = large
    assert total > 90e6 and total > 3 * largest + SLACK     # or the bounds would prove nothing
    memory = measure(directory, "stored")
    assert total - SLACK < memory["after"] < total + SLACK
    assert memory["peak"] < total + 2 * largest + SLACK


def test_converted(large):
    directory, total, largest = large
    memory = measure(directory, "float32")
    assert memory["peak"] < 2 * total + 2 * largest + SLACK


def test_for_another_device(large):
    directory, total, largest = large
    assert measure(directory, "elsewhere")["peak"] < 2 * largest + SLACK


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_for_a_gpu(large):
    directory, total, largest = large
    context = measure(directory, "stored", "cuda")["peak"]
    assert context < 3e9
