# SPDX-License-Identifier: Apache-2.0
"""`vla-sd doctor` prints one line for each part; what is missing comes with what to do, and the exit code says it."""

import argparse
import os
import subprocess
import sys

import pytest

from vla_sd_ros import doctor


def test_a_line_for_each_part_and_for_rendering_the_packages_to_install():
    pytest.importorskip("mujoco", reason="the simulator is not installed: pip install '.[sim]'")
    environment = os.environ | {"MUJOCO_GL": "glfw", "DISPLAY": ""}  # needs a display
    done = subprocess.run([sys.executable, "-m", "vla_sd_ros.cli", "doctor"], capture_output=True, text=True, env=environment)
    lines = {line.split()[1].rstrip(":"): line for line in done.stdout.splitlines()}
    assert list(lines) == list(doctor.CHECKS)
    assert lines["python"].startswith("ok") and lines["ros"].startswith("ok") and lines["messages"].startswith("ok")
    assert lines["rendering"].startswith("FAIL") and "MUJOCO_GL=glfw" in lines["rendering"]
    assert "apt-get install libegl1" in lines["rendering"]
    assert done.returncode == 1


def test_the_exit_code_is_0_when_every_check_is_ok(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"python": doctor.python})
    assert doctor.run(argparse.Namespace(checkpoint="")) == 0
    assert capsys.readouterr().out.startswith("ok    python: 3.")


def test_a_platform_of_mujoco_that_does_not_exist_is_named_with_those_that_do(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "vla_sd_ros.sim", raising=False)  # which reads the variable when it is imported
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert doctor.report("rendering", doctor.rendering) is False
    said = capsys.readouterr().out
    assert said.startswith("FAIL  rendering: MUJOCO_GL is 'nonsense', but must be one of egl") and len(said.splitlines()) == 1


def test_an_error_in_a_check_is_one_line_and_not_a_crash(capsys):
    def broken():
        raise OSError("libEGL.so.1: cannot open shared object file")

    assert doctor.report("rendering", broken) is False
    assert capsys.readouterr().out == "FAIL  rendering: OSError: libEGL.so.1: cannot open shared object file\n"
