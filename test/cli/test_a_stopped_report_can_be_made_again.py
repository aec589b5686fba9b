# SPDX-License-Identifier: Apache-2.0
"""SIGTERM while the report is written ends with 143, leaves no half file, and the goal's outcome is there already."""

import json
import signal
import subprocess
import sys

import pytest

SLOW = """
import signal, sys, time
from pathlib import Path
from vla_sd_ros import cli, demo
from vla_sd_ros.report import summary

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by us too

def write_video(episode, instruction, path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(30)

class Done:
    def __init__(self, *_): pass
    def run(self): return {"instruction": "pick up the milk", "success": True, "steps": 3, "elapsed": 1.0, "exit_code": 0}

summary.write_video, demo.Demo = write_video, Done
sys.argv = ["vla-sd", "demo", "--output-dir", "runs"]
sys.exit(cli.program())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_while_the_report_is_written(number, code, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while process.stdout.readline() != "writing\n":
        assert process.poll() is None, process.stderr.read()
    process.send_signal(number)
    said = process.communicate(timeout=10.0)[1]
    (run,) = (tmp_path / "runs").iterdir()
    assert process.returncode == code and "Traceback" not in said
    assert f"vla-sd report runs/{run.name} makes it" in said
    assert sorted(path.name for path in run.iterdir()) == ["logs", "summary.json"]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["success"] and summary["steps"] == 3 and "stopped before it was complete" in summary["missing"][0]
