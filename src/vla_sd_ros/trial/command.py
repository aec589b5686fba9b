# SPDX-License-Identifier: Apache-2.0
"""`vla-sd trial FOLDER`: make a study, or go on with the one in the folder; when all its trials are done, its report."""

import argparse
import getpass
import sys
from importlib.util import find_spec

from vla_sd_ros import inputs
from vla_sd_ros.demo import StartupFailed
from vla_sd_ros.environment import LAST_DOMAIN
from vla_sd_ros.inputs import BadInput
from vla_sd_ros.supervisor import ChildEnded, Interrupted
from vla_sd_ros.trial import study as studies
from vla_sd_ros.trial.arms import read_arms
from vla_sd_ros.trial.nodes import on_nodes, ready

OF_A_NEW_STUDY = (
    "arm",
    "trials",
    "instruction",
    "outcome",
    "time_limit",
    "namespace",
    "simulator",
    "suite",
    "task",
    "checkpoint",
    "params",
)
OF_THE_SIMULATOR = ("suite", "task", "checkpoint", "params")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vla-sd trial`."""
    parser.add_argument("folder", type=inputs.path, help="the study's folder; what is there already goes on")
    parser.add_argument(
        "--unblind", action="store_true", help="say which code is which and write the report now, though trials are missing"
    )
    parser.add_argument("--operator", help="your name, for the report; default: that of the account")
    parser.add_argument(
        "--domain-id",
        type=inputs.whole(0, LAST_DOMAIN),
        help="ROS domain; default: with --simulator one that nobody on this machine uses, else the shell's",
    )
    new = parser.add_argument_group("a new study")
    new.add_argument(
        "--arm",
        action="append",
        metavar="DECODER[@SETTING=VALUE...]",
        help="what to compare, twice or more, the control first; a SETTING with a dot is any parameter of vla_node, such as "
        "policy.checkpoint",
    )
    new.add_argument("--trials", type=inputs.whole(1, studies.REPETITIONS_MAX), help="of each arm; default: 20")
    new.add_argument("--instruction", type=inputs.instruction, help="the sentence; default: that of the simulator's task")
    new.add_argument(
        "--outcome", choices=("operator", "task_success"), help="who judges; default: operator, with --simulator task_success"
    )
    new.add_argument("--time-limit", type=inputs.seconds, help="limit of a trial [s]; default: the node's own")
    new.add_argument("--namespace", type=inputs.namespace, help="namespace of the nodes; default: vla")
    new.add_argument("--simulator", action="store_true", default=None, help="start sim_node, arm_node and vla_node for it")
    new.add_argument("--suite", help="with --simulator: LIBERO suite; default: that of the parameter file")
    new.add_argument("--task", type=inputs.whole(0, 9), help="with --simulator: index of the task, 0..9")
    new.add_argument("--checkpoint", help="with --simulator: policy; default: that of the parameter file")
    new.add_argument(
        "--params", type=inputs.path, metavar="FILE", help="with --simulator: parameters; default: the installed config/sim.yaml"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: the report is written. 1: trials are missing. 2: bad input. 130, 143: stopped by SIGINT, SIGTERM."""
    if not find_spec("fieldtrial"):
        raise BadInput("fieldtrial is not installed: pip install 'vla_sd_ros[trial]'")
    _create_or_refuse(arguments)
    with studies.opened(arguments.folder) as study:
        if not arguments.unblind:
            ended = _run_trials(arguments, study)
            if ended is not None:
                return ended
        return _report(study)


def _create_or_refuse(arguments: argparse.Namespace) -> None:
    """The study is there after this. Raises BadInput."""
    folder = arguments.folder
    given = [name for name in OF_A_NEW_STUDY if getattr(arguments, name) is not None]
    if studies.is_study(folder):
        if given:
            raise BadInput(
                f"{folder} is a study already, whose design is fixed: leave --{given[0].replace('_', '-')} out to go on "
                "with it, or name a new folder"
            )
        return
    if arguments.unblind or not given:
        raise BadInput(f"there is no study in {folder}; make one, with --arm for each decoder that it compares")
    arms = read_arms(arguments.arm or [])
    protocol = _protocol(arguments)
    ready(protocol, arguments.domain_id)  # what is wrong is told now: the design that is made below is final
    studies.create(folder, arms, arguments.trials or 20, protocol)
    print(f"{folder}: {' and '.join(sorted(arm.name for arm in arms))}, {arguments.trials or 20} trials each", flush=True)


def _protocol(a: argparse.Namespace) -> studies.Protocol:
    """How the trials are made. Raises BadInput."""
    if not a.simulator:
        if extra := [name for name in OF_THE_SIMULATOR if getattr(a, name) is not None]:
            raise BadInput(f"--{extra[0]} is for --simulator; without it the nodes are those that run already")
        if not a.instruction:
            raise BadInput("say with --instruction what the arm shall do in each trial, or add --simulator")
    if a.params and not a.params.is_file():
        raise BadInput(f"there is no parameter file {a.params}")
    return studies.Protocol(
        instruction=a.instruction or "",
        outcome=a.outcome or ("task_success" if a.simulator else "operator"),
        time_limit=a.time_limit or 0.0,
        namespace=a.namespace or "vla",
        simulator=bool(a.simulator),
        suite=a.suite,
        task=a.task,
        checkpoint=a.checkpoint,
        params=str(a.params.resolve()) if a.params else None,
    )


def _run_trials(arguments: argparse.Namespace, study: studies.Study) -> int | None:
    """Make what is due; the exit code where something is left."""
    if study.next() is None and not study.cut_off():
        return None
    environment = ready(study.protocol, arguments.domain_id)
    from vla_sd_ros.client import GoalRejected  # brings rclpy, which ends the process where its environment is wrong

    again = f"go on with: vla-sd trial {study.folder}"
    cut_off = study.begin(arguments.operator or _account(), "simulator" if study.protocol.simulator else "arm")
    if cut_off:
        print(f"{cut_off} trial that was cut off is void, and made again", flush=True)
    try:
        done = on_nodes(study, environment)
        study.end()
        if done:
            return None
        print(f"trials are missing; {again}")
        return 1
    except Interrupted as error:
        print(f"vla-sd trial: {error}; {again}", file=sys.stderr)
        return 128 + error.number
    except (StartupFailed, GoalRejected, TimeoutError, ConnectionError, ChildEnded, RuntimeError) as error:
        print(f"vla-sd trial: {error}; then {again}", file=sys.stderr)
        return 1


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


def _report(study: studies.Study) -> int:
    from vla_sd_ros.trial.report import write

    codes = study.unblind()
    print(f"unblinded: {', '.join(f'{code} is {name}' for code, name in sorted(codes.items()))}")
    summary = write(study)
    print(*summary["summary"], sep="\n")
    p = summary["primary"]["pvalue"]
    arms = " ".join(f"{name}={arm['successes']}/{arm['completed']}" for name, arm in summary["arms"].items())
    print(
        f"RESULT {arms} p={'none' if p is None else f'{p:.4f}'} missing={summary['pending']} report={study.folder / 'report.html'}"
    )
    return 1 if summary["pending"] else 0
