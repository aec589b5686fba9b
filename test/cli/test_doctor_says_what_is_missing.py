# SPDX-License-Identifier: Apache-2.0
"""`vla-sd doctor` prints one line for each part; what is missing comes with what to do, and the exit code says it."""

import argparse
import importlib.machinery
import os
import resource
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


def computer(monkeypatch, folder, kernel=True, priority=98, user=1000, cores=8, governors=("performance",)):
    """Let doctor.realtime see this, whatever this machine is."""
    files = {"/sys/kernel/realtime": folder / "realtime", "/sys/devices/system/cpu": folder / "cpu"}
    if kernel:
        files["/sys/kernel/realtime"].write_text("1")
    for number, governor in enumerate(governors):
        file = files["/sys/devices/system/cpu"] / f"cpu{number}" / "cpufreq" / "scaling_governor"
        file.parent.mkdir(parents=True)
        file.write_text(governor + "\n")
    monkeypatch.setattr(doctor, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    monkeypatch.setattr(doctor, "Path", lambda path: files[path])
    monkeypatch.setattr(doctor.os, "geteuid", lambda: user)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (priority, priority))


@pytest.mark.parametrize(
    "lacks, advice",
    [
        ({}, "fit for a Franka by pip"),
        ({"priority": 0, "user": 0}, "fit for a Franka by pip"),  # root needs no limit
        ({"governors": ()}, "fit for a Franka by pip"),  # a machine that tells none
        ({"kernel": False}, "not for a real Franka: the kernel is not PREEMPT_RT"),
        ({"priority": 20}, "not for a real Franka: the user's rtprio is 20: give 98 in /etc/security/limits.conf"),
        (
            {"governors": ("performance", "powersave")},
            "not for a real Franka: processors change their clock (performance, powersave): set the governor performance",
        ),
        ({"cores": 2}, "not for a real Franka: 2 cores: with fewer than 4 the model and the loop take each other's time"),
        (
            {"kernel": False, "cores": 1},
            "not for a real Franka: the kernel is not PREEMPT_RT; 1 cores: with fewer than 4 the model and the loop take each "
            "other's time",
        ),
    ],
)
def test_what_a_real_franka_needs_of_this_computer(monkeypatch, tmp_path, lacks, advice):
    computer(monkeypatch, tmp_path, **lacks)
    said = doctor.realtime()
    monkeypatch.undo()  # pytest's own paths, before anything else is looked at
    assert said == advice


def test_real_time_is_not_looked_at_without_the_library_of_a_franka(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert "not looked at: franky-control" in doctor.realtime()
