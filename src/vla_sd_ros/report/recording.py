# SPDX-License-Identifier: Apache-2.0
"""One bag a goal, of what a node hears: opened when a goal begins, closed when it is over and somebody has judged it. No ROS.

A bag begins a moment before its goal, because the first step was decided on an image from then, and with the newest of what is
said rarely. After the goal it waits for a verdict, and holds nothing but that.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rosbags.rosbag2 import WriterError

from vla_sd_ros.report.bag import EpisodeWriter, Topic
from vla_sd_ros.runs import new_run_folder

BEFORE = 1.5  # s of a bag before its goal; an image may be 1 s old
TAIL = 1.2  # s after it: the arm comes to rest, one more /diagnostics
VERDICT = "task_success"  # last part of its name
NO_ROOM = "there is no more room for the recording ({}); what was recorded until now can be read, and the next goal is tried again"
GONE = "the folder {} is gone, and with it what was recorded of this goal; the next goal has a new one"


@dataclass
class Run:
    """A goal that is or was recorded. writer: None where it cannot be any more. success: None: nobody has judged it."""

    folder: Path
    instruction: str
    began: float
    writer: EpisodeWriter | None = None
    ended: float | None = None
    success: bool | None = None
    steps: int = 0


class GoalBags:
    """The bags of one goal after the other, below `folder`. Times [s] are of any steady clock.

    topics: absolute name to Topic. patience: how long a goal that is over waits for a verdict [s]. done: told the folder of each
    goal whose bag is closed. tell: told what people should know, one sentence.
    """

    def __init__(
        self, folder: Path, topics: dict[str, Topic], patience: float, done: Callable[[Path], object], tell: Callable[[str], object]
    ):
        self._folder, self._topics, self._patience, self._done, self._tell = folder, topics, patience, done, tell
        self._before: deque[tuple[float, str, int, bytes]] = deque()
        self._kept: dict[str, bytes] = {}  # the newest of each topic that is said rarely
        self.run: Run | None = None

    def hear(self, name: str, stamp: int, data: bytes, now: float) -> None:
        """A message in serialized form; stamp: time of reception [ns]."""
        if self._topics[name].latched or name.endswith("/camera_info"):
            self._kept[name] = data
        run = self.run
        if run is None or run.ended is not None:
            self._before.append((now, name, stamp, data))
            while self._before[0][0] < now - BEFORE:
                self._before.popleft()
        if run is not None and (run.ended is None or now < run.ended + TAIL or name.endswith(VERDICT)):
            run.steps += name.endswith("/decode")
            self._write(name, stamp, data)

    def begin(self, instruction: str, stamp: int, now: float) -> None:
        """A goal has begun; what was recorded before is over."""
        self._finish()
        folder = new_run_folder(self._folder)
        self.run = run = Run(folder, instruction, now)
        self._summarise(run)
        try:
            run.writer = EpisodeWriter(folder / "episode", self._topics)
        except (WriterError, OSError) as error:
            self._tell(NO_ROOM.format(error))
            return
        first = self._before[0][2] if self._before else stamp
        for name, data in self._kept.items():
            if not name.endswith(VERDICT):  # an old one is none of this goal
                self._write(name, first, data)
        for _, name, then, data in self._before:
            if not (self._topics[name].latched or name.endswith(("/decode", "/command"))):
                self._write(name, then, data)
        self._before.clear()

    def end(self, now: float) -> None:
        """The goal is over."""
        if self.run is not None and self.run.ended is None:
            self.run.ended = now

    def judge(self, success: bool) -> None:
        """Somebody has said whether the goal that is recorded succeeded."""
        if self.run is not None:
            self.run.success = success

    def tick(self, now: float) -> None:
        """Close what is over: when it is judged, and has come to rest, or when nobody will judge it any more."""
        run = self.run
        if run is None or run.ended is None:
            return
        if now > run.ended + (TAIL if run.success is not None else max(self._patience, TAIL)):
            self._finish()

    def close(self) -> None:
        """Nothing more is heard."""
        self._finish()

    def _write(self, name: str, stamp: int, data: bytes) -> None:
        run = self.run
        if run is None or run.writer is None:
            return
        try:
            run.writer.write(name, stamp, data)
        except OSError as error:
            if not self._close(run):
                self._tell(NO_ROOM.format(error.strerror))

    def _finish(self) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        told = self._close(run)
        if run.folder.is_dir():
            self._summarise(run)
            self._done(run.folder)
        elif not told:
            self._tell(GONE.format(run.folder))

    def _close(self, run: Run) -> bool:
        """End the bag; whether it was told that this failed. Whatever becomes of one goal, the next is recorded."""
        writer, run.writer = run.writer, None
        try:
            if writer is not None:
                writer.close()
        except (WriterError, OSError) as error:
            self._tell(
                f"the bag in {run.folder} cannot be completed ({getattr(error, 'strerror', None) or error})"
                if run.folder.is_dir()
                else GONE.format(run.folder)
            )
            return True
        return False

    def _summarise(self, run: Run) -> None:
        """summary.json as far as it is known; vla-sd report adds to it."""
        outcome = {
            "instruction": run.instruction,
            "success": run.success,
            "steps": run.steps,
            "elapsed": None if run.ended is None else round(run.ended - run.began, 3),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "recorded_by": "vla-sd record",
        }
        try:
            (run.folder / "summary.json").write_text(json.dumps(outcome, indent=2) + "\n")
        except OSError as error:
            self._tell(f"{run.folder / 'summary.json'} cannot be written ({error.strerror})")
