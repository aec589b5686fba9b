# SPDX-License-Identifier: Apache-2.0
"""Bags, MCAP and sqlite, opened in whatever state they were left: without metadata, without definitions, cut short."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from vla_sd_ros.recordings.episode import Damaged, RecordingError

MESSAGE_PACKAGE = "vla_sd_msgs"
STORED = (".mcap", ".db3")
MAGIC = b"\x89MCAP0\r\n"
CHUNK = 0x06  # a record of MCAP: messages and their channels
DATA_END = 0x0F  # the record of MCAP that comes after all messages, before index and footer


def bag_places(path: Path) -> Iterable[Path]:
    """Bags at or below a path: folders with metadata.yaml, or with files of messages that have none; a single file."""
    if path.is_file():
        return [path] if path.suffix in STORED else []
    return {file.parent for pattern in ("metadata.yaml", *(f"*{suffix}" for suffix in STORED)) for file in path.rglob(pattern)}


def message_folder() -> Path:
    """Folder of the installed .msg files of vla_sd_msgs. Raises FileNotFoundError when the package is not installed."""
    spec = find_spec(MESSAGE_PACKAGE)
    if spec is not None and spec.origin:
        for prefix in Path(spec.origin).parents:
            folder = prefix / "share" / MESSAGE_PACKAGE / "msg"
            if folder.is_dir():
                return folder
    raise FileNotFoundError(f"{MESSAGE_PACKAGE} is not installed: run `pip install ./msg` or source the workspace")


def typestore():
    """Types of ROS 2 and of vla_sd_msgs, for writing bags, and for reading those that hold no definitions."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    types = {}
    for path in sorted(message_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"{MESSAGE_PACKAGE}/msg/{path.stem}"))
    store.register(types)
    return store


@contextmanager
def opened(bag: Path) -> Iterator:
    """A rosbags AnyReader of a bag, a folder or one file, with the types that are written in it.

    Where metadata.yaml is missing, damaged or names another storage, what counts are the files; where a recorder was killed,
    what it had written. Raises Damaged where nothing can be read, RecordingError where rosbags is missing.
    """
    try:
        from rosbags.highlevel import AnyReader
    except ImportError as error:
        raise RecordingError(f"reading the bag {bag} needs rosbags: pip install 'vla_sd_ros[data]'") from error
    with ExitStack() as stack:
        try:
            yield _first_that_opens(bag, stack, AnyReader)
        except RecordingError:
            raise
        except Exception as error:  # damaged bytes make rosbags, sqlite and the decompressors raise whatever they come upon
            raise Damaged(
                f"is a bag that cannot be read ({_said(error)}): copy it again from where it was recorded, or let `mcap recover` "
                "or `ros2 bag reindex` mend the original"
            ) from error


def _first_that_opens(bag: Path, stack: ExitStack, any_reader):
    """By its metadata.yaml; without, or where that fails, by its files."""
    files = [bag] if bag.is_file() else sorted(file for file in bag.iterdir() if file.suffix in STORED)
    if (bag / "metadata.yaml").exists():
        try:
            return stack.enter_context(any_reader([bag], default_typestore=_known_types()))
        except Exception:  # as above
            if not files:
                raise
    if not files:
        raise FileNotFoundError(f"{bag} has no bag in it")
    whole = [file if file.suffix != ".mcap" or _ended(file) else stack.enter_context(closed(file)) for file in files]
    return stack.enter_context(any_reader(whole, default_typestore=_known_types()))


def _known_types():
    try:
        return typestore()
    except FileNotFoundError:
        from rosbags.typesys import Stores, get_typestore

        return get_typestore(Stores.ROS2_KILTED)


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _ended(file: Path) -> bool:
    with file.open("rb") as data:
        data.seek(max(0, os.fstat(data.fileno()).st_size - len(MAGIC)))
        return data.read() == MAGIC


@contextmanager
def closed(path: Path) -> Iterator[Path]:
    """A file with the whole chunks of an MCAP file whose recorder was killed."""
    with path.open("rb") as file, NamedTemporaryFile(suffix=".mcap") as closed:
        ends = _ends(file, len(MAGIC), os.fstat(file.fileno()).st_size)
        end = ends[-1]
        if len(ends) > 1 and not _whole(file, ends[-2], end):
            end = ends[-2]
        copied = 0
        while copied < end:
            sent = os.sendfile(closed.fileno(), file.fileno(), copied, end - copied)
            if not sent:
                raise EOFError(f"{path.name} is empty")
            copied += sent
        closed.seek(end)
        closed.write(bytes([DATA_END]) + (4).to_bytes(8, "little") + bytes(4))
        closed.write(bytes([2]) + (20).to_bytes(8, "little") + bytes(20) + MAGIC)  # a footer without index: it is read through
        closed.flush()
        yield Path(closed.name)


def _ends(file: BinaryIO, begin: int, size: int) -> list[int]:
    """Where the records of an MCAP file end that begin here and end before `size`; first of all, `begin` itself."""
    ends = [begin]
    file.seek(begin)
    while len(head := file.read(9)) == 9 and 0 < head[0] < DATA_END and ends[-1] + 9 + _size(head) <= size:
        ends.append(ends[-1] + 9 + _size(head))
        file.seek(ends[-1])
    return ends


def _whole(file: BinaryIO, begin: int, end: int) -> bool:
    """Whether a record was written to its end. The recorder claims its disk ahead, so a chunk can end in zeros."""
    file.seek(begin)
    head = file.read(9 + 28 + 4)  # opcode and length; times, size and checksum of a chunk; length of its compression's name
    if head[0] != CHUNK or any(head[-4:]):
        return True
    first = begin + len(head) + 8
    return _ends(file, first, end)[-1] == end


def _size(head: bytes) -> int:
    """Of a record [bytes], from its opcode and length."""
    return int.from_bytes(head[1:9], "little")
