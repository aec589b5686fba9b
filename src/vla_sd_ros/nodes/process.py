# SPDX-License-Identifier: Apache-2.0
"""A node as a process: its executor, its signals, its clean end, and what it says where it fails."""

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

# Time that a node has for its clean stop before the process ends regardless [s].
STOP_DEADLINE = 2.0

USAGE = """Parameters, remappings and the namespace are given as to every node:
--ros-args --params-file FILE -p NAME:=VALUE -r FROM:=TO -r __ns:=/NAMESPACE
Each parameter is explained in the files of the package's config folder, and by `ros2 param describe`."""


class Pool(MultiThreadedExecutor):
    """Of threads, for which its end does not wait. rclpy before 7.1.12 never does and has no parameter that says so."""

    def shutdown(self, timeout_sec: float | None = None, *, wait_for_threads: bool = False) -> bool:
        """As Executor does it, without joining the threads, whatever wait_for_threads says."""
        return Executor.shutdown(self, timeout_sec)


def single_threaded() -> Any:
    """The executor written in C++ where rclpy has it: at 100 Hz the other one alone takes a third of a core."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def sentence(error: BaseException) -> str:
    """The error's own sentence where it was written for people, with its type in front where it was not."""
    text = re.sub(r", at /\S+:\d+", "", str(error))  # rcl appends source lines
    written = text and isinstance(error, (ValueError, RuntimeError, OSError))
    return text if written else f"{type(error).__name__}: {text}"


def run(make_node: Callable[[], Any], threads: int = 1, args: list[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM, let it stop cleanly, and end the process.

    Signals are handled here, not by rclpy, which would shut the context down before the last message is out.
    Exit code 0: stopped by a signal. 1: the node could not start (returned) or one of its callbacks failed.
    With --help it only says what the node is.
    """
    given = list(sys.argv[1:] if args is None else args)
    if {"-h", "--help"} & set(given[: given.index("--ros-args")] if "--ros-args" in given else given):
        print(f"{(sys.modules[make_node.__module__].__doc__ or '').strip()}\n\n{USAGE}")
        return 0
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make_node()
    except Exception as error:
        print(f"could not start: {sentence(error)}", file=sys.stderr, flush=True)
        return 1
    executor = single_threaded() if threads == 1 else Pool(threads)
    executor.add_node(node)
    code = 0
    try:
        while not stopping.is_set():
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    except Exception as error:
        node.get_logger().fatal(f"{node.get_name()} stops, because a callback failed: {sentence(error)}")
        node.get_logger().fatal(traceback.format_exc())
        code = 1
    _end(node, executor, code)


def _end(node: Any, executor: Any, code: int) -> NoReturn:
    """Let the node stop cleanly, then end the process."""
    # A callback that never returns (a stuck inference) must not keep the process alive.
    deadline = threading.Timer(STOP_DEADLINE, os._exit, (code,))
    deadline.daemon = True
    deadline.start()
    try:
        node.stop()
        executor.shutdown(timeout_sec=0.5)
        node.destroy_node()
        rclpy.try_shutdown()
    except Exception as error:
        print(f"could not stop cleanly: {sentence(error)}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of a pool that still work would be waited for
