# SPDX-License-Identifier: Apache-2.0
"""Franka's hand by franky-control."""

import threading
import time
from typing import Any

from vla_sd_ros.drivers import RobotError


class Hand:
    """Franka's hand in a thread of its own: its commands block. The newest wish counts; a running command is let finish,
    for the hand's stop ends whatever moves by then.

    width [m]: between the fingers, as last heard. problem: why the newest command failed; empty where it did not. address: of
    the robot. speed [m/s], force [N]: of all motions. Raises RobotError where no hand answers.
    """

    def __init__(self, franky: Any, address: str, speed: float, force: float):
        self._speed, self._force = speed, force
        self.problem = ""
        try:
            self._gripper = franky.Gripper(address)
            self.width = self._gripper.width
        except Exception as error:
            raise RobotError(f"no hand answers at '{address}' ({told(error)}): hand:=false is for an arm without one") from error
        self._changed, self._ending = threading.Condition(), False
        self._wish: float | None = None  # m
        self._busy = threading.Lock()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._work, self._watch)]
        for thread in self._threads:
            thread.start()

    def want(self, width: float) -> None:
        """Go to a width [m] as soon as the running command has ended; replaces a wish that has not begun."""
        with self._changed:
            self._wish = width
            self._changed.notify()

    def home(self) -> None:
        """Measure the fingers' range anew, which takes seconds. Raises RobotError."""
        with self._busy:
            try:
                if not self._gripper.homing():
                    raise RobotError("the hand's homing did not succeed")
            except RobotError:
                raise
            except Exception as error:
                raise RobotError(f"the hand's homing failed: {told(error)}") from error
            self.problem = ""

    def close(self) -> None:
        """End the threads; waits at most a second for each."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        for thread in self._threads:
            thread.join(1.0)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wish is not None or self._ending)
                if self._ending or self._wish is None:
                    return
                width, self._wish = self._wish, None
            with self._busy:
                try:
                    self.problem = self._act(width)
                except Exception as error:
                    self.problem = f"the hand did not obey: {told(error)}"

    def _act(self, width: float) -> str:
        """Open to a width [m], or grasp what is there; a sentence where that fails."""
        widest = self._gripper.max_width
        if widest <= 0.0:
            return "the hand was not homed since its start, and refuses every width: call ~/home_gripper of franka_driver"
        if width > 0.001:
            return "" if self._gripper.move(min(width, widest), self._speed) else "the hand did not open"
        # The policy does not tell how wide the object is: any width counts as held.
        held = self._gripper.grasp(0.0, self._speed, self._force, epsilon_inner=widest, epsilon_outer=widest)
        return "" if held else "the hand did not close"

    def _watch(self) -> None:
        """The state of the hand comes when it pleases: nobody else may wait for it."""
        while not self._ending:
            try:
                self.width = self._gripper.width
            except Exception as error:
                self.problem = f"no connection to the hand: {told(error)}"
                return
            time.sleep(0.02)


def told(error: Exception) -> str:
    """Franka's own words, without the statistics of the connection that follow them."""
    text = str(error).removeprefix("libfranka: ").partition("control_command_success_rate")[0]
    return " ".join(text.split()).rstrip(".") or type(error).__name__
