# SPDX-License-Identifier: Apache-2.0
"""`vla-sd adapt`: from a checkpoint and recordings to a bundle of fast decoders for it; run again to resume.

    vla-sd adapt --checkpoint ./my-openvla --unnorm-key my_arm --source recordings --output adapted

looks through the recordings, holds some episodes out, lets the policy decide on the images of the others, trains a draft head and
a drafter on its answers, makes a trajectory database, fits the decoders' settings on one part of what was held out, measures each
decoder on the other, chooses one, and says all that in a report. With --cluster the nodes decide on the images.
"""

import argparse
import os

from vla_sd_ros import inputs
from vla_sd_ros.recordings import command as recordings_command
from vla_sd_ros.training.asking import add_copies, add_machine
from vla_sd_ros.training.calibrate import TREE_STEPS
from vla_sd_ros.training.train_drafter import Training as DrafterTraining
from vla_sd_ros.training.train_head import Training as HeadTraining
from vla_sd_ros.workers import add_cluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    inputs.add_policy(parser)
    recordings_command.add_source(parser)
    parser.add_argument("--output", type=inputs.path, required=True, help="folder for the bundle, and for the work on it")
    parser.add_argument(
        "--most",
        type=inputs.count,
        default=50_000,
        metavar="N",
        help="images that the policy is asked about; of more, each N-th of an episode (default: %(default)s)",
    )
    _add_held_out(parser)
    _add_trainings(parser)
    parser.add_argument("--keep-work", action="store_true", help="leave the policy's answers on the disk, for other trainings")
    inputs.add_largest_step(parser)
    add_machine(parser)
    add_cluster(parser)
    recordings_command.add_arguments(parser)


def _add_held_out(parser: argparse.ArgumentParser) -> None:
    """On how much the decoders are calibrated and measured."""
    parser.add_argument(
        "--held-out",
        type=inputs.whole(3, 1000),
        default=5,
        metavar="N",
        help="one in N episodes is held out, half to calibrate, half to measure (default: %(default)s)",
    )
    parser.add_argument(
        "--observations",
        type=inputs.count,
        default=500,
        metavar="N",
        help="images at most to calibrate on, and to measure each decoder on (default: %(default)s)",
    )
    parser.add_argument(
        "--tree-steps",
        type=inputs.whole(0, 100_000),
        default=TREE_STEPS,
        metavar="N",
        help="of these, that each shape of the drafter's tree decodes; 0: leave the shapes alone (default: %(default)s)",
    )
    parser.add_argument("--threads", type=inputs.count, default=1, help="CPU threads of the policy that is measured")


def _add_trainings(parser: argparse.ArgumentParser) -> None:
    """How draft head and drafter are trained."""
    add_copies(parser)
    parser.add_argument("--head-steps", type=inputs.count, default=HeadTraining.steps, help="(default: %(default)s)")
    parser.add_argument("--head-batch", type=inputs.count, default=HeadTraining.batch_size, help="(default: %(default)s)")
    parser.add_argument("--drafter-steps", type=inputs.count, default=DrafterTraining.steps, help="(default: %(default)s)")
    parser.add_argument("--drafter-batch", type=inputs.count, default=DrafterTraining.batch_size, help="(default: %(default)s)")
    parser.add_argument("--drafter-rate", type=inputs.RATE, help="its learning rate; default: 1e-3, of OpenVLA 5e-5 as Spec-VLA")
    parser.add_argument("--seed", type=inputs.SEED, default=0)
    parser.add_argument("--processes", type=inputs.count, default=os.cpu_count(), help="to train the drafter, on the CPU")


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    from vla_sd_ros.adapt.stages import adapt

    adapt(arguments)
    return 0
