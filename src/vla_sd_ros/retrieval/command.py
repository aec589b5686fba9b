# SPDX-License-Identifier: Apache-2.0
"""`vla-sd build-db`: make the trajectory database of a checkpoint from demonstrations; put it on a Qdrant server."""
import argparse
import os
import sys
from itertools import chain

from vla_sd_ros import inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=inputs.path, required=True, help="directory of the database")
    parser.add_argument("--checkpoint", default="libero", help="of the policy that will ask: ./directory or shipped name")
    parser.add_argument(
        "--source", type=inputs.path, nargs="+", default=[],
        help="folders with demonstrations of vla-sd collect, bags, LeRobot datasets; searched below",
    )
    parser.add_argument("--device", default="cpu", help="where the policy runs: cpu, cuda")
    parser.add_argument("--unnorm-key", default="", help="of the checkpoint's statistics; any, where there are several")
    parser.add_argument("--include-failed", action="store_true", help="also episodes that are not known to have succeeded")
    parser.add_argument("--instruction", default="", help="of all episodes, where the source does not say it")
    parser.add_argument("--image-topic", default="", help="bags: topic of the policy's camera, where there are several")
    parser.add_argument("--camera", default="", help="LeRobot: key of the policy's camera, where there are several")
    parser.add_argument("--action", default="action", help="LeRobot: key of the actions, end-effector deltas and gripper")
    parser.add_argument("--stride", type=_positive, default=1, help="LeRobot: frames in one step of the policy (20 Hz: 4)")
    parser.add_argument(
        "--action-scale", type=float, nargs=2, default=(1.0, 1.0), metavar=("METRES", "RADIANS"),
        help="LeRobot: in one unit of translation and rotation (robosuite: 0.05 0.5)",
    )
    parser.add_argument(
        "--gripper", type=float, nargs=2, default=(0.0, 1.0), metavar=("CLOSED", "OPEN"),
        help="LeRobot: values of the gripper (robosuite: 1 -1)",
    )
    parser.add_argument(
        "--qdrant", default="", metavar="URL",
        help="also upload to this server; without --source what is in --output already. Key: environment QDRANT_API_KEY",
    )


def run(arguments: argparse.Namespace) -> int:
    from vla_sd_ros.policy import CheckpointError
    from vla_sd_ros.retrieval import DatabaseError, TrajectoryDatabase

    try:
        if not (arguments.source or arguments.qdrant):
            raise DatabaseError("there is nothing to do: give --source, or --qdrant to upload what is in --output")
        if arguments.source:
            make(arguments)
        if arguments.qdrant:
            upload(TrajectoryDatabase.load(arguments.output), arguments.qdrant)
    except (CheckpointError, DatabaseError) as error:
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
    from vla_sd_ros.retrieval.sources import open_sources

    if (arguments.output / META).exists():  # said before hours of work, not after
        raise DatabaseError(f"{arguments.output} already holds a trajectory database: remove it or choose another directory")
    inputs.writable_folder(arguments.output, "--output")
    sources = list(chain.from_iterable(open_sources(path, options(arguments)) for path in arguments.source))
    vla = policy.load(arguments.checkpoint, arguments.device, arguments.unnorm_key, largest_step=None)
    origin = Origin(vla.name, policy.fingerprint(arguments.checkpoint), tuple(str(path) for path in arguments.source))

    def embed(image, instruction):
        return vla.observe(image, instruction).features.float().cpu().numpy()

    with tqdm(total=sum(source.steps for source in sources), unit="step", desc="features") as bar:
        database = build(chain.from_iterable(sources), embed, origin, bar.update)
    database.save(arguments.output)
    for key, entries in database.partitions.items():
        print(f"{len(entries):7d} steps: {key}")
    print(f"{len(database)} steps of {len(database.episode_names)} episodes; the database is in {arguments.output}")


def options(arguments: argparse.Namespace):
    """The part of the arguments that tells how to read the sources."""
    from vla_sd_ros.retrieval import DatabaseError
    from vla_sd_ros.retrieval.sources import Options

    closed, opened = arguments.gripper
    if closed == opened:
        raise DatabaseError("--gripper needs two different values, closed and open")
    return Options(
        include_failed=arguments.include_failed, instruction=arguments.instruction, image_topic=arguments.image_topic,
        camera=arguments.camera, action=arguments.action, stride=arguments.stride,
        action_scale=tuple(arguments.action_scale), gripper=(closed, opened),
    )


def upload(database, url: str) -> None:
    """Put a database on a Qdrant server. Raises DatabaseError."""
    from tqdm import tqdm

    from vla_sd_ros.retrieval.qdrant import QdrantDatabase

    server = QdrantDatabase(url, database.origin.fingerprint, api_key=os.environ.get("QDRANT_API_KEY"))
    with tqdm(total=len(database), unit="step", desc="upload") as bar:
        server.upload(database, bar.update)
    print(f"{len(database)} steps in {len(database.partitions)} collections {server.prefix}... on {url}")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
