# SPDX-License-Identifier: Apache-2.0
"""Loading takes the weights' size and one tensor more; of the host, for another device, only that one tensor."""

import json
import os
import subprocess
import sys

import pytest
import torch
from openvla_checkpoint import CONFIG, TEXT, random_tensors, shapes, write

LARGE = TEXT | {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 24}
SLACK = 24e6  # allocator, headers, modules
# In a process of its own: the highest resident memory during each load, beyond that before it [bytes].
MEASURE = """
import gc, json, sys, torch
from pathlib import Path
from vla_sd_ros.policy import weights
from vla_sd_ros.policy.config import read_config

def status(field):  # psutil has no peak that starts again
    return 1024 * int(dict(line.split(":") for line in open("/proc/self/status"))[field].split()[0])

def peak(device="cpu", dtype=None):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")   # the peak starts again from here
    before = status("VmRSS")
    model = weights.read(directory, config, torch.device(device), dtype)
    return status("VmHWM") - before

directory = Path(sys.argv[1])
config = read_config(directory / "config.json")
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
peaks = {"as stored": peak(), "in single precision": peak(dtype=torch.float32)}
if torch.cuda.is_available():
    peaks["for a GPU"] = peak("cuda")
weights._assign = lambda model, name, value: value.sum()    # another device takes the copies
peaks["elsewhere"] = peak()
print(json.dumps(peaks))
"""


@pytest.fixture(scope="module")
def sizes_and_peaks(tmp_path_factory) -> tuple[int, int, dict]:
    """Size of all weights and of the largest one in bfloat16, and the peaks of MEASURE, all in bytes."""
    directory = tmp_path_factory.mktemp("openvla") / "large"
    tensors = random_tensors(shapes(LARGE), torch.bfloat16)
    write(directory, tensors, CONFIG | {"text_config": LARGE}, shards=2)
    sizes = [tensor.nbytes for tensor in tensors.values()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is returned
    done = subprocess.run([sys.executable, "-c", MEASURE, str(directory)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return sum(sizes), max(sizes), json.loads(done.stdout)


def test_on_the_cpu_the_weights_and_one_tensor(sizes_and_peaks):
    total, largest, peaks = sizes_and_peaks
    assert total > 2 * largest + 2 * SLACK  # or the bounds would prove nothing
    assert total < peaks["as stored"] < total + largest + SLACK
    assert 2 * total < peaks["in single precision"] < 2 * total + 2 * largest + SLACK


def test_for_another_device_little_more_than_one_tensor(sizes_and_peaks):
    total, largest, peaks = sizes_and_peaks
    assert peaks["elsewhere"] < 2 * largest + SLACK
    assert peaks.get("for a GPU", 0) < 3e9  # its driver's own memory is the most of it
