# SPDX-License-Identifier: Apache-2.0
"""goal_recorder: a bag, a video, a figure and a summary of each goal that vla_node executes, whoever sent it.

An operator says whether a goal succeeded: by the service ~/mark, or by the keys s (success) and f (failure) where the node has a
terminal. While the goal runs that ends it; afterwards it is what the recording says of it. Bags, not reports, are what counts: they
are whole when the disk is full, and readable up to its last chunk when the node is killed.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from rclpy.serialization import deserialize_message
from std_srvs.srv import SetBool
from vla_sd_msgs.msg import RunningGoal, TaskSuccess

from vla_sd_ros.messages.qos import LATCHED
from vla_sd_ros.nodes.parameters import OK, STEADY, ParameterSpec, PlainNode
from vla_sd_ros.nodes.process import run
from vla_sd_ros.nodes.recorder import subscribe
from vla_sd_ros.report.bag import EPISODE_TOPICS
from vla_sd_ros.report.recording import GoalBags

KEYS = {b"s": True, b"f": False}
TICK = 0.1  # s


class GoalRecorder(PlainNode):
    """Records goals until it is stopped; closes the bag of the running one then."""

    TABLE = (
        ParameterSpec("folder", "runs", "Folder for the runs, one a goal.", read_only=True),
        ParameterSpec("patience", 60.0, "Time for which a goal that is over waits for somebody to judge it [s].", 0.0, 3600.0),
    )

    def __init__(self, name: str = "goal_recorder", **options):
        super().__init__(name, **options)
        topics = {self.resolve_topic_name(topic.name): topic for topic in EPISODE_TOPICS}
        self._bags = GoalBags(Path(self.values["folder"]).expanduser(), topics, self.values["patience"], self._report, self._tell)
        self._reports: deque[Path] = deque()
        self._reporting: subprocess.Popen | None = None
        self._verdicts = self.create_publisher(TaskSuccess, "task_success", LATCHED)
        self._goal = RunningGoal()
        self._names = {
            self.resolve_topic_name(name): heard for name, heard in (("goal", self._on_goal), ("task_success", self._on_success))
        }
        self._subscriptions_made = [
            subscribe(self, topic, resolved, partial(self._hear, resolved)) for resolved, topic in topics.items()
        ]
        self.create_service(SetBool, "~/mark", self._on_mark)
        self.create_timer(TICK, self._tick, clock=STEADY)
        self._keys: SimpleQueue[bool] = SimpleQueue()
        self._terminal = Terminal(self._keys) if sys.stdin and sys.stdin.isatty() else None
        self.get_logger().info(
            f"recording goals below {self.values['folder']}"
            + ("; press s where one succeeded, f where it failed" if self._terminal else "")
        )

    def _hear(self, name: str, data: bytes) -> None:
        now = time.monotonic()
        self._bags.hear(name, time.time_ns(), data, now)
        if name in self._names:
            self._names[name](data, now)

    def _on_goal(self, data: bytes, now: float) -> None:
        message = deserialize_message(data, RunningGoal)
        if not message.instruction:
            self._bags.end(now)
        elif message.goal_id != self._goal.goal_id:
            self._goal = message
            try:
                self._bags.begin(message.instruction, time.time_ns(), now)
            except ValueError as error:
                self._tell(str(error))

    def _on_success(self, data: bytes, now: float) -> None:
        state = deserialize_message(data, TaskSuccess).state
        if state in (TaskSuccess.SUCCESS, TaskSuccess.FAILURE) and self._bags.run is not None:
            self._bags.judge(state == TaskSuccess.SUCCESS)

    def _on_mark(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = self.mark(request.data)
        return response

    def mark(self, success: bool) -> tuple[bool, str]:
        """The operator's verdict on the goal that runs, or on the one that is over and waits for it; whether there is one, and
        what became of it in words."""
        run = self._bags.run
        if run is None:
            return False, "there is no goal to judge: none runs, and the last one waits no longer"
        verdict = TaskSuccess(
            instruction=run.instruction,
            state=TaskSuccess.SUCCESS if success else TaskSuccess.FAILURE,
            message="" if success else "the operator says that it failed",
        )
        verdict.header.stamp = self.get_clock().now().to_msg()
        self._verdicts.publish(verdict)  # heard by vla_node, and by this node, which writes it down
        said = f"'{run.instruction}': {'success' if success else 'failure'}"
        self.get_logger().info(said)
        return True, said

    def _tick(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self.mark(self._keys.get_nowait())
        for made in self._subscriptions_made:
            if made is not None:
                made.look()
        self._bags.tick(time.monotonic())
        if self._reports and (self._reporting is None or self._reporting.poll() is not None):
            folder = self._reports.popleft()
            self.get_logger().info(f"recorded {folder}")
            self._reporting = subprocess.Popen(
                ["nice", sys.executable, "-m", "vla_sd_ros.cli", "report", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _report(self, folder: Path) -> None:
        self._reports.append(folder)

    def _tell(self, sentence: str) -> None:
        self.get_logger().error(sentence)

    def diagnose(self) -> tuple:
        run = self._bags.run
        state = "idle" if run is None else "recording" if run.ended is None else "waiting for a verdict"
        return OK, state, {"goal": run.instruction if run else "none", "folder": str(run.folder) if run else "none"}

    def stop(self) -> None:
        if self._terminal:
            self._terminal.close()
        self._bags.close()
        for folder in self._reports:
            self.get_logger().info(f"recorded {folder}; vla-sd report {folder} makes its video and figure")


class Terminal:
    """Single keys of the terminal, read by a thread, as verdicts in a queue."""

    def __init__(self, verdicts: SimpleQueue):
        import termios
        import tty

        self._file, self._verdicts = sys.stdin.fileno(), verdicts
        before = termios.tcgetattr(self._file)
        self._restore = lambda: termios.tcsetattr(self._file, termios.TCSADRAIN, before)
        tty.setcbreak(self._file)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # a terminal that is closed says so in this way
            while key := os.read(self._file, 1):  # not by sys.stdin, whose lock a waiting thread would keep
                if key in KEYS:
                    self._verdicts.put(KEYS[key])

    def close(self) -> None:
        """As the terminal was."""
        self._restore()


def main() -> int:
    """Entry point of the process goal_recorder."""
    os.nice(5)  # recording may wait, control may not
    return run(GoalRecorder)


if __name__ == "__main__":
    main()
