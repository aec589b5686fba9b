# SPDX-License-Identifier: Apache-2.0
"""Kalman filters over the actions of an arm: the next action predicted from the last ones.

A filter is filterpy's, with its matrices in sight: x' = F x + w, w ~ N(0, Q); z = H x + v, v ~ N(0, R); x begins at 0 with
covariance P. z (7,) is a normalised action, in -1..1 for q01..q99; no matrix couples one of its dimensions with another.
"""

from collections import deque

import numpy as np
from filterpy.kalman import KalmanFilter

WINDOW = 10  # actions, as KERV publishes
DIMENSIONS = 7
FARTHEST = 2.0  # apart that two normalised values can be
EXACT = 1e-9  # variance of an observation without noise: 0 makes P singular


def constant_velocity(process: float = 0.01, measurement: float = 0.1) -> KalmanFilter:
    """Each dimension of the action and its change a step; white acceleration of variance `process`, observed with variance
    `measurement`.

    KERV (arXiv 2603.01581) names a Kalman filter over the last ten actions without its model; this is the usual one
    (Bar-Shalom et al., "Estimation with Applications to Tracking and Navigation", 2001, eq. 6.3.2-4).
    """
    each = np.eye(DIMENSIONS)
    kalman = KalmanFilter(dim_x=2 * DIMENSIONS, dim_z=DIMENSIONS)
    kalman.F = np.kron(each, [[1.0, 1.0], [0.0, 1.0]])
    kalman.H = np.kron(each, [[1.0, 0.0]])
    kalman.Q = np.kron(each, process * np.array([[0.25, 0.5], [0.5, 1.0]]))
    kalman.R = measurement * each
    kalman.P = 10.0 * np.eye(2 * DIMENSIONS)
    return kalman


def decaying(decay: np.ndarray, measurement: np.ndarray) -> KalmanFilter:
    """An action that shrinks by a factor `decay` (7,) each step, as that of a proportional controller near its goal does,
    observed with variance `measurement` (7,).

    A decay of 1 without noise repeats the last action.
    """
    each = np.eye(DIMENSIONS)
    kalman = KalmanFilter(dim_x=DIMENSIONS, dim_z=DIMENSIONS)
    kalman.F = np.diag(decay)
    kalman.H = each
    kalman.Q = each
    kalman.R = np.diag(measurement) + EXACT * each
    kalman.P = 10.0 * each
    return kalman


def random_walk(first: np.ndarray, process: float = 1.0, measurement: float = 1e-3) -> KalmanFilter:
    """A value (7,) that begins at `first` and changes by noise of variance `process` each step, observed with variance
    `measurement`: it follows the last observation. In whatever unit the variances are."""
    each = np.eye(DIMENSIONS)
    kalman = KalmanFilter(dim_x=DIMENSIONS, dim_z=DIMENSIONS)
    kalman.x = np.asarray(first, dtype=float)[:, None]
    kalman.F = each
    kalman.H = each
    kalman.Q = process * each
    kalman.R = measurement * each
    kalman.P = 10.0 * each
    return kalman


class ActionFilter:
    """A filter over the last `window` actions (7,), normalised; it runs over them anew for each prediction.

    gate: an action that differs from its prediction by more than this in x, y or z is an event (a new phase of the task),
    as is a change of the gripper; what came before an event is forgotten. inf: there are no events.
    """

    def __init__(self, kalman: KalmanFilter, window: int = WINDOW, gate: float = np.inf):
        self._kalman, self._start = kalman, kalman.P
        self._window: deque[np.ndarray] = deque(maxlen=window)
        self._gate = gate

    def update(self, action: np.ndarray) -> None:
        """Observe the newest action (7,); one that is not finite is an event and is not kept."""
        action = np.asarray(action, dtype=float)
        if not np.all(np.isfinite(action)):
            self._window.clear()
            return
        if self._window and self._is_event(action):
            self._window.clear()
        self._window.append(action)

    def predict(self) -> np.ndarray | None:
        """The next action (7,), clipped to -1..1; None before the first observation."""
        if not self._window:
            return None
        kalman = self._kalman
        kalman.x, kalman.P = np.zeros((kalman.dim_x, 1)), self._start.copy()
        for action in self._window:
            kalman.update(action)
            kalman.predict()
        return np.clip((kalman.H @ kalman.x)[:, 0], -1.0, 1.0)

    def clear(self) -> None:
        """Forget all actions."""
        self._window.clear()

    def _is_event(self, action: np.ndarray) -> bool:
        if not np.isfinite(self._gate):
            return False
        if (action[6] > 0.5) != (self._window[-1][6] > 0.5):
            return True
        # a prediction is not free, and where nothing can miss it by more than the gate it is not needed
        predicted = self.predict() if self._gate < FARTHEST else None
        return predicted is not None and bool(np.abs(action[:3] - predicted[:3]).max() > self._gate)
