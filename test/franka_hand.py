# SPDX-License-Identifier: Apache-2.0
"""A Franka Hand behind franka_gripper's server, as its source of jazzy 29cb85a has it, with time that a test lets pass.

The server takes every goal at once into a thread of its own, which returns when the hand has done it, and looks for a cancel
every 33 ms; it answers a cancel with stop(), which stops whatever the hand does THEN, and which lets go of what it holds.
The hand knows one command at a time. What a new one does to the one before is documented nowhere; here it takes over the
fingers, and both are answered when they come to rest, so that a stop for the one hits the other. The hand refuses widths
beyond max_width, which is 0 until homing has measured it and is published nowhere. A grasp while it holds returns false.
"""

from dataclasses import dataclass, field

POLL = 0.033  # s
ACCURACY = 1e-6  # m


@dataclass
class Hand:
    """width, max_width, object: [m] between the fingers; object None: nothing is there."""

    true_width: float = 0.0795
    max_width: float = 0.0795
    width: float = 0.0795
    object: float | None = None
    holding: bool = False
    running: list | None = None  # what it does: [name, target [m], speed [m/s], outcome or None]
    replaced: list = field(default_factory=list)  # commands before that one which were not answered yet

    def command(self, name, target=0.0, speed=0.1, inner=0.0, outer=0.0):
        """Begin; the list's last entry becomes (success, error) when it has ended."""
        begun = [name, target, speed, None]
        if name == "grasp" and self.holding:
            begun[3] = False, ""
        elif name != "homing" and not 0.0 <= target <= self.max_width + ACCURACY:
            begun[3] = False, "Command failed!"
        elif name == "grasp" and self.max_width == 0.0:
            begun[3] = False, "Command failed!"
        else:
            self.replaced += [self.running] if self.running else []
            self.running, self.holding, self._epsilon = begun, False, (inner, outer)
            if name == "homing":
                self.running[1] = 0.0
        return begun

    def stop(self):
        self.holding = False
        self._end(False, "Command aborted!")

    def step(self, dt):
        if self.running is None:
            return
        name, target, speed, _ = self.running
        way = max(-speed * dt, min(speed * dt, target - self.width))
        blocked = self.object is not None and way < 0.0 and self.width + way <= self.object <= self.width
        self.width = self.object if blocked else self.width + way
        if not blocked and abs(self.width - target) > ACCURACY:
            return
        if name == "homing" and target == 0.0:
            self.running[1] = self.true_width  # closed, now open
        elif name == "homing":
            self.max_width = self.true_width
            self._end(True)
        elif name == "move":
            self._end(not blocked)
        else:
            inner, outer = self._epsilon
            self.holding = target - inner < self.width < target + outer
            self._end(self.holding)

    def _end(self, success, error=""):
        if self.running is not None:
            self.running[3], self.running = (success, error), None
        while self.replaced:
            self.replaced.pop()[3] = False, "Command aborted!"


@dataclass
class Goal:
    """One goal at the server. `ended` is called with (cancelled, success, error)."""

    command: list
    ended: object
    since: float = 0.0
    cancelling: object = lambda: False


@dataclass
class Server:
    hand: Hand
    goals: list = field(default_factory=list)
    most: int = 0  # goals that ran side by side

    def start(self, ended, cancelling, *arguments):
        self.goals.append(Goal(self.hand.command(*arguments), ended, cancelling=cancelling))
        self.most = max(self.most, len(self.goals))

    def step(self, dt):
        self.hand.step(dt)
        for goal in list(self.goals):
            goal.since += dt
            cancelled = False
            if goal.command[3] is None and goal.since >= POLL:
                goal.since = 0.0
                if cancelled := goal.cancelling():
                    self.hand.stop()
            if goal.command[3] is None and cancelled:
                goal.command[3] = False, "Command aborted!"
            if goal.command[3] is not None:
                self.goals.remove(goal)
                goal.ended(cancelled, *goal.command[3])
