# SPDX-License-Identifier: Apache-2.0
"""Whenever a policy changes its mind, a goal fails or somebody stops the hand: the gripper ends where it was wanted last.

Generated: openings that are wanted at any times, with messages that take up to 50 ms, strangers that stop the hand, homing,
objects that come and go, drivers that are started anew, and cancels that a silent server never answers.
"""

import math

from franka_hand import Hand, Server
from hypothesis import given
from hypothesis import strategies as st

from vla_sd_ros.control.gripper import Act, GripperGoals, State

DT, TIMEOUT = 0.005, 10.0
OPEN, CLOSE = 1.0, 0.0


class Bench:
    """GripperGoals, and the driver at the other end of messages that take `latency` [s]."""

    def __init__(self, latency=0.0, hand=None):
        self.hand = hand or Hand()
        self.server, self.now, self.latency = Server(self.hand), 100.0, latency
        self.mail = []  # (due, what to do)
        self.sent, self.cancels = [], set()
        self.drivers, self.silent, self.unfinished = {b"first"}, False, 0
        self.goals = GripperGoals(self)
        self._polled = -math.inf

    def missing(self, act):
        return "" if self.drivers else "nobody is there"

    def servers(self, act):
        return frozenset(self.drivers)

    def begin(self, act, number):
        assert not self.unfinished, "a goal was sent before the one before had ended"
        self.unfinished += not self.silent
        self.sent.append(act)
        arguments = {Act.OPEN: ("move", 0.078), Act.CLOSE: ("grasp", 0.0, 0.1, 0.08, 0.08), Act.HOME: ("homing",)}[act]
        if not self.silent:
            self._later(
                self.server.start, lambda *end: self._later(self._ended, number, *end), lambda: number in self.cancels, *arguments
            )
        self._number = number

    def cancel(self):
        self._later(self.cancels.add, self._number)

    def _ended(self, number, cancelled, success, error):
        self.unfinished -= 1
        self.goals.ended(number, "" if success and not cancelled else error or "it did not succeed")

    def _later(self, what, *arguments):
        self.mail.append((self.now + self.latency, what, arguments))

    def run(self, seconds, wanted=None):
        """Time passes; vla_node wants the same at 5 Hz."""
        end = self.now + seconds
        while self.now < end:
            self.now += DT
            self.server.step(DT)
            due = [entry for entry in self.mail if entry[0] <= self.now]
            self.mail = [entry for entry in self.mail if entry[0] > self.now]
            for _, what, arguments in due:
                what(*arguments)
            if self.now - self._polled >= 0.1:
                self._polled = self.now
                self.goals.poll(self.now, TIMEOUT)
                if wanted is not None:
                    self.goals.want(self.now, wanted, TIMEOUT)

    def start_anew(self):
        """Another driver is in its place, before anybody has seen it gone; somebody has opened the hand."""
        self.drivers = {f"driver {len(self.sent)} {self.now}".encode()}
        self.hand.width, self.hand.holding = self.hand.true_width, False

    def is_(self, opening):
        hand = self.hand
        return hand.width == 0.078 and not hand.holding if opening else hand.holding


actions = st.one_of(st.sampled_from([OPEN, CLOSE]), st.sampled_from(["stop", "home", "object", "nothing", "rest", "anew"]))


@given(
    st.lists(st.tuples(st.floats(0.0, 1.2), actions), min_size=1, max_size=12), st.floats(0.0, 0.05), st.sampled_from([OPEN, CLOSE])
)
def test_the_last_wish_comes_true_and_one_goal_runs_at_a_time(story, latency, last):
    bench = Bench(latency)
    for pause, action in story:
        if action in (OPEN, CLOSE):
            bench.goals.want(bench.now, action, TIMEOUT)
        elif action == "home":
            bench.goals.home(bench.now, TIMEOUT)
        elif action == "rest":
            bench.goals.rest()
        elif action == "stop" and bench.server.goals:  # at rest it would drop what the driver has confirmed: nobody tells
            bench.hand.stop()
        elif action in ("object", "nothing") and bench.hand.width > 0.05 and not bench.hand.running:
            bench.hand.object = 0.04 if action == "object" else None
        elif action == "anew" and not bench.unfinished:  # a hand in the middle of a goal: see the tests of drivers that go away
            bench.start_anew()
        bench.run(pause)
    bench.run(12.0, last)
    assert bench.is_(last), f"{bench.hand}, wanted {last}"
    assert bench.goals.state == (State.OPEN if last else State.CLOSED)
    assert not bench.goals.problem and bench.server.most <= 1


@given(st.floats(0.0, 0.9), st.floats(0.0, 0.05), st.sampled_from([None, 0.04]))
def test_a_change_of_mind_at_any_time_comes_true_within_the_way_back(after, latency, object):
    bench = Bench(latency, Hand(object=object))
    bench.run(after, CLOSE)
    bench.run(0.8 + 0.1 + 0.1 + 4 * latency, OPEN)  # the whole way, two looks at the time and one for a cancel, messages
    assert bench.is_(OPEN) and bench.goals.state == State.OPEN


@given(st.lists(st.sampled_from([OPEN, CLOSE]), max_size=20))
def test_nothing_is_sent_that_is_confirmed(wanted):
    bench = Bench(0.01, Hand(object=0.04))
    for opening in wanted:
        bench.run(1.5, opening)
        assert bench.is_(opening)
    changes = [new for old, new in zip([None, *wanted], wanted) if new != old]
    assert bench.sent == [Act.OPEN if opening else Act.CLOSE for opening in changes]


def test_what_fails_is_tried_again_in_rounds_and_said_until_it_succeeds():
    bench = Bench(hand=Hand(max_width=0.0))
    bench.run(GripperGoals.PAUSE, CLOSE)
    assert bench.goals.problem == "Command failed!" and bench.goals.state == State.UNKNOWN
    assert len(bench.sent) == GripperGoals.ATTEMPTS
    bench.run(10.0)  # nobody wants it any more
    assert len(bench.sent) == GripperGoals.ATTEMPTS and bench.goals.problem
    bench.goals.home(bench.now, TIMEOUT)
    bench.run(3.0, CLOSE)
    assert bench.goals.state == State.CLOSED and bench.hand.holding, "homed, then what is wanted"
    assert not bench.goals.problem and bench.sent[-2:] == [Act.HOME, Act.CLOSE]


def test_a_driver_that_is_silent_is_given_up_and_a_change_of_mind_does_not_wait_for_it():
    bench = Bench()
    bench.silent = True
    bench.run(TIMEOUT + 0.5 * GripperGoals.PAUSE, CLOSE)
    assert "did not return within 10 s" in bench.goals.problem and bench.sent == [Act.CLOSE]
    bench.run(GripperGoals.PAUSE + 0.5, CLOSE)
    assert len(bench.sent) == 2
    bench.silent = False
    bench.run(GripperGoals.ENDING + 1.5, OPEN)
    assert bench.is_(OPEN) and bench.goals.state == State.OPEN and not bench.goals.problem


def test_a_driver_that_goes_away_in_the_middle_is_sent_it_again_when_it_is_back():
    bench = Bench(0.01)
    bench.run(0.3, CLOSE)
    bench.drivers, bench.mail, bench.unfinished = set(), [], 0
    bench.server.goals.clear()
    bench.hand.stop()
    bench.run(5.0, CLOSE)
    assert bench.goals.problem == "nobody is there" and len(bench.sent) == 1
    bench.drivers = {b"first"}
    bench.run(3.0, CLOSE)
    assert bench.goals.state == State.CLOSED and not bench.goals.problem


def test_what_a_driver_has_confirmed_is_forgotten_when_it_goes_away():
    bench = Bench(0.01, Hand(object=0.04))
    bench.run(1.5, CLOSE)
    assert bench.goals.state == State.CLOSED and bench.hand.holding
    bench.drivers = set()
    bench.run(3.0, CLOSE)
    assert bench.goals.state == State.UNKNOWN and bench.goals.problem == "nobody is there"
    bench.start_anew()
    bench.run(6.0, CLOSE)
    assert bench.sent == [Act.CLOSE, Act.CLOSE] and bench.is_(CLOSE)
    assert bench.goals.state == State.CLOSED and not bench.goals.problem


def test_a_driver_that_was_started_anew_is_told_again_though_nobody_saw_the_old_one_go():
    bench = Bench(0.01, Hand(object=0.04))
    bench.run(1.5, CLOSE)
    bench.start_anew()
    bench.drivers.add(b"first")  # killed, and in the graph for some seconds more
    bench.run(1.5, CLOSE)
    assert bench.sent == [Act.CLOSE, Act.CLOSE] and bench.is_(CLOSE)
    bench.drivers.remove(b"first")
    bench.run(1.5, CLOSE)
    assert len(bench.sent) == 2, "the driver that has confirmed it is still there"


def test_at_rest_nothing_begins_and_only_opening_is_asked_for_anew():
    bench = Bench(hand=Hand(object=0.04))
    bench.run(1.5, CLOSE)
    bench.goals.rest()
    bench.run(1.0, CLOSE)
    assert bench.sent == [Act.CLOSE] and bench.hand.holding, "a grasp of what it holds would be answered with false"
    bench.run(1.0, OPEN)
    bench.goals.rest()
    assert bench.goals.state == State.UNKNOWN
    bench.hand.width = 0.02  # by somebody else
    bench.run(1.0)
    assert bench.sent == [Act.CLOSE, Act.OPEN]
    bench.run(1.0, OPEN)
    assert bench.is_(OPEN) and bench.goals.state == State.OPEN


def test_homing_that_was_cut_off_does_not_begin_by_itself_when_the_driver_is_back():
    bench = Bench(hand=Hand(max_width=0.0))
    bench.goals.home(bench.now, TIMEOUT)
    bench.run(0.3)
    bench.drivers, bench.mail, bench.unfinished = set(), [], 0
    bench.run(1.0)
    bench.drivers = {b"first"}
    bench.run(5.0)
    assert bench.sent == [Act.HOME] and bench.goals.problem == "nobody is there"


def test_a_wish_that_is_not_said_again_ends():
    """A driver that comes minutes after the goal moves no finger that nobody wants moved any more."""
    bench = Bench()
    bench.drivers = set()
    bench.run(1.0, CLOSE)
    bench.run(GripperGoals.WISH + 0.5)
    bench.drivers = {b"first"}
    bench.run(5.0)
    assert bench.sent == []
    bench.run(2.0, CLOSE)
    assert bench.goals.state == State.CLOSED
