# SPDX-License-Identifier: Apache-2.0
"""`vla-sd report RUN`: make video, figure and summary of a recorded run again."""
import argparse
import json
import sys

from vla_sd_ros.inputs import path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("run", type=path, help="folder of a run, with episode/ in it")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    from vla_sd_ros.report.summary import write_report

    if not (arguments.run / "episode").is_dir():
        print(f"vla-sd report: {arguments.run} has no episode/; give the folder of a run, such as runs/<time>", file=sys.stderr)
        return 2
    try:
        outcome = json.loads((arguments.run / "summary.json").read_text())
    except (OSError, json.JSONDecodeError):
        outcome = {}
    summary = write_report(arguments.run, outcome)
    for sentence in summary["missing"]:
        print(f"report: {sentence}", file=sys.stderr)
    print(f"report={arguments.run}")
    return 1 if summary["missing"] else 0
