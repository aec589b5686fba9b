# SPDX-License-Identifier: Apache-2.0
"""The first half of train-head and train-drafter: what the policy says to recorded images, asked where it is not known yet."""

import argparse
import shutil
from pathlib import Path

from tqdm import tqdm

from vla_sd_ros import inputs
from vla_sd_ros.assembly import free_memory
from vla_sd_ros.policy import checkpoint
from vla_sd_ros.recordings import command as recordings_command
from vla_sd_ros.training import answers
from vla_sd_ros.training.loop import barrier, share
from vla_sd_ros.training.variations import Copies

WORK = "answers"  # folder beside what is trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    inputs.add_policy(parser)
    parser.add_argument(
        "--demonstrations",
        type=inputs.path,
        nargs="+",
        default=[Path("demonstrations")],
        help="recordings of any kind that build-db reads; searched below",
    )
    parser.add_argument("--every", type=inputs.count, default=1, metavar="N", help="use each N-th image of an episode")
    parser.add_argument(
        "--held-out", type=inputs.count, default=10, metavar="N", help="one in N episodes, by a hash, only measures"
    )
    add_copies(parser)
    add_machine(parser)
    recordings_command.add_arguments(parser, failed=True)  # what the policy says is wanted, not what was done


def add_copies(parser: argparse.ArgumentParser) -> None:
    """Declares --copies."""
    parser.add_argument(
        "--copies",
        type=inputs.whole(0, 100),
        default=0,
        metavar="N",
        help="learn from N copies of each episode as well, in another light and from a little elsewhere",
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Where and with how much memory."""
    inputs.add_weights(parser)
    parser.add_argument("--images", type=inputs.whole(1, 256), default=8, help="that the policy decides on at once")
    parser.add_argument(
        "--memory",
        type=inputs.count,
        default=answers.MEMORY,
        metavar="MB",
        help="of the host, for the answers that are learnt from at once; the others come in turn",
    )


def load(arguments: argparse.Namespace, largest_step: tuple[float, float] | None = None):
    """The policy that is asked. Units are nothing to what it says, and checked where largest_step [m], [rad] is given. Raises
    CheckpointError."""
    return checkpoint.load(
        arguments.checkpoint,
        arguments.device,
        arguments.unnorm_key,
        dtype=arguments.dtype,
        quantization=arguments.quantization,
        largest_step=largest_step,
    )


def asked(arguments: argparse.Namespace, output: Path) -> tuple[Path, list[answers.Answered], list[answers.Answered]]:
    """The folder of work, the episodes to learn from and those that only measure. Raises BadInput.

    What is known from an earlier run, of either command, is not asked again; it is forgotten where the policy has changed.
    """
    inputs.writable_folder(output, "--output")
    recordings, inventory = recordings_command.take_stock(arguments, arguments.demonstrations)
    episodes = Copies(recordings, arguments.copies)
    keys = [key for key, _ in answers.named(episodes)]
    recorded = set(keys[: len(keys) // (1 + arguments.copies)])  # they come first
    answers.held_out(keys, arguments.held_out)  # said before the policy is asked, not after
    work = output / WORK
    mark = {
        "weights": checkpoint.weights_fingerprint(arguments.checkpoint),
        "every": arguments.every,
        "quantization": arguments.quantization,
        "dtype": arguments.dtype,
    }
    vla = load(arguments)
    if share()[0] == 0 and not answers.belongs(work, mark):
        print("the policy, or how it is asked, has changed since: beginning anew", flush=True)
        shutil.rmtree(work)
        answers.belongs(work, mark)
    barrier()
    images = -(-len(inventory.actions) // arguments.every) * (1 + arguments.copies)
    with tqdm(total=images, unit="image", desc="asking the policy") as bar:
        answers.ask(
            vla, episodes, work, recordings.skip, rows=arguments.images, every=arguments.every, share=share(), stepped=bar.update
        )
    del vla
    free_memory()
    barrier()
    recordings_command.tell_skipped(recordings)
    whole = answers.answered(work, keys)
    apart = answers.held_out([episode.key for episode in whole], arguments.held_out)
    return work, [e for e in whole if e.key not in apart], [e for e in whole if e.key in apart & recorded]
