# SPDX-License-Identifier: Apache-2.0
"""`vla-sd bench libero`, `vla-sd bench decode` and `vla-sd bench drafts`."""

import argparse
import sys

from vla_sd_ros import inputs
from vla_sd_ros.bench import decode, drafts, libero, parts

BENCHMARKS = {"libero": libero, "decode": decode, "drafts": drafts}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    subparsers = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        subparser = subparsers.add_parser(name, help=summary, description=module.__doc__)
        parts.add_arguments(subparser)
        module.add_arguments(subparser)


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    try:
        parts.parts(arguments)  # says what is wrong with decoders and settings before anything is loaded
        for option in ("json", "trace"):
            if written := getattr(arguments, option, None):
                inputs.writable_file(written, f"--{option}")
        if getattr(arguments, "trace", None) and arguments.trace == arguments.json:
            raise ValueError(f"--json and --trace are both {arguments.json}: give two files")
        if record := getattr(arguments, "record", None):
            inputs.writable_folder(record, "--record")
        return BENCHMARKS[arguments.benchmark].run(arguments)
    except ValueError as error:
        print(f"vla-sd bench: {error}", file=sys.stderr)
        return 2
