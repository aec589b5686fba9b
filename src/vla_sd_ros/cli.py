# SPDX-License-Identifier: Apache-2.0
"""The command `vla-sd`. Each subcommand is a module with add_arguments(parser) and run(arguments) -> exit code."""
import argparse
import signal
import sys
from importlib import import_module

SUBCOMMANDS = {
    "demo": ("vla_sd_ros.demo", "start simulator and nodes, execute one instruction, write a report"),
    "send": ("vla_sd_ros.send", "send an instruction to a running vla_node"),
    "report": ("vla_sd_ros.report.command", "make video, figure and summary of a recorded run again"),
    "collect": ("vla_sd_ros.sim.collect", "make demonstrations with the scripted expert"),
    "train": ("vla_sd_ros.training.train", "train the embedded policy from demonstrations"),
    "train-drafter": ("vla_sd_ros.training.train_drafter", "train a policy's drafter from its own answers to demonstrations"),
    "train-head": ("vla_sd_ros.training.train_head", "train a policy's draft head from its own answers to demonstrations"),
    "build-db": ("vla_sd_ros.retrieval.command", "make the trajectory database of a policy from demonstrations"),
    "bench": ("vla_sd_ros.bench.command", "measure decoders: in the simulator, or on recorded observations"),
    "calibrate": ("vla_sd_ros.training.calibrate", "fit the decoders' settings to a policy"),
    "serve": ("vla_sd_ros.serve", "answer observations over the network, for clients of OpenVLA and openpi"),
    "doctor": ("vla_sd_ros.doctor", "check this installation, one line for each part"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the subcommand named first; its module is imported only then."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="vla-sd", description="Drives an arm from a camera and a sentence.")
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    run = None
    try:
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
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
