# SPDX-License-Identifier: Apache-2.0
"""What people give to a command, checked before anything begins. No ROS in here.

Each function refuses with one sentence that says what was wrong and what mends it: as BadInput, which `vla-sd` prints, or as
argparse's own error where it reads one argument. Either way the exit code is 2.
"""

import argparse
import math
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

NAMESPACE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*)?")
CHECKPOINT = "libero"  # the shipped policy that is taken where none is named
LARGEST_STEP = (0.25, 1.25)  # m, rad: what action statistics may hold along an axis; more are other units
TOPIC = re.compile(r"(~?/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
LONGEST_NAMESPACE = 200  # characters: ROS allows 255 for the whole name of a topic in it


class BadInput(ValueError):
    """Something given that cannot be used; the message is one sentence that says why and what to do."""


def check_text(arguments: Iterable[str]) -> None:
    """Raises BadInput for an argument that is no UTF-8, which neither ROS nor a file of JSON can carry."""
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise BadInput(
                f"argument {number} is no UTF-8: {argument.encode(errors='surrogateescape')!r}; give it in UTF-8, "
                "as a terminal with LANG=C.UTF-8 writes it"
            ) from error


def whole(low: int, high: int) -> Callable[[str], int]:
    """For argparse: whole numbers from low to high."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from {low} to {high}")
        return value

    return read


def count(text: str) -> int:
    """For argparse: how many of something, at least one."""
    return whole(1, 10**9)(text)


def number(low: float, high: float) -> Callable[[str], float]:
    """For argparse: numbers from low to high."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} must be a number from {low:g} to {high:g}")
        return value

    return read


RATE = number(1e-9, 1.0)  # of learning
PORT = whole(0, 2**16 - 1)  # 0: any free one
SEED = whole(0, 2**32 - 1)  # what numpy takes


def seconds(text: str) -> float:
    """For argparse: a duration [s]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds, 0 or more")
    return value


def instruction(text: str) -> str:
    """For argparse: a sentence that says something, as it is."""
    from vla_sd_ros.instruction import objection

    if wrong := objection(text):
        raise argparse.ArgumentTypeError(f"the instruction {wrong}; say in words what the arm shall do")
    return text


def namespace(text: str) -> str:
    """For argparse: checked_namespace()."""
    try:
        return checked_namespace(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def checked_namespace(text: str) -> str:
    """A ROS namespace, without slashes at its ends, however it was written. Raises BadInput."""
    name = text.strip("/")
    if not NAMESPACE.fullmatch(name) or len(name) > LONGEST_NAMESPACE:
        raise BadInput(f"{text!r} is no ROS namespace: it consists of letters, digits, _ and /, and no part begins with a digit")
    return name


def topic(text: str) -> str:
    """For argparse: checked_topic()."""
    try:
        return checked_topic(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def checked_topic(text: str) -> str:
    """The name of a topic, as ROS allows it. Raises BadInput."""
    if not TOPIC.fullmatch(text):
        raise BadInput(f"{text!r} is no name of a topic: it consists of letters, digits, _ and /, and no part begins with a digit")
    return text


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Declares --checkpoint and --unnorm-key: which policy, and which of its action statistics."""
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="the policy: ./directory, or the name of a shipped one")
    parser.add_argument("--unnorm-key", default="", help="key of its action statistics, where it has several")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Declares --device, --dtype and --quantization: where the policy's weights are, and as what."""
    parser.add_argument("--device", default="cpu", help="torch device: cpu, cuda, cuda:1; under torchrun that of each process")
    parser.add_argument("--dtype", default="", help="of OpenVLA's weights: bfloat16, float16 or float32; default: as stored")
    parser.add_argument("--quantization", default="none", help="of the language model's layers: int8, int4 or fp8")


def add_largest_step(parser: argparse.ArgumentParser) -> None:
    """Declares --largest-step [m] [rad]."""
    parser.add_argument(
        "--largest-step",
        type=number(1e-6, 1e6),
        nargs=2,
        default=LARGEST_STEP,
        metavar=("METRES", "RADIANS"),
        help="what the action statistics may hold along an axis; more are other units, and refused (default: %(default)s)",
    )


def path(text: str) -> Path:
    """For argparse: a path, of which ~ is the home; shells expand it in `--output ~/x`, but not in `--output=~/x`."""
    return expanded(text)


def expanded(path: str | Path) -> Path:
    """With ~ replaced by the home, which is left as it is where nobody knows the home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def writable_folder(folder: Path, option: str) -> Path:
    """The folder, made where it is missing, and tried out. option: how it is chosen. Raises BadInput."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise BadInput(
            f"nothing can be written to the folder {folder} ({error.strerror}): give another one with {option}"
        ) from error


def writable_file(path: Path, option: str) -> Path:
    """The same for a file that is to be written."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder: give the name of a file with {option}")
    writable_folder(path.parent, option)
    return path
