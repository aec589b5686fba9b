# SPDX-License-Identifier: Apache-2.0
"""Keys of the operator: single ones on a terminal, characters of whatever else the input is."""

import os
import select
import sys
import termios
import tty

from vla_sd_ros.inputs import BadInput


class Keys:
    """Use as a context manager: the terminal is as it was thereafter."""

    def __enter__(self) -> "Keys":
        self._input = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._input) if os.isatty(self._input) else None
        if self._before:
            tty.setcbreak(self._input)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def pressed(self, among: str) -> str:
        """One of these keys, where it was pressed since the last look; else nothing. BadInput where nobody can press any."""
        while select.select([self._input], [], [], 0.0)[0]:
            key = os.read(self._input, 1).decode(errors="replace").lower()
            if not key:
                raise BadInput(
                    "nobody is at the keyboard to say how a trial ended; run it on a terminal, or make a study with --outcome "
                    "task_success"
                )
            if key in among:
                return key
        return ""
