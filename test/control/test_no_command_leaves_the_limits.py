# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in, every output is inside the workspace, within velocity, acceleration and jerk, within the margins and
speeds of the joints and no nearer to a singular posture than allowed; it is continuous, and at rest within the documented
time after the last command.

Generated: stories of an arm, Panda or WidowX 250 S, in turns. In each one a command comes (of any size, not finite, of
another goal, late, in another frame) or does not, parameters change, something blocks, and time passes in steps of any
length, while the arm follows late, stands still, strays, jumps, is measured by two publishers or at another tip, or says
nothing that makes sense. A step is one output. Where the joint states are watched, as arm_node does, a run of outputs begins
where the arm is, though its joint states lie.
20,000 of them in `make test`, a million with --hypothesis-profile nightly.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pinocchio import exp3

from vla_sd_ros.control import one_master
from vla_sd_ros.control.codes import Code, Fault
from vla_sd_ros.control.controller import LONGEST_TICK, ArmController, Command, Config
from vla_sd_ros.control.joint_states import OUTSIDE, TIP, TIP_SPEED, JointStateWatch, admit
from vla_sd_ros.control.reach import SLACK, JointLimits
from vla_sd_ros.control.tracker import Limits
from vla_sd_ros.kinematics.pose import Pose

sys.path.insert(0, str(Path(__file__).parents[1] / "kinematics"))
from arms import PANDA, WX250S  # noqa: E402

STEPS_PER_EXAMPLE = 200  # on the average; examples are added until there are as many
STARTS = [
    (PANDA, PANDA.home),
    (PANDA, [0.0, 0.3, 0.0, -0.5, 0.0, 1.0, 0.785]),  # nearly stretched
    (PANDA, [2.8, -0.2, 0.0, -2.4, 0.0, 2.2, 0.785]),
    (PANDA, [0.5, 0.4, -0.3, -2.95, 0.2, 3.65, 2.8]),  # near limits
    (WX250S, WX250S.home),
    (WX250S, [0.0] * 6),
    (WX250S, [0.0, -1.8, 1.55, 0.0, 0.8, 0.0]),  # singular; asleep
    (WX250S, [0.3, 0.4, 0.3, 0.2, -0.3, 0.0]),
    (WX250S, [3.1, -0.6, 0.5, 0.1, 2.1, 3.1]),
]
KINEMATICS = {chain.name: chain.kinematics() for chain in (PANDA, WX250S)}

RANDOM = np.random.default_rng(0)
DIRECTIONS = [np.zeros(3), *np.eye(3), *-np.eye(3), *RANDOM.normal(0.0, 0.6, (40, 3))]
SIZES = [0.004, 0.02, 0.05, 0.05, 0.1, 3.0]
BROKEN = [
    {"translation": np.array([0.0, np.nan, 0.0])},
    {"rotation": np.full(3, np.inf)},
    {"gripper": np.nan},
    {"translation": np.full(3, 1e308)},
    {"period": 0.0},
    {"period": np.nan},
    {"frame": "world"},
    {"age": -9.0},
    {"hold": True},
]
COMMANDS = [{}] * 24 + BROKEN
LIMITS = [
    Limits(0.6, 5.0, 300.0, 2.5, 20.0, 1200.0),
    Limits(0.4, 2.0, 100.0, 1.5, 8.0, 400.0),
    Limits(0.05, 1.0, 50.0, 0.2, 4.0, 200.0),
    Limits(2.0, 12.0, 900.0, 4.0, 30.0, 3000.0),
]
BOXES = [
    (np.full(3, -2.0), np.full(3, 2.0)),
    (np.array([0.1, -0.3, 0.05]), np.array([0.6, 0.3, 0.6])),
    (np.array([0.2, -0.1, 0.1]), np.array([0.5, 0.05, 0.5])),
]
JOINTS = [JointLimits(), JointLimits(0.2, 0.3, 0.4, 0.12, 0.06), JointLimits(0.0, 0.01, 1.0, 0.02, 0.005)]
CHANGES = (
    [{"limits": limits} for limits in LIMITS]
    + [{"joints": joints} for joints in JOINTS]
    + [{"workspace_low": low, "workspace_high": high} for low, high in BOXES]
    + [{"action_scale": 0.3}, {"blend_in": 0.0}, {"max_translation": 0.2, "max_rotation": 1.0}]
)
EVENTS = [None] * 20 + ["hold", "block", "fault", "forget"]
ARM = ["follows"] * 8 + ["stands", "strays", "jumps", "slips", "turns", "offset", "not finite", "silent"]
OFFSET = Pose(np.array([0.0, 0.02, -0.1034]), exp3(np.array([0.0, 0.1, np.pi / 4])))  # of another tip's pose
TICKS = [0.01] * 10 + [0.005, 0.02, 0.037, 0.0, 0.3]  # of a steady clock
WINDOW = 1.0  # s: longer than any of these limits takes to stop, for what was adopted before a change

turns = st.tuples(
    st.sampled_from(COMMANDS),
    st.booleans(),
    st.sampled_from(DIRECTIONS),
    st.sampled_from(SIZES),
    st.sampled_from(DIRECTIONS),
    st.sampled_from([0.0, 0.05, 0.25, 2.0]),
    st.sampled_from([1] * 12 + [2, 3]),
    st.sampled_from([1, 3, 10, 15, 20, 20, 60]),
    st.sampled_from(TICKS),
    st.sampled_from(ARM),
    st.sampled_from(EVENTS),
    st.sampled_from([{}] * 40 + CHANGES),
)
stories = st.tuples(
    st.sampled_from(STARTS),
    st.sampled_from(CHANGES),
    st.sampled_from(CHANGES),
    st.sampled_from(CHANGES),
    st.integers(0, 9),
    st.booleans(),
    st.sampled_from([0.0, one_master.PACE]),
    st.lists(turns, min_size=30, max_size=40),
)


class Story:
    """An arm, its controller, and the record of every output: time step, pose, joints, and the limits in force."""

    def __init__(self, chain, joints, config, jitter, watched=False):
        self.kinematics, self.now, self.step = KINEMATICS[chain.name], 100.0, 0
        lower, upper = self.kinematics.position_limits
        jitters = np.random.default_rng(jitter).normal(0.0, 0.04 if jitter else 0.0, len(joints))
        self.commanded = [np.clip(np.array(joints) + jitters, lower - 0.05, upper + 0.05)]
        self.strayed, self.lie, self.slips, self.by_turns = np.zeros(len(joints)), np.zeros(len(joints)), 0, False
        self.watched, self.watch = watched, self.a_watch()
        self.begun = []  # how far from the arm each run began [m], and how far it may, with so many slips too small to be seen
        self.heard = self.now  # when there were joint states last [s]
        self.controller = ArmController(config, self.now)
        self.controller.kinematics = self.kinematics
        self.delta = np.zeros(3), np.zeros(3)
        self.runs, self.tracker = [], None
        self.from_offset, self.offset = [], False  # of each run: whether it began at a pose that is not that of the joints
        self.measure("follows")

    def a_watch(self):
        kinematics = self.kinematics
        limits = *kinematics.position_limits, kinematics.velocity_limits
        return JointStateWatch(kinematics.joint_names, *limits, lambda q: kinematics.forward(q)[0])

    def vouch(self):
        """The arm stands as its joint states say."""
        self.strayed, self.lie, self.slips = self.strayed + self.lie, 0.0 * self.lie, 0
        self.watch = self.a_watch()
        self.measure("follows")

    def measure(self, how):
        """The arm is late by five steps, or worse."""
        late = self.commanded[max(0, len(self.commanded) - 6)]
        if self.watched and self.now - self.heard > LONGEST_TICK and how in ("jumps", "slips", "turns"):
            how = "follows"  # where joint states are seldom, an arm may go as far between two of them
        if how == "strays":
            self.strayed = self.strayed + 0.01 * np.sin(np.arange(1.0, len(late) + 1.0))
        elif how == "jumps":
            self.lie = self.lie + np.resize([0.3, -0.2, 0.1, 0.25], len(late))
        elif how == "slips":
            self.lie, self.slips = self.lie + np.eye(len(late))[1] * 0.09, self.slips + 1
        if how == "stands":
            self.commanded = [self.commanded[max(0, len(self.commanded) - 6)]] * 6
            late = self.commanded[-1]
        if how == "silent":
            return
        arm = late + self.strayed
        late = arm + self.lie
        self.by_turns = not self.by_turns
        if how == "turns" and self.by_turns:  # a second publisher
            late = late + 0.09
        lower, upper = self.kinematics.position_limits
        if ((late < lower - OUTSIDE) | (late > upper + OUTSIDE)).any():
            return  # refused before the controller sees them
        self.arm, self.heard = arm, self.now
        pose = Pose(*self.kinematics.forward(late))
        self.offset = how == "offset" and not self.watched
        if self.offset:  # the controller moves another frame
            pose = Pose(pose.position + pose.rotation @ OFFSET.position, pose.rotation @ OFFSET.rotation)
        if how == "not finite":
            pose, late = Pose(np.full(3, np.nan), pose.rotation), np.full(len(late), np.nan)
        if not self.watched or admit(self.watch, self.controller, late, self.now, self.now):
            self.controller.measure(pose, self.now, late)

    def turn(self, drawn):
        broken, again, direction, size, axis, angle, goal, ticks, dt, how, event, change = drawn
        controller = self.controller
        controller.config = replace(controller.config, **change)
        if event == "hold":
            controller.hold("a test")
        elif event == "block":
            controller.block("test", Fault(Code.HELD, "a test"))
        elif event == "fault":
            controller.end(Fault(Code.ROBOT_FAULT, "a test"))
        elif event == "forget":
            controller.release("a test")
            self.strayed, self.lie, self.slips = 0.0 * self.strayed, 0.0 * self.lie, 0
            self.watch.forget()
            self.measure("follows")
        self.delta = self.delta if again else (size * direction, angle * axis)
        while self.watched and bytes([goal]) in controller._ended and goal < 200:  # begin anew, wherever the arm is said to be
            goal += 10
        self.step += 1
        command = Command(bytes([goal]), self.step, "panda_link0", False, *self.delta, 1.0, 0.2)
        controller.command(replace(command, **broken), self.now)
        for _ in range(ticks):
            self.tick(dt, how)
            how = "follows" if how in ("jumps", "slips") else how
        controller.unblock("test")
        controller.recover()
        if self.watch.lost and again:
            self.vouch()

    def tick(self, dt, how):
        self.now += dt
        pose = self.controller.tick(self.now)
        if pose is not None:
            if self.controller._tracker is not self.tracker:
                self.runs.append([])
                self.from_offset.append(self.offset)
                self.tracker = self.controller._tracker
                away = np.linalg.norm(pose.position - self.kinematics.forward(self.arm)[0])
                self.begun.append((away, TIP * (1 + self.slips) + TIP_SPEED * LONGEST_TICK))
            joints = self.controller.joints
            assert np.isfinite(joints).all() and np.isfinite(pose.position).all() and np.isfinite(pose.rotation).all()
            self.runs[-1].append((min(max(dt, 0.0), LONGEST_TICK), pose, joints, self.controller.config))
            self.commanded.append(joints)
        self.measure(how)

    def settle(self):
        """No more commands: at rest within the documented time, and from there on."""
        slowest = max(limits.stopping_time() for limits in LIMITS)  # that of a braking may be from before a change
        for _ in range(int(np.ceil((self.controller.config.command_timeout + slowest) / 0.02)) + 1):
            self.tick(0.02, "follows")
        assert self.controller.at_rest, self.controller.status(self.now)
        before = sum(map(len, self.runs))
        for _ in range(3):
            self.tick(0.02, "follows")
        if sum(map(len, self.runs)) > before:
            last = [pose.position for _, pose, _, _ in self.runs[-1][-4:]]
            np.testing.assert_allclose(last, last[:1] * 4, atol=1e-7)


def outputs(run):
    """What changes from output to output, where time passed: dt (n,), displacements (n, 6), joints (n + 1, m), ..."""
    moved = [run[0]] + [entry for entry in run[1:] if entry[0] > 0.0]
    for before, after in zip(run, run[1:]):
        if after[0] == 0.0:
            np.testing.assert_array_equal(before[1].position, after[1].position)
    dt = np.array([entry[0] for entry in moved[1:]])
    steps = np.array([one[1].displacement_to(other[1]) for one, other in zip(moved, moved[1:])]).reshape(-1, 6)
    return dt, steps, moved


def in_force(moved, dt, of, choose):
    """The least strict of a limit over the last WINDOW, at each output (n + 1, ...)."""
    return recent(np.array([of(entry[3]) for entry in moved], dtype=float), dt, choose)


def recent(values, dt, choose):
    """The least or the greatest of values (n + 1, ...) over the last WINDOW, at each output."""
    times = np.concatenate([[0.0], np.cumsum(dt)])
    if (values == values[0]).all():
        return values
    first = np.searchsorted(times, times - WINDOW)
    return np.array([choose(values[begin : end + 1], axis=0) for end, begin in enumerate(first)])


def assert_motion_within_limits(moved, dt, steps):
    positions = np.array([entry[1].position for entry in moved])
    low = in_force(moved, dt, lambda config: config.workspace_low, np.min)[1:]
    high = in_force(moved, dt, lambda config: config.workspace_high, np.max)[1:]
    # Where it is outside already it goes no farther out than it has just been.
    assert (positions[1:] >= np.minimum(low, recent(positions[:-1], dt[:-1], np.min)) - 1e-7).all(), "left the workspace"
    assert (positions[1:] <= np.maximum(high, recent(positions[:-1], dt[:-1], np.max)) + 1e-7).all(), "left the workspace"
    for part, kind in ((slice(0, 3), "linear"), (slice(3, 6), "angular")):
        velocity, acceleration, jerk = (
            in_force(moved, dt, lambda config, of=of: getattr(config.limits, f"{kind}_{of}"), np.max)
            for of in ("velocity", "acceleration", "jerk")
        )
        speeds = steps[:, part] / dt[:, None]
        assert (np.linalg.norm(speeds, axis=1) <= velocity[1:] * (1 + 1e-6)).all(), f"{kind} velocity"
        # Mean speeds of two steps lie half of each apart, mean accelerations a third of three.
        between = (dt[1:] + dt[:-1]) / 2.0
        rates = np.diff(speeds, axis=0) / between[:, None]
        # Rotations do not commute: a step's rotation vector differs from the integral of the rates by a second order.
        turned = 0.0 if kind == "linear" else velocity[2:] ** 2 * between
        assert (np.linalg.norm(rates, axis=1) <= acceleration[2:] * (1 + 1e-6) + turned + 1e-6).all(), f"{kind} acceleration"
        if kind == "linear" and len(rates) > 1:
            apart = (dt[2:] + dt[1:-1] + dt[:-2]) / 3.0
            jerks = np.linalg.norm(np.diff(rates, axis=0), axis=1) / apart
            assert (jerks <= jerk[3:] * (1 + 1e-6) + 1e-3).all(), "jerk"


def assert_joints_within_limits(kinematics, moved, dt):
    joints = np.array([entry[2] for entry in moved])
    lower, upper = kinematics.position_limits
    share = in_force(moved, dt, lambda config: config.joints.velocity_share, np.max)[1:, None]
    used = np.abs(np.diff(joints, axis=0)) / (share * kinematics.velocity_limits * dt[:, None])
    assert (used <= 1.0).all(), f"{used.max():.3f} of the speed that joint {used.max(axis=0).argmax()} may have"
    singular = [np.linalg.svd(kinematics.jacobian(q), compute_uv=False)[-1] for q in joints]
    room = np.column_stack([joints - lower, upper - joints, singular])
    slack = np.array([SLACK[0]] * (2 * len(lower)) + [SLACK[1]]) + 1e-9
    floors = [
        in_force(
            moved,
            dt,
            lambda config: [config.joints.position_margin] * (2 * len(lower)) + [config.joints.singularity_hold_below],
            choose,
        )
        for choose in (np.min, np.max)
    ]
    best = room[0].copy()
    for here, lowest, highest in zip(room, *floors):
        if (lowest != highest).any():  # limits have just been changed
            best = np.minimum(best, here)
        short = here < np.minimum(lowest, best - slack)
        assert not short.any(), f"room {here[short]} of {np.flatnonzero(short)}, floor {lowest[short]}, had {best[short]}"
        best = np.maximum(best, here)


def assert_joints_are_of_the_poses(kinematics, moved):
    for _, pose, joints, _ in moved[::7]:
        apart = pose.displacement_to(Pose(*kinematics.forward(joints)))
        assert np.abs(apart).max() < 1e-4


def test_no_command_leaves_the_limits(monkeypatch):
    steps = commands = 0

    @settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(stories)
    def check(drawn):
        nonlocal steps, commands
        (chain, joints), *changes, jitter, watched, pace, turns = drawn
        monkeypatch.setattr(one_master, "PACE", pace)  # with 0.0 none is refused because they come too fast
        config = Config(blend_in=0.1)
        for change in changes:
            config = replace(config, **change)
        story = Story(chain, joints, config, jitter, watched)
        for turn in turns:
            story.turn(turn)
        story.settle()
        assert not watched or all(away <= most for away, most in story.begun), story.begun
        commands += len(turns)
        for run, from_offset in zip(story.runs, story.from_offset, strict=True):
            steps += len(run)
            dt, displacements, moved = outputs(run)
            if len(moved) > 3:
                assert_motion_within_limits(moved, dt, displacements)
                assert_joints_within_limits(story.kinematics, moved, dt)
                if not from_offset:
                    assert_joints_are_of_the_poses(story.kinematics, moved)

    while steps < STEPS_PER_EXAMPLE * settings().max_examples:
        check()
    print(f"{steps} steps after {commands} commands")


def test_a_joint_beyond_its_limit_turns_back_nowhere_between_the_points_that_are_examined():
    """One of the million: the hand is close above the base, so that the waist turns fast, out and back again."""
    chain, joints = STARTS[-1]
    story = Story(chain, joints, Config(blend_in=0.1, joints=JOINTS[2], limits=LIMITS[0]), 3)
    translation, rotation = 3.0 * np.array([0.78240003, 0.56824858, -0.42224114]), np.array([1.08098092, 0.78906226, 0.21442825])
    story.controller.command(Command(bytes([1]), 0, "panda_link0", False, translation, 0.25 * rotation, 1.0, 0.2), story.now)
    for _ in range(15):
        story.tick(0.01, "follows")
    story.settle()
    for run in story.runs:
        dt, _, moved = outputs(run)
        assert_joints_within_limits(story.kinematics, moved, dt)
