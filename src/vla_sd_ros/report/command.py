# SPDX-License-Identifier: Apache-2.0
"""`vla-sd report RUN`: make video, figure and summary of a recorded run again."""

import argparse
import sys

from vla_sd_ros.inputs import path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("run", type=path, help="folder of a run, with episode/ in it")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    from vla_sd_ros.report.bag import read_episode
    from vla_sd_ros.report.summary import write_report
    from vla_sd_ros.runs import SUMMARY, read_summary

    if not (arguments.run / "episode").is_dir():
        print(f"vla-sd report: {arguments.run} has no episode/; give the folder of a run, such as runs/<time>", file=sys.stderr)
        return 2
    try:
        episode = read_episode(arguments.run / "episode")
    except Exception as error:  # whatever rosbags raises; a report that was made before it broke is left as it is
        print(f"vla-sd report: {arguments.run / 'episode'}: {error}", file=sys.stderr)
        return 2
    outcome = {}
    try:
        outcome = read_summary(arguments.run)
    except ValueError as error:
        print(f"report: {SUMMARY} tells nothing of the goal ({error}): the new one has only what was recorded", file=sys.stderr)
    summary = write_report(arguments.run, outcome, episode)
    for sentence in summary["missing"]:
        print(f"report: {sentence}", file=sys.stderr)
    print(f"report={arguments.run}")
    return 1 if summary["missing"] else 0
