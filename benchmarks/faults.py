# SPDX-License-Identifier: Apache-2.0
"""Brings every fault of docs/safety.md into running processes, measures what comes of it, and writes the table there.

    python benchmarks/faults.py                       # needs root for the two network namespaces; without: one row less
    python benchmarks/faults.py --only camera --trials 1 --dry-run

Four systems and a model of a gripper, one after the other, with the shipped policy: the simulated scene; the same in
simulated time, where /clock jumps; a simulated Franka behind a stand-in of MoveIt Servo, with a gripper whose action
never returns; and the scene with vla_node in a network namespace of its own, whose link is cut. Exit code 1 where any
trial has a problem.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import safety_page  # first: it makes what is imported from test/ and test/ros importable

# isort: split
import faults  # noqa: E402
import standins  # noqa: E402
from controllers import ControllerManager  # noqa: E402
from faults import HOLD, Arm, Fault, Goal, Trial  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from machines import ip, two_machines
from processes import Domain, in_a_process  # noqa: E402
from system import System  # noqa: E402

from vla_sd_ros.inputs import CHECKPOINT  # noqa: E402

# Simulated time.


def clock(seconds: int):
    def shift(message):
        message.clock.sec += seconds
        return message

    return lambda system: setattr(system.relay, "clock", shift)


CLOCK_FAULTS = (
    Fault(
        "/clock jumps ahead",
        "use_sim_time: + 10 s",
        clock(10),
        HOLD,
        (Arm.NO_COMMAND, Arm.COMMAND_INVALID, Arm.JOINT_STATES_STALE),
        (Goal.IMAGE_STALE, Goal.JOINT_STATES_STALE, Arm.COMMAND_INVALID, Arm.JOINT_STATES_STALE),
        faults.heal_relay,
    ),
    Fault(
        "/clock jumps back",
        "use_sim_time: - 4 s",
        clock(-4),
        f"camera period + control_period + {HOLD}",
        (Arm.NO_COMMAND, Arm.COMMAND_INVALID, Arm.JOINT_STATES_STALE),
        (Goal.IMAGE_STALE, Goal.JOINT_STATES_STALE, Arm.COMMAND_INVALID, Arm.JOINT_STATES_STALE),
        faults.heal_relay,
    ),
)


# The robot's side.


class ServoStandIn:
    """MoveIt Servo as documented: it must be told the kind of command first, moves the arm, and tells in ~/status how."""

    def __init__(self, system: System):
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType

        self.code, self._kind, self.offset = 0, None, 0.0  # offset [m]: of the link that it moves, along z of the base
        node = system.ros.node
        self._target = node.create_publisher(PoseStamped, "target_pose", 1)
        self._status = node.create_publisher(ServoStatus, "servo_node/status", 10)
        node.create_service(ServoCommandType, "servo_node/switch_command_type", self._switch)
        node.create_subscription(PoseStamped, "servo_node/pose_target_cmds", self._on_target, 1)
        node.create_timer(0.02, lambda: self._status.publish(ServoStatus(code=self.code)))

    def _switch(self, request, response):
        self._kind, response.success = request.command_type, True
        return response

    def _on_target(self, message: PoseStamped) -> None:
        if self._kind == 2 and self.code == 0 and message.header.stamp.sec:  # POSE, NO_WARNING; a stale one halts it
            message.pose.position.z += self.offset
            self._target.publish(message)


class StuckGripper:
    """An action server whose goals never return."""

    def __init__(self, system: System):
        from control_msgs.action import GripperCommand
        from rclpy.action import ActionServer
        from rclpy.callback_groups import ReentrantCallbackGroup
        from rclpy.task import Future

        async def never(handle):
            await Future()

        self._server = ActionServer(
            system.ros.node, GripperCommand, "stuck_gripper", never, callback_group=ReentrantCallbackGroup()
        )


def halt(system: System) -> None:
    system.servo.code = 5  # HALT_FOR_COLLISION


def go(system: System) -> None:
    system.servo.code, system.servo.offset = 0, 0.0


def move_another_link(system: System) -> None:
    system.servo.offset = -0.1034  # of Franka's hand


def switch_off(system: System) -> None:
    system.manager.states["arm_controller"] = "inactive"


def switch_on(system: System) -> None:
    """As an operator does, who has looked."""
    system.manager.states["arm_controller"] = "active"
    faults.recover(system)


ROBOT_FAULTS = (
    Fault(
        "the robot's driver refuses",
        "MoveIt Servo halts before a collision",
        halt,
        HOLD + " + tick",
        (Arm.ROBOT_FAULT,),
        (Arm.ROBOT_FAULT,),
        go,
        sentence="halted before a collision",
    ),
    Fault(
        "the controller moves another link",
        "targets are taken for a link 0.1034 m away",
        move_another_link,
        HOLD + " + tick",
        (Arm.ARM_RUNS_AWAY, Arm.ARM_DEVIATES),
        (Arm.ARM_RUNS_AWAY, Arm.ARM_DEVIATES),
        go,
    ),
    Fault(
        "the controller is switched off",
        "controller_manager has it inactive, as after a reflex",
        switch_off,
        f"controller look + {HOLD}",
        (Arm.ROBOT_FAULT,),
        (Arm.ROBOT_FAULT,),
        switch_on,
        sentence="arm_controller",
    ),
    Fault(
        "the gripper's action never returns",
        "its server accepts goals and is silent",
        lambda system: None,
        "",
        (),
        (faults.GOES_ON,),
        warning="did not return",
    ),
)


# The gripper, by itself: a policy closes it when it likes, so that no goal can be made to change its mind.

HANDS, MOMENTS = 20, (0.2, 0.4, 0.6)  # s, from the wish to close to that to open


def change_of_mind() -> list[dict]:
    """Hands of a model of franka_gripper's server, which ends whatever moves when a goal is cancelled."""
    standins.use()
    from bench_of_arms import Bench
    from franka_gripper import FrankaGripperNode, serve
    from franka_hand import Hand

    from vla_sd_ros.arms import make_gripper
    from vla_sd_ros.control.gripper import State

    bench = Bench(Domain())
    bench.node.values |= {"gripper.interface": "franka", "gripper.open_position": 0.078, "gripper.closed_position": 0.0}
    grippers, drivers = [], []
    for number in range(HANDS):
        bench.node.values["gripper.action"] = f"hand{number}"
        grippers.append(make_gripper(bench.node))
        drivers.append(FrankaGripperNode(bench, Hand(object=0.04 if number % 2 else None), f"hand{number}"))
    serve(bench, *drivers)
    bench.node.create_timer(0.1, lambda: [gripper.poll(time.monotonic()) for gripper in grippers])
    bench.until(lambda: all(not gripper.missing(act) for gripper in grippers for act in gripper._clients), "the drivers")
    opened, slowest = 0, 0.0
    for after in MOMENTS:
        for opening, wait in ((0.0, after), (1.0, 5.0)):
            begin = time.monotonic()
            for gripper in grippers:
                gripper.send(begin, opening, b"goal")
            with contextlib.suppress(AssertionError):
                bench.until(lambda: opening and all(gripper.state() == State.OPEN for gripper in grippers), "time", wait)
        opened += sum(driver.hand.width > 0.07 and not driver.hand.holding for driver in drivers)
        slowest = max(slowest, time.monotonic() - begin)
    tried = HANDS * len(MOMENTS)
    print(f"the gripper changes its mind: open {opened} of {tried}", flush=True)
    return [
        {
            "fault": "the gripper changes its mind",
            "system": "gripper",
            "trials": [],
            "open": opened,
            "tried": tried,
            "slowest": slowest,
            "how": "wanted open 0.2, 0.4, 0.6 s after it began to close, half of them on an object; "
            "20 hands behind a model of franka_gripper",
        }
    ]


# Two machines.


def link(state: str):
    return lambda system: ip("-n", "vla_robot", "link", "set", "robot0", state)


NETWORK_FAULTS = (
    Fault(
        "the network parts",
        "two network namespaces, arm_node and vla_node; the link goes down",
        link("down"),
        f"command_timeout + {HOLD}",
        (Arm.COMMAND_STALE,),
        (Goal.ARM_FAULT,),
        link("up"),
        sentence="arm_node has been silent",
        heal_after=4.0,
    ),
)


@contextlib.contextmanager
def network_system(folder: Path, **options) -> Iterator[System]:
    with (
        two_machines(),
        System(folder, "scene", wrap={"vla_node": ["ip", "netns", "exec", "vla_gpu"]}, discovery="SUBNET", **options) as system,
    ):
        yield system


@contextlib.contextmanager
def robot_system(folder: Path, **options) -> Iterator[System]:
    standins.use()
    parameters = {
        "arm.interface": "servo_pose",
        "arm.tip_link": "panda_hand_tcp",
        "servo.node": "servo_node",
        "gripper.interface": "gripper_command",
        "gripper.action": "stuck_gripper",
        "gripper.timeout": 1.0,
        "controller.name": "arm_controller",
        "action_scale": 0.3,
    }  # no physics: the policy does not see what its motion does, and would reach a limit
    system = System(folder, "arm", arm=parameters, target="servo_node/pose_target_cmds", **options)
    system.servo, system.gripper = ServoStandIn(system), StuckGripper(system)
    system.manager = ControllerManager(system.ros.node, "arm_controller")
    with system:
        yield system


SYSTEMS = {
    "scene": (partial(System, robot="scene"), faults.FAULTS),
    "simulated time": (partial(System, robot="scene", simulated_time=True), CLOCK_FAULTS),
    "robot's side": (robot_system, ROBOT_FAULTS),
    "two machines": (network_system, NETWORK_FAULTS),
}


def matching(kind: str, only: str) -> list[Fault]:
    """Those faults of a system whose name contains a word."""
    return [fault for fault in SYSTEMS[kind][1] if only in fault.name]


def attempt(system: System, fault: Fault) -> Trial:
    """One trial; one that cannot be made is a problem in the table, not its end."""
    try:
        return faults.run(system, fault)
    except (AssertionError, TimeoutError, ConnectionError) as error:
        return faults.failed(system, fault, error)


def measure(kind: str, only: str, trials: int, checkpoint: str) -> list[dict]:
    """One row for each fault, of a System that is started for them."""
    rows, chosen = [], matching(kind, only)
    with tempfile.TemporaryDirectory() as folder, SYSTEMS[kind][0](Path(folder), checkpoint=checkpoint) as system:
        for fault in chosen:
            done = [attempt(system, fault) for _ in range(trials)]
            rows.append(
                {
                    "fault": fault.name,
                    "how": fault.how,
                    "system": kind,
                    "bound_terms": fault.bound,
                    "trials": [asdict(trial) for trial in done],
                }
            )
            worst = max(trial.rest for trial in done)
            problems = [problem for trial in done for problem in trial.problems]
            print(f"{fault.name}: rest {worst:.3f} s (bound {done[0].bound:.3f})  {'; '.join(problems) or 'ok'}", flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """The rows as Markdown: the worst of the trials."""
    lines = [
        "| fault | injected how | rest after [s] | bound [s] | largest jump, limit [mm] | final state | in `~/status` "
        "| result of the goal | after [s] |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        trials = row["trials"]
        if not trials:
            lines.append(
                f"| {row['fault']} | {row['how']} | the motion goes on | - | - | open {row['open']} of {row['tried']} times, "
                f"after {row['slowest']:.1f} s at most | - | - | - |"
            )
            continue
        worst = max(trials, key=lambda trial: trial["rest"])
        jump = max(trials, key=lambda trial: trial["jump"])
        codes = sorted({code for trial in trials for code in trial["codes"]})
        ended = sorted({trial["result"] for trial in trials})
        rest = (
            f"{worst['rest']:.2f} | {worst['bound']:.2f} = {row['bound_terms']}" if row["bound_terms"] else "the motion goes on | -"
        )
        after = "-" if ended == [faults.GOES_ON] else f"{max(trial['ended'] for trial in trials):.1f}"
        lines.append(
            f"| {row['fault']} | {row['how']} | {rest} | {jump['jump']:.1f}, {jump['jump_bound']:.1f} | {worst['state']} | "
            f"{', '.join(map(faults.code_name, codes)) or '-'} | {', '.join(map(faults.code_name, ended))} | {after} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3, help="of each fault")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="of the four")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="policy of vla_node")
    parser.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    arguments = parser.parse_args()
    rows = []
    for kind in arguments.systems:
        if kind == "two machines" and os.geteuid():
            print("two machines: skipped, network namespaces need root", flush=True)
        elif matching(kind, arguments.only):
            # A process for each: the middleware remembers the network interfaces that it saw first.
            work = partial(measure, kind, arguments.only, arguments.trials, arguments.checkpoint)
            rows += in_a_process(work, timeout=3600.0)
    if arguments.only in "the gripper changes its mind":
        rows += in_a_process(change_of_mind, timeout=300.0)
    if not arguments.dry_run:
        safety_page.publish(
            "faults",
            table(rows),
            {"command": f"python benchmarks/faults.py --trials {arguments.trials}", "trials": arguments.trials, "faults": rows},
        )
    return int(
        any(trial["problems"] for row in rows for trial in row["trials"])
        or any(row["open"] < row["tried"] for row in rows if not row["trials"])
    )


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # rclpy's threads of closed contexts are not waited for
