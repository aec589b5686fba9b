# SPDX-License-Identifier: Apache-2.0
"""`vla-sd send`: an instruction for a running vla_node, through the ordinary action, with progress on one line."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from vla_sd_ros import inputs
from vla_sd_ros.supervisor import Interrupted, Supervisor

MOST_STEPS = 2**32 - 1  # that fit into the goal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command."""
    parser.add_argument("instruction", type=inputs.instruction, help="what the arm shall do, in words")
    parser.add_argument("--namespace", type=inputs.namespace, default="vla", help="namespace of vla_node")
    parser.add_argument("--time-limit", type=inputs.seconds, default=0.0, help="limit [s]; 0: the node's own")
    parser.add_argument("--step-limit", type=inputs.whole(0, MOST_STEPS), default=0, help="limit of actions; 0: the node's own")
    parser.add_argument(
        "--wait", type=inputs.seconds, default=0.0, help="wait so long for vla_node to be active [s], while it loads"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: success. 1: the goal ended otherwise. 2: it never began. 130, 143: stopped by a signal."""
    from vla_sd_ros.environment import start_ros

    start_ros()
    import rclpy

    from vla_sd_ros.client import GoalRejected, InstructionClient

    client = InstructionClient(arguments.namespace, "vla_sd_send")
    with Supervisor({}, Path()) as signals:  # no children: it only turns signals into Interrupted
        try:
            if arguments.wait > 0.0:
                client.wait_until_active(arguments.wait, signals.check)
            result = execute(client, arguments.instruction, signals.check, arguments.time_limit, arguments.step_limit)
        except (GoalRejected, TimeoutError, ConnectionError) as error:
            print(error, file=sys.stderr)
            return 1 if isinstance(error, ConnectionError) else 2  # vla_node is gone in the middle of the goal
        except Interrupted as error:
            print(f"{error}; the goal is cancelled", file=sys.stderr)
            return 128 + error.number
        finally:
            client.close()
            rclpy.try_shutdown()
    ended = f"{result.termination_reason} after {result.steps} steps, {result.elapsed_time:.1f} s."
    print(f"{ended} {result.error_msg}".strip())
    return 0 if result.error_code == result.NONE else 1


def execute(client, instruction: str, check: Callable[[], None], time_limit: float = 0.0, step_limit: int = 0):
    """Send a goal and show progress until it ends; returns its result.

    check: called ten times a second; when it raises, the goal is cancelled first. Also raises what the client does.
    """
    client.start(instruction, time_limit, step_limit)
    try:
        with Progress() as progress:
            while not client.is_complete(timeout=0.1):
                check()
                progress.show(client.feedback)
            progress.show(client.feedback, force=True)
            result = client.result()
            progress.warn(result)
        return result
    finally:
        if client.running:
            cancel(client)


def cancel(client, timeout: float = 1.0) -> None:
    """Cancel the running goal and wait for its end, at most `timeout` [s] for each; a dead node is no error here."""
    try:
        client.cancel(timeout)
        client.result(timeout)
    except (TimeoutError, ConnectionError):
        pass


def warnings(message) -> list[str]:
    """Sentences about a feedback or a result: what the policy does not know, what nobody can judge, a gripper that fails."""
    words, why, gripper = message.unknown_words, message.not_judged, getattr(message, "gripper_message", "")
    return [
        sentence
        for sentence in (
            f"The policy was never trained on these words: {', '.join(words)}." if words else "",
            f"Nobody can tell whether this succeeds: {why}." if why else "",
            f"The gripper: {gripper}." if gripper else "",
        )
        if sentence
    ]


class Progress:
    """One line that is rewritten on a terminal; elsewhere one line every `PERIOD` [s]."""

    PERIOD = 5.0

    def __init__(self):
        self._terminal = sys.stdout.isatty()
        self._next = time.monotonic() + self.PERIOD
        self._said: set[str] = set()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            print(flush=True)

    def warn(self, message) -> None:
        """Say once what a feedback or a result says against the goal."""
        for sentence in warnings(message):
            if sentence not in self._said:
                self._said.add(sentence)
                print(f"\r\033[K{sentence}" if self._terminal else sentence, file=sys.stderr, flush=True)

    def show(self, feedback, force: bool = False) -> None:
        """Show the newest feedback, if there is one; force: now, whatever was shown when."""
        if feedback is None:
            return
        self.warn(feedback)
        decode = feedback.decode
        line = (
            f"step {feedback.step:3d}   {decode.decoder}/{decode.path}   {decode.total_ms:6.1f} ms   {feedback.elapsed_time:5.1f} s"
        )
        if self._terminal:
            print(f"\r{line}\033[K", end="", flush=True)
        elif force or time.monotonic() >= self._next:
            self._next = time.monotonic() + self.PERIOD
            print(line, flush=True)
