# SPDX-License-Identifier: Apache-2.0
"""The parts that a benchmark's decoders are made of, from the command line."""
import argparse
from dataclasses import dataclass, fields, replace

import yaml

from vla_sd_ros import policy
from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.settings import Settings


@dataclass(frozen=True)
class Parts:
    """What a worker loads for itself. settings: (name, value) pairs other than the defaults."""

    checkpoint: str
    decoders: tuple[str, ...]
    settings: tuple[tuple[str, object], ...] = ()
    database: str = ""
    threads: int = 1

    def load(self):
        """The policy, and its decoders by name. Raises ValueError with one sentence."""
        vla = policy.load(self.checkpoint, threads=self.threads)
        settings = replace(Settings(), **dict(self.settings))
        return vla, {name: factory.make(name, vla, settings) for name in self.decoders}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="libero", help="directory, or name of a shipped one")
    parser.add_argument("--decoder", default="autoregressive", help="one or more names, separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the decoders")
    parser.add_argument("--database", default="", help="directory of a trajectory database")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the policy")
    parser.add_argument("--json", help="write the results here")


def parts(arguments: argparse.Namespace) -> Parts:
    """Raises ValueError, with one sentence, for a setting that does not exist or a bad value."""
    settings = dict(pair.partition("=")[::2] for pair in arguments.set)
    known = {entry.name for entry in fields(Settings)}
    for name in settings:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}: choose one of {', '.join(sorted(known))}")
    settings = {name: yaml.safe_load(value) for name, value in settings.items()}
    replace(Settings(), **settings)
    return Parts(
        arguments.checkpoint, tuple(arguments.decoder.split(",")), tuple(settings.items()), arguments.database,
        arguments.threads,
    )
