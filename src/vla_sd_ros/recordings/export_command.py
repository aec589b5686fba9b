# SPDX-License-Identifier: Apache-2.0
"""`vla-sd export`: recordings of any kind as one LeRobot dataset (v3.0), in metres, radians and opening."""

import argparse
import sys

from vla_sd_ros import inputs
from vla_sd_ros.recordings import command as recordings_command

SAME_RATE = 0.1  # share by which the periods of episodes may differ: cameras are not exact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vla-sd export`, and those that say how recordings are read."""
    recordings_command.add_source(parser)
    parser.add_argument("--output", type=inputs.path, required=True, help="folder of the dataset; must not exist yet")
    recordings_command.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the recordings as one LeRobot dataset. Raises BadInput, with one sentence, for what cannot be exported."""
    from tqdm import tqdm

    from vla_sd_ros.recordings import RecordingError
    from vla_sd_ros.recordings.export import export

    if arguments.output.exists():
        raise inputs.BadInput(f"{arguments.output} exists already: give another --output")
    inputs.writable_folder(arguments.output.parent, "--output")
    recordings, inventory = recordings_command.take_stock(arguments, arguments.source)
    periods = sorted(period for period in inventory.periods if period)
    if not periods:
        raise inputs.BadInput("the recordings do not tell their rate, which a dataset must: give --rate")
    if periods[-1] > periods[0] * (1.0 + SAME_RATE):
        raise inputs.BadInput(
            f"the recordings have steps of {periods[0]:g} s to {periods[-1]:g} s, but a dataset has one rate: "
            "export them by themselves"
        )
    judged = all(episode.success is not None for episode in recordings)
    with tqdm(total=inventory.episodes, unit="episode", desc="writing", file=sys.stderr) as bar:
        try:
            made = export(recordings, arguments.output, round(1.0 / periods[0], 3), judged, recordings.skip, bar.update)
        except RecordingError as error:
            raise RecordingError(f"{error}: {'; '.join(recordings.told())}") from error
    recordings_command.tell_skipped(recordings)
    print(
        f"{made.frames} steps of {len(made.episodes)} episodes with {len(made.tasks)} sentences; the dataset is in "
        f"{arguments.output}"
    )
    return 0
