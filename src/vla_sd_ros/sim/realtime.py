# SPDX-License-Identifier: Apache-2.0
"""A scene that runs by itself in real time: one thread for physics, which owns the scene, one for its camera.

Everybody else leaves a wish (target, gripper, another scene) that physics takes up at its next tick. The camera renders
a copy of the state, so that a slow image never delays a joint state.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from vla_sd_ros.sim.judge import Judge, State
from vla_sd_ros.sim.scene import LiberoScene

PLATFORM = os.environ.get("MUJOCO_GL")  # as mujoco has read it; robosuite overwrites the variable later
MAX_DEBT = 0.25  # [s] of simulated time that may be caught up at once; more is given up, and the ratio shows it
WINDOW = 1.0  # [s] over which the ratio is taken
SUCCESS_PERIOD = 0.05  # [s]
NOTICE = 0.05  # [s] from the announcement of a reset to the reset, so that all nodes know of it before the arm jumps
SAME_SCENE = (0.05, 0.3)  # [m], [rad]: a target no farther from the end effector was meant for the scene after its reset


class Pacer:
    """When the next tick of `period` [s] is due, and simulated time / wall time. Times are of one steady clock [s]."""

    def __init__(self, period: float, now: float):
        self._period = period
        self._due = now
        self._window: deque[tuple[float, float]] = deque([(now, 0.0)])
        self._start = now
        self.simulated = 0.0

    def ticked(self, now: float) -> float:
        """One tick was simulated; returns how long to wait until the next one is due [s], 0 when it is already."""
        self.simulated += self._period
        self._due = max(self._due + self._period, now - MAX_DEBT)
        self._window.append((now, self.simulated))
        while self._window[1][0] < now - WINDOW:
            self._window.popleft()
        return max(0.0, self._due - now)

    @property
    def wall(self) -> float:
        """Wall time since the start [s]."""
        return self._window[-1][0] - self._start

    @property
    def ratio(self) -> float:
        """Simulated time / wall time over the last second; 1 in the beginning."""
        (first, from_simulated), (last, to_simulated) = self._window[0], self._window[-1]
        return (to_simulated - from_simulated) / (last - first) if last - first > 0.5 * WINDOW else 1.0


@dataclass
class Listener:
    """What happens in the scene, as callbacks. None may take long.

    state, outcome, reset and stamp are called by the physics thread, scene and image by the camera's, failed by either.
    """

    state: Callable[[LiberoScene], None]
    outcome: Callable[[str, State, str], None]  # of which sentence, and one that says why; on change, and when it is asked for
    reset: Callable[[], None]  # the scene is about to be reset or replaced
    stamp: Callable[[], Any]  # the time of the state that is about to be rendered
    scene: Callable[[LiberoScene], None]  # another scene, its camera is ready
    image: Callable[[np.ndarray, Any], None]  # (H, W, 3) uint8 RGB, what stamp() gave
    failed: Callable[[Exception], None]


class RealTimeScene:
    """Runs the scene that `make()` builds, ticks of `period` [s], an image each `camera_period` [s]."""

    def __init__(self, make: Callable[[], LiberoScene], period: float, camera_period: float, listener: Listener):
        self._make = make
        self._period, self._camera_period = period, camera_period
        self._listener = listener
        self._stopping = threading.Event()
        self._lock = threading.Condition()
        self._wishes: dict[str, Any] = {}
        self._view: tuple[LiberoScene, Any] | None = None  # (scene, stamp) whose state the camera is to render
        self._camera_data: mujoco.MjData | None = None
        self._camera_scene: LiberoScene | None = None  # whose state the data is of
        self.scene: LiberoScene | None = None  # for others than the physics; None until it is built
        self.pacer: Pacer | None = None
        self.skipped_images = 0
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=work.__name__, daemon=True)
            for work in (self._physics, self._camera)
        ]

    def start(self) -> None:
        """Begin to build the scene, and to simulate it."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End both threads; returns after `timeout` [s] for each at the latest."""
        self._stopping.set()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def set_target(self, position: np.ndarray, rotation: np.ndarray) -> None:
        """Target of the end effector: position (3,) [m], rotation (3, 3), panda_link0.

        After a reset, targets far from the end effector are those of before the reset: they are ignored until one comes
        that is as near as SAME_SCENE.
        """
        self._wish(target=(position, rotation))

    def set_gripper(self, opening: float) -> None:
        """Opening of the gripper, 0..1."""
        self._wish(gripper=opening)

    def replace(self, scene: LiberoScene) -> threading.Event:
        """Go on with another scene from the next tick on; the event is set when that is so."""
        done = threading.Event()
        self._wish(replace=(scene, done))
        return done

    def reset(self, initial_state: int, seed: int) -> threading.Event:
        """Reset the present scene at the next tick; the event is set when that is so."""
        done = threading.Event()
        self._wish(reset=(initial_state, seed, done))
        return done

    def ask(self, instruction: str) -> None:
        """Judge this sentence from the next tick on, instead of the scene's own or the one before."""
        self._wish(ask=instruction)

    def _wish(self, **wish: Any) -> None:
        with self._lock:
            self._wishes |= wish

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # a thread's exception would go unnoticed
            self._listener.failed(error)

    def _physics(self) -> None:
        self.scene = scene = self._make()
        state = _State(scene, scene.judge(scene.instruction))
        self._judge(state)
        self._show(scene)
        with self._lock:  # opening the camera takes a second: real time begins after it
            self._lock.wait_for(lambda: self._view is None or self._stopping.is_set())
        self.pacer = Pacer(self._period, time.monotonic())
        while not self._stopping.is_set():
            self._grant(state)
            state.scene.advance(self._period)
            self._listener.state(state.scene)
            simulated = self.pacer.simulated
            if simulated >= state.next_image:
                state.next_image += self._camera_period
                self._show(state.scene)
            if simulated >= state.next_success:
                state.next_success += SUCCESS_PERIOD
                self._judge(state)
            wait = self.pacer.ticked(time.monotonic())
            if wait > 0:
                time.sleep(wait)

    def _grant(self, state: "_State") -> None:
        """Take up what was wished since the last tick."""
        with self._lock:
            wishes, self._wishes = self._wishes, {}
        if "replace" in wishes or "reset" in wishes:
            self._listener.reset()
            time.sleep(NOTICE)
        if "replace" in wishes:
            state.scene, done = wishes["replace"]
            self.scene = state.scene
            self._restarted(state)
            done.set()
        if "reset" in wishes:
            *arguments, done = wishes["reset"]
            state.scene.reset(*arguments)
            self._restarted(state)
            done.set()
        if "ask" in wishes:
            self._ask(state, wishes["ask"])
        if "gripper" in wishes:
            state.scene.set_gripper(wishes["gripper"])
        if "target" in wishes:
            position, rotation = wishes["target"]
            state.wait_for_near_target &= not _near(state.scene, position, rotation)
            if not state.wait_for_near_target:
                state.scene.set_target(position, rotation)

    def _restarted(self, state: "_State") -> None:
        state.wait_for_near_target = True
        self._ask(state, state.scene.instruction)

    def _ask(self, state: "_State", instruction: str) -> None:
        state.judge, state.outcome = state.scene.judge(instruction), None
        self._judge(state)

    def _judge(self, state: "_State") -> None:
        outcome = state.judge.look(state.scene.time)
        if outcome != state.outcome:
            state.outcome = outcome
            self._listener.outcome(state.judge.instruction, *outcome)

    def _show(self, scene: LiberoScene) -> None:
        """Copy the state for the camera, unless it is still at work on the last one."""
        with self._lock:
            if self._view is not None:
                self.skipped_images += 1
                return
            if self._camera_data is None or self._camera_scene is not scene:
                self._camera_data, self._camera_scene = mujoco.MjData(scene.model), scene
            mujoco.mj_copyData(self._camera_data, scene.model, scene.data)
            self._view = (scene, self._listener.stamp())
            self._lock.notify_all()

    def _camera(self) -> None:
        shown = None
        while (view := self._next_view()) is not None:
            scene, stamp = view
            if scene is not shown:
                if shown is not None:
                    shown.close()  # its GL context is this thread's
                shown = scene
                _open_camera(shown)
                self._listener.scene(shown)
            image = shown.camera().render(self._camera_data)
            with self._lock:
                self._view = None
                self._lock.notify_all()
            self._listener.image(image, stamp)
        if shown is not None:
            self._threads[0].join()  # physics must be done with the scene
            shown.close()

    def _next_view(self) -> tuple[LiberoScene, Any] | None:
        """Waits for a state to render; None when all is over."""
        with self._lock:
            self._lock.wait_for(lambda: self._view is not None or self._stopping.is_set())
            return None if self._stopping.is_set() else self._view


def _near(scene: LiberoScene, position: np.ndarray, rotation: np.ndarray) -> bool:
    """Whether a target, position (3,) [m] and rotation (3, 3), is as near to the end effector as SAME_SCENE."""
    at, orientation = scene.ee_pose()
    angle = np.arccos(np.clip((np.trace(orientation.T @ rotation) - 1) / 2, -1, 1))
    return bool(np.linalg.norm(position - at) < SAME_SCENE[0] and angle < SAME_SCENE[1])


def _open_camera(scene: LiberoScene) -> None:
    """Make the scene's GL context in this thread. RuntimeError, one sentence, when the machine cannot render."""
    try:
        scene.camera()
    except Exception as error:  # mujoco, OpenGL and the platform libraries each raise their own
        raise RuntimeError(
            f"the camera cannot render with MUJOCO_GL={PLATFORM} ({error}); `vla-sd doctor` says what to do"
        ) from error


@dataclass
class _State:
    """What the physics thread remembers between ticks. Times are simulated [s]."""

    scene: LiberoScene
    judge: Judge
    next_image: float = 0.0
    next_success: float = 0.0
    outcome: tuple[State, str] | None = None  # what was told last
    wait_for_near_target: bool = True
