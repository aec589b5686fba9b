# SPDX-License-Identifier: Apache-2.0
"""Folders of runs, one a goal, named for the time."""
from datetime import datetime
from pathlib import Path

from vla_sd_ros.inputs import BadInput


def new_run_folder(output: Path) -> Path:
    """A new folder below `output`, named for the time. Raises BadInput where it cannot be made."""
    stem = output / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for folder in [stem, *(Path(f"{stem}_{i}") for i in range(2, 100))]:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise BadInput(f"{folder} cannot be made: there is a file; give another --output-dir") from None
        except OSError as error:
            raise BadInput(f"{folder} cannot be made: {error.strerror}; give another --output-dir") from error
    raise BadInput(f"{stem} exists already")
