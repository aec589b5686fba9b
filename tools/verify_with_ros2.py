# SPDX-License-Identifier: Apache-2.0
"""Runs the real `ros2` command line against the launch files and writes what it said into docs/verified-with-ros2.md.

    python3 tools/verify_with_ros2.py [--checkpoint DIRECTORY] [--launch sim franka widowx] [--patience 5]

Each launch file has its part of the document; the parts of those that were not asked for stay as they are, and so does a
part whose launch file did not come up.

Needs a sourced ROS installation with launch and ros2cli, and this package. Long outputs are cut in the middle, where
it says so; nothing else is edited but the machine's own paths. Exit code 1 when a command did not do what it should.
"""

import argparse
import contextlib
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vla_sd_ros.demo import free_domain

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "verified-with-ros2.md"
ACTION = "vla_sd_msgs/action/ExecuteInstruction"
GOAL = f"ros2 action send_goal --feedback /vla/execute_instruction {ACTION}"
LEAST_MOTION = 0.005  # m, between the poses before and after an instruction
HEAD, TAIL = 36, 12  # lines that are kept of a long output
MARK = "\n<!-- {} -->\n"  # begins the part of one launch file

# heading, then (command, what its output must contain, seconds it may take before it is interrupted)
SIM = [
    (
        "Interfaces",
        [
            (f"ros2 interface show {ACTION}", "string instruction", 20),
            ("ros2 interface show vla_sd_msgs/srv/ResetScene", "int32 initial_state", 20),
        ],
    ),
    (
        "Lifecycle",
        [
            ("ros2 lifecycle nodes", "/vla/vla_node", 20),
            ("ros2 lifecycle get /vla/vla_node", "unconfigured", 20),
            (f'{GOAL} "{{instruction: pick up the milk}}"', "error_code: 1015", 20),
            ("ros2 lifecycle set /vla/vla_node configure", "Transitioning successful", 60),
            ("ros2 lifecycle set /vla/vla_node activate", "Transitioning successful", 20),
            ("ros2 lifecycle set /vla/arm_node configure", "Transitioning successful", 20),
            ("ros2 lifecycle set /vla/arm_node activate", "Transitioning successful", 20),
            ("ros2 lifecycle get /vla/arm_node", "active", 20),
        ],
    ),
    (
        "Nodes and topics",
        [
            ("ros2 node list", "/vla/sim_node", 20),
            ("ros2 node info /vla/sim_node", "/vla/sim_node/reset: vla_sd_msgs/srv/ResetScene", 20),
            ("ros2 topic hz --window 300 /vla/joint_states", "average rate", 8),
            ("ros2 topic hz /vla/image", "average rate", 8),
            ("ros2 topic echo --once /vla/camera_info", "frame_id: camera_optical_frame", 20),
            (
                "ros2 topic echo --once --qos-durability transient_local --qos-reliability reliable /vla/arm_node/status",
                "code: 1",
                20,
            ),
        ],
    ),
    (
        "Parameters",
        [
            ("ros2 param describe /vla/arm_node limits.linear_velocity", "Max value: 2.0", 20),
            ("ros2 param get /vla/arm_node limits.linear_velocity", "0.6", 20),
            ("ros2 param set /vla/arm_node limits.linear_velocity 0.5", "Set parameter successful", 20),
            ("ros2 param set /vla/arm_node limits.linear_velocity 9.0", "failed", 20),
            ("ros2 param describe /vla/vla_node decoder.name", "Description", 20),
            ("ros2 param set /vla/vla_node decoder.name autoregressive", "Set parameter successful", 20),
            ("ros2 param set /vla/vla_node decoder.name fastest", "failed", 20),
            ("ros2 param set /vla/vla_node policy.device cuda", "failed", 20),
        ],
    ),
    (
        "An instruction",
        [
            ("ros2 action info /vla/execute_instruction", "Action servers: 1", 20),
            (
                f'{GOAL} "{{instruction: pick up the alphabet soup and place it in the basket, time_limit: 30.0}}"',
                "Goal finished with status",
                60,
            ),
            (f"{GOAL} \"{{instruction: ''}}\"", "error_code: 1015", 20),
            ('ros2 service call /vla/sim_node/reset vla_sd_msgs/srv/ResetScene "{task: 3, initial_state: 41}"', "success=True", 60),
        ],
    ),
    (
        "The end",
        [
            ("ros2 lifecycle set /vla/vla_node deactivate", "Transitioning successful", 20),
            ("ros2 lifecycle get /vla/vla_node", "inactive", 20),
        ],
    ),
]


def arm(description: str, joint_states: str, listeners: int) -> list:
    """The session of a real arm's launch file with its simulated driver, on topics outside of the namespace.

    listeners: to the description; arm_node, and its gripper where it needs the fingers' limits.
    """
    where = "ros2 topic echo --once --qos-reliability reliable /vla/measured_pose geometry_msgs/msg/PoseStamped"
    return [
        (
            "Nodes and topics",
            [
                ("ros2 node list", "sim_arm_node", 60),
                ("ros2 lifecycle get /vla/arm_node", "active", 60),
                ("ros2 lifecycle get /vla/vla_node", "active", 60),
                (f"ros2 topic info {joint_states}", "Publisher count: 1", 60),
                (f"ros2 topic info {description}", f"Subscription count: {listeners}", 60),
            ],
        ),
        (
            "Parameters",
            [
                ("ros2 param get /vla/arm_node arm.interface", "String value is", 60),
                ("ros2 param set /vla/arm_node arm.interface servo_pose", "read-only", 60),
                ("ros2 param set /vla/arm_node limits.linear_velocity 0.2", "Set parameter successful", 60),
                ("ros2 param set /vla/arm_node limits.linear_velocity 9.0", "failed", 60),
                ("ros2 param dump /vla/arm_node", "linear_velocity: 0.2", 60),
            ],
        ),
        (
            "An instruction, and the pose of the end effector before and after",
            [
                (where, "position:", 60),
                (f'{GOAL} "{{instruction: pick up the cube, step_limit: 15}}"', "termination_reason: step_limit", 240),
                (where, "position:", 60),
            ],
        ),
        (
            "The end",
            [
                ("ros2 lifecycle set /vla/arm_node deactivate", "Transitioning successful", 60),
                ("ros2 lifecycle get /vla/arm_node", "inactive", 60),
            ],
        ),
    ]


# With more patience than 1: a machine that is busy with something else is late, and the arm shall not hold for that here.
BUSY = (
    "This machine was busy",
    [
        (f"ros2 param set /vla/{parameter}", "Set parameter successful", 60)
        for parameter in (
            "arm_node command_timeout 5.0",
            "arm_node joint_state_timeout 2.0",
            "arm_node follow.timeout 10.0",
            "vla_node joint_states.timeout 5.0",
            "vla_node image.timeout 10.0",
            "vla_node arm_status.grace 20.0",
        )
    ],
)

LAUNCHES = {
    # launch file: its arguments, what it prints when it is ready, the commands
    "sim": ("autostart:=false", "simulating", SIM),
    "franka": ("driver:=sim", "vla_node is active", arm("/robot_description", "/franka/joint_states", 1)),
    "widowx": ("driver:=sim", "vla_node is active", arm("/wx250s/robot_description", "/wx250s/joint_states", 2)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="policy; default: that of the parameter file")
    parser.add_argument("--launch", nargs="+", choices=LAUNCHES, default=list(LAUNCHES), help="launch files to run")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of all time limits, for a busy machine")
    arguments = parser.parse_args()
    # A shell starts background jobs with Ctrl-C ignored, and so would everything that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    failures, parts = [], kept()
    for name in arguments.launch:
        try:
            parts[name] = Session(name, arguments.checkpoint, arguments.patience, failures).run()
        except TimeoutError as error:
            failures.append(f"{name}.launch.py: {error}")
    DOCUMENT.write_text(
        preface(bool(arguments.checkpoint))
        + "".join(f"{MARK.format(name)}# {name}.launch.py\n\n{parts[name]}" for name in LAUNCHES if name in parts)
    )
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    print(f"{DOCUMENT.name}: {len(failures)} failures")
    return 1 if failures else 0


def kept() -> dict[str, str]:
    """The parts of the document as it is, by launch file."""
    text = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    pieces = re.split(r"\n<!-- (\w+) -->\n# [^\n]*\n\n", text)
    return dict(zip(pieces[1::2], pieces[2::2]))


class Session:
    """One launch file with its commands: its part of the document, and what did not do what it should."""

    def __init__(self, name: str, checkpoint: str | None, patience: float, failures: list[str]):
        options, self.ready, self.commands = LAUNCHES[name]
        policy = f" checkpoint:={checkpoint}" if checkpoint else ""
        self.launch = f"ros2 launch vla_sd_ros {name}.launch.py {options}{policy}"
        self.patience, self.failures = patience, failures

    def run(self) -> str:
        """Start it, run the commands, press Ctrl-C. TimeoutError when it does not come up."""
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "launch.log")
            with log.open("wb") as output:
                process = subprocess.Popen(self.launch.split(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                wait_for(log, self.ready, 400 * self.patience)
                wait_for_daemon(self.patience)
                parts = [*([BUSY] if self.patience > 1 else []), *self.commands]
                sections = [self.section(*part) for part in parts]
            finally:
                ended = self.interrupt(process, log)
                run("ros2 daemon stop", 20 * self.patience)
            sections.append(
                f"## What ros2 launch printed\n\nCtrl-C (SIGINT) at the end; {ended}.\n\n"
                + fenced(f"$ {self.launch}\n{trim(log.read_text(errors='replace'), 45, 15)}")
            )
        return "\n".join(sections)

    def section(self, heading: str, commands: list) -> str:
        blocks, places = [], []
        for command, expected, limit in commands:
            said = run(command, limit * self.patience)
            if expected not in said:
                self.failures.append(f"{command}: {expected!r} is not in\n{said}")
            blocks.append(f"$ {command}\n{trim(said)}")
            places += [place] if (place := position(said)) else []
        text = f"## {heading}\n\n" + fenced("\n\n".join(blocks))
        if len(places) < 2:
            return text
        way = math.dist(places[0], places[-1])
        if way < LEAST_MOTION:
            self.failures.append(f"the end effector moved only {1000 * way:.1f} mm")
        return f"{text}\nThe end effector is {1000 * way:.0f} mm from where it was.\n"

    def interrupt(self, process: subprocess.Popen, log: Path) -> str:
        """Ctrl-C, and how it ended in words. What outlives it is a failure, and is killed."""
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(60 * self.patience)
        except subprocess.TimeoutExpired:
            code = None
        said = log.read_text(errors="replace")
        if "escalating" in said:
            self.failures.append(f"{self.launch}: a node did not end after Ctrl-C until it was told more firmly")
        pids = [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", said)]
        left = [pid for pid in [process.pid, *pids] if code is None or Path(f"/proc/{pid}").exists()]
        ended = f"its exit code was {code}, and {len(left) or 'none'} of its processes was left"
        if code or left:
            self.failures.append(f"{self.launch}: {ended}")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return ended


def position(said: str) -> tuple[float, ...] | None:
    """x, y, z of the first position in the output of `ros2 topic echo`; None where there is none."""
    found = re.search(r"position:\s+x: (\S+)\s+y: (\S+)\s+z: (\S+)", said)
    return tuple(map(float, found.groups())) if found else None


def run(command: str, patience: float) -> str:
    """Output of a shell command; interrupted as by Ctrl-C when it takes longer than `patience` [s]."""
    process = subprocess.Popen(
        command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    for number, grace in ((signal.SIGINT, patience), (signal.SIGKILL, 30)):
        try:
            return process.communicate(timeout=grace)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
    return process.communicate()[0]


def wait_for(log: Path, text: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while text not in log.read_text(errors="replace"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{text!r} was not printed within {patience} s:\n{log.read_text(errors='replace')}")
        time.sleep(0.2)


def wait_for_daemon(patience: float, attempts: int = 10) -> None:
    """The daemon of ros2cli sees little right after it has started."""
    for _ in range(attempts):
        if re.search("unconfigured|active", run("ros2 lifecycle get /vla/vla_node", 20 * patience)):
            return
        time.sleep(1)


def trim(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """Without the machine's paths and colours; the middle of a long text cut out."""
    text = re.sub(r"\x1b\[[0-9;]*m|\r", "", text)
    names = "vla|diagnostics|rosout|parameter_events|clock|franka|wx250s|camera|franka_gripper"
    text = re.sub(rf"(?<![\w/.~])/(?!{names})(?:[\w.+-]+/)+[\w.+-]+", "<path>", text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if len(lines) > head + tail + 1:
        lines[head:-tail] = [f"[... {len(lines) - head - tail} lines ...]"]
    return "\n".join(line if len(line) <= 240 else f"{line[:240]} ..." for line in lines)


def fenced(text: str) -> str:
    return f"```text\n{text}\n```\n"


def distribution() -> str:
    """Of the installed rclpy."""
    from importlib.metadata import version

    return {"7": "Jazzy", "9": "Kilted"}.get(version("rclpy").split(".")[0], "another distribution")


def preface(other_policy: bool) -> str:
    from importlib.metadata import PackageNotFoundError, version

    def of(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} (version unknown)"

    names = ("launch", "launch_ros", "ros2cli", "ros2launch", "ros2action", "rclpy", "vla_sd_msgs", "vla_sd_ros")
    policy = "The policy was not the shipped one: a checkpoint given on the command line.\n\n" if other_policy else ""
    versions = ", ".join(of(name) for name in names)
    return f"""# Verified with the real ros2

Written by `tools/verify_with_ros2.py`, which ran these commands and reports an error when one of them does not do what
it should. Long outputs are cut where it says so; paths of the machine are replaced by `<path>`.

Python {sys.version.split()[0]}, {versions}.
There are no wheels of launch, launch_ros and ros2cli: they were installed from source; rclpy and the middleware are
wheels of {distribution()}. `ros2 bag` was not at hand: bags are read back with rosbags in `test/report`, and by hand with the
reader `mcap` of Foxglove.

{policy}"""


if __name__ == "__main__":
    sys.exit(main())
