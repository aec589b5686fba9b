# SPDX-License-Identifier: Apache-2.0
"""`vla-sd build-db`: make the trajectory database of a checkpoint from demonstrations; put it on a Qdrant server."""

import argparse
import os
import sys

from vla_sd_ros import inputs
from vla_sd_ros.recordings import command as recordings_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("--output", type=inputs.path, required=True, help="directory of the database")
    parser.add_argument("--checkpoint", default=inputs.CHECKPOINT, help="of the policy that will ask: ./directory or shipped name")
    recordings_command.add_source(parser, required=False)
    parser.add_argument("--device", default="cpu", help="where the policy runs: cpu, cuda")
    parser.add_argument("--unnorm-key", default="", help="of the checkpoint's statistics; any, where there are several")
    recordings_command.add_arguments(parser)
    parser.add_argument(
        "--qdrant",
        default="",
        metavar="URL",
        help="also upload to this server; without --source what is in --output already. Key: environment QDRANT_API_KEY",
    )


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    from vla_sd_ros.policy import CheckpointError
    from vla_sd_ros.recordings import RecordingError
    from vla_sd_ros.retrieval import DatabaseError, TrajectoryDatabase

    try:
        if not (arguments.source or arguments.qdrant):
            raise DatabaseError("there is nothing to do: give --source, or --qdrant to upload what is in --output")
        if arguments.source:
            make(arguments)
        if arguments.qdrant:
            upload(TrajectoryDatabase.load(arguments.output), arguments.qdrant)
    except (CheckpointError, DatabaseError, RecordingError) as error:
        print(f"vla-sd build-db: {error}", file=sys.stderr)
        return 2
    return 0


def make(arguments: argparse.Namespace) -> None:
    """Build and save the database. Raises DatabaseError, CheckpointError."""
    from tqdm import tqdm

    from vla_sd_ros import policy
    from vla_sd_ros.retrieval import DatabaseError, Origin
    from vla_sd_ros.retrieval.build import build
    from vla_sd_ros.retrieval.database import META

    if (arguments.output / META).exists():  # said before hours of work, not after
        raise DatabaseError(f"{arguments.output} already holds a trajectory database: remove it or choose another directory")
    inputs.writable_folder(arguments.output, "--output")
    recordings, inventory = recordings_command.take_stock(arguments, arguments.source)
    vla = policy.load(arguments.checkpoint, arguments.device, arguments.unnorm_key, largest_step=None)
    print(inventory.table(vla.unnorm_key, vla.statistics.q01, vla.statistics.q99), flush=True)
    origin = Origin(vla.name, policy.fingerprint(arguments.checkpoint), tuple(str(path) for path in arguments.source))

    def embed(image, instruction):
        return vla.observe(image, instruction).features.float().cpu().numpy()

    with tqdm(total=len(inventory.actions), unit="step", desc="features") as bar:
        database = build(recordings, embed, origin, recordings.skip, bar.update)
    database.save(arguments.output)
    for key, entries in database.partitions.items():
        print(f"{len(entries):7d} steps: {key}")
    recordings_command.tell_skipped(recordings)
    print(f"{len(database)} steps of {len(database.episode_names)} episodes; the database is in {arguments.output}")


def upload(database, url: str) -> None:
    """Put a database on a Qdrant server. Raises DatabaseError."""
    from tqdm import tqdm

    from vla_sd_ros.retrieval.qdrant import QdrantDatabase

    server = QdrantDatabase(url, database.origin.fingerprint, api_key=os.environ.get("QDRANT_API_KEY"))
    with tqdm(total=len(database), unit="step", desc="upload") as bar:
        server.upload(database, bar.update)
    print(f"{len(database)} steps in {len(database.partitions)} collections {server.prefix}... on {url}")
