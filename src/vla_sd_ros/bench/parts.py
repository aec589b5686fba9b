# SPDX-License-Identifier: Apache-2.0
"""The parts that a benchmark's decoders are made of, from the command line."""

import argparse
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from vla_sd_ros import inputs
from vla_sd_ros.assembly import Choice, Source
from vla_sd_ros.assembly.bundle import read as read_bundle
from vla_sd_ros.assembly.local import Model, has_database, load
from vla_sd_ros.bench.cost import tree_of
from vla_sd_ros.checkpoint_places import RANDOM_NAMES, absolute, find
from vla_sd_ros.decoding import factory
from vla_sd_ros.decoding.parameter_file import check_settings, read_pairs, read_settings
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.policy.quantization import KINDS


@dataclass(frozen=True)
class Parts:
    """What a worker loads for itself. decoders: names, each with settings of its own behind it, as variant() reads them.

    settings: (name, value) pairs other than the defaults, of all decoders.
    """

    checkpoint: str
    decoders: tuple[str, ...]
    _: KW_ONLY
    settings: tuple[tuple[str, Any], ...] = ()
    database: str = ""
    drafter: str = ""
    threads: int = 1
    quantization: str = "none"
    largest_step: tuple[float, float] = inputs.LARGEST_STEP  # m, rad
    device: str = "cpu"
    dtype: str = ""
    unnorm_key: str = ""
    draft_head: str = ""
    adapted: str = ""

    def elsewhere(self) -> "Parts":
        """The same for a process whose current folder is another."""
        moved: dict[str, Any] = {}
        for name in ("database", "drafter", "draft_head", "adapted"):
            if (place := getattr(self, name)) and "://" not in place:
                moved[name] = str(inputs.expanded(place).absolute())
        return replace(self, checkpoint=absolute(self.checkpoint), **moved)

    def paths(self) -> tuple[str, ...]:
        """Of all files and folders that do not come with the package, of parts that are elsewhere()."""
        given = (self.checkpoint, self.database, self.drafter, self.draft_head, self.adapted)
        return tuple(sorted({path for path in given if path.startswith("/")}))

    def load(self):
        """The policy, and its decoders by name. Raises ValueError with one sentence."""
        model, decoders = self.model(), {}
        for decoder in self.decoders:
            name, own = variant(decoder)
            decoders[decoder] = model.decoder(name, self.decoder_settings(**own))
        return model.vla, decoders

    def decoder_settings(self, **own) -> Settings:
        """Those of all decoders, and on top of them a decoder's own, by name."""
        return replace(Settings(), **(dict(self.settings) | own))

    def trees(self) -> dict[str, list[int]]:
        """Nodes, levels and continuations of the drafter's tree in each decoder that has a drafter."""
        found = {}
        for decoder in self.decoders:
            name, own = variant(decoder)
            if "drafter" in factory.needs(name):
                found[decoder] = list(tree_of(name, self.decoder_settings(**own)))
        return found

    def model(self) -> Model:
        """The policy and what the decoders draw on. Raises ValueError with one sentence."""
        source = Source(
            self.checkpoint,
            device=self.device,
            unnorm_key=self.unnorm_key,
            threads=self.threads,
            dtype=self.dtype,
            quantization=self.quantization,
            drafter=self.drafter,
            database=self.database,
            draft_head=self.draft_head,
            adapted=self.adapted,
            largest_step=self.largest_step,
        )
        return load(source, [variant(decoder)[0] for decoder in self.decoders])


def variant(decoder: str) -> tuple[str, dict]:
    """The decoder's name, and its own settings, of name@setting=value@setting=value; a list's entries are parted by +.

    Raises ValueError, with one sentence, for a setting that does not exist or a bad value.
    """
    name, *own = decoder.split("@")
    return name, read_pairs(own, parted="+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    inputs.add_policy(parser)
    parser.add_argument(
        "--decoder",
        help="one or more names, separated by commas; with settings of its own as spec_vla@relaxed_radius=15, those of a list "
        "parted by +; default: that of --adapted, or autoregressive",
    )
    parser.add_argument("--adapted", default="", help="bundle of vla-sd adapt: draft head, drafter, database and settings")
    parser.add_argument("--settings", help="parameter file of vla-sd calibrate, or of a node: its decoder's settings")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the decoders")
    parser.add_argument("--database", default="", help="directory of a trajectory database; default: the checkpoint's own")
    parser.add_argument("--drafter", default="", help="directory or file of a drafter; default: the checkpoint's own")
    parser.add_argument("--threads", type=inputs.count, default=1, help="CPU threads of the policy")
    parser.add_argument("--quantization", default="none", choices=KINDS, help="of the language model's layers, by torchao")
    inputs.add_largest_step(parser)
    parser.add_argument("--json", type=inputs.path, help="write the results here")


def parts(arguments: argparse.Namespace) -> Parts:
    """Raises ValueError, with one sentence, for a setting that does not exist or a bad value."""
    given = read_pairs(arguments.set)
    adapted = read_bundle(arguments.adapted).choice if arguments.adapted else Choice()
    own = dict(vars(adapted.settings)) if arguments.adapted else {}
    settings = check_settings(own | read_settings(arguments.settings) | given)
    decoders = tuple((adapted.decoder if arguments.decoder is None else arguments.decoder).split(","))
    if len(set(decoders)) < len(decoders):
        raise ValueError(f"--decoder {arguments.decoder} names one of them twice: name each once")
    source = Source(arguments.checkpoint, database=arguments.database, adapted=arguments.adapted)
    for decoder in decoders:
        factory.check(variant(decoder)[0], drafter=True, database=has_database(source))
    if arguments.checkpoint not in RANDOM_NAMES:
        find(arguments.checkpoint)  # before workers do, one after the other
    return Parts(
        arguments.checkpoint,
        decoders,
        settings=tuple(settings.items()),
        database=arguments.database,
        drafter=arguments.drafter,
        threads=arguments.threads,
        quantization=arguments.quantization,
        largest_step=tuple(arguments.largest_step),
        device=getattr(arguments, "device", "cpu"),
        dtype=getattr(arguments, "dtype", ""),
        unnorm_key=arguments.unnorm_key,
        adapted=arguments.adapted,
    )
