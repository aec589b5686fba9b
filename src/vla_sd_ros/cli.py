# SPDX-License-Identifier: Apache-2.0
"""The command `vla-sd`. Each subcommand is a module with add_arguments(parser) and run(arguments) -> exit code."""

import argparse
import signal
import sys
from importlib import import_module

from vla_sd_ros.inputs import BadInput, check_text

SUBCOMMANDS = {
    "demo": ("vla_sd_ros.demo", "start simulator and nodes, execute one instruction, write a report"),
    "robot": ("vla_sd_ros.robot", "drive an FR3 or a WidowX AI without a ROS installation: driver and nodes"),
    "send": ("vla_sd_ros.send", "send an instruction to a running vla_node"),
    "record": ("vla_sd_ros.record", "record each goal of a running vla_node, judged by an operator"),
    "console": ("vla_sd_ros.console.command", "the operator's page of a running vla_node, for a browser"),
    "report": ("vla_sd_ros.report.command", "make video, figure and summary of a recorded run again"),
    "adapt": ("vla_sd_ros.adapt.command", "make fast decoders for a policy and an arm of yours, from recordings"),
    "collect": ("vla_sd_ros.sim.collect", "make demonstrations with the scripted expert"),
    "train": ("vla_sd_ros.training.train", "train the embedded policy from demonstrations"),
    "train-drafter": ("vla_sd_ros.training.train_drafter", "train a policy's drafter from its own answers to demonstrations"),
    "train-head": ("vla_sd_ros.training.train_head", "train a policy's draft head from its own answers to demonstrations"),
    "build-db": ("vla_sd_ros.retrieval.command", "make the trajectory database of a policy from demonstrations"),
    "export": ("vla_sd_ros.recordings.export_command", "write recordings of any kind as a LeRobot dataset"),
    "trial": ("vla_sd_ros.trial.command", "compare decoders fairly: randomised, blinded, tested as planned beforehand"),
    "bench": ("vla_sd_ros.bench.command", "measure decoders: in the simulator, or on recorded observations"),
    "calibrate": ("vla_sd_ros.training.calibrate", "fit the decoders' settings to a policy"),
    "serve": ("vla_sd_ros.serve", "answer observations over the network, for clients of OpenVLA and openpi"),
    "doctor": ("vla_sd_ros.doctor", "check this installation, one line for each part"),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: as Ctrl-C, so that what is half done is cleared away; `number` is that of the signal."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def main(arguments: list[str] | None = None) -> int:
    """Run the subcommand named first; its module is imported only then.

    Exit code 2, and one sentence, for what cannot be used: an argument, a variable of the environment, a file, a folder.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    name = f"vla-sd {arguments[0]}" if arguments else "vla-sd"
    try:
        check_text(arguments)
        return _run(arguments)
    except KeyboardInterrupt as error:
        return 128 + getattr(error, "number", signal.SIGINT)
    except BadInput as error:
        told = str(error)
    except OSError as error:
        told = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    except ImportError as error:
        told = f"{error}; vla-sd doctor says what is missing"
    print(f"{name}: {told}", file=sys.stderr)
    return 2


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="vla-sd", description="Drives an arm from a camera and a sentence.")
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    run = None
    for name, (module, summary) in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name in arguments[:1]:
            chosen = import_module(module)
            chosen.add_arguments(subparser)
            run = chosen.run
    parsed = parser.parse_args(arguments)
    if run is None:
        parser.error("name the subcommand first")
    return run(parsed)


def program() -> int:
    """`vla-sd` as a process, which SIGTERM and SIGHUP end as Ctrl-C does."""

    def end(number: int, _frame: object) -> None:
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, end)
    return main()


if __name__ == "__main__":
    sys.exit(program())
