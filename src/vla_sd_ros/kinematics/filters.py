# SPDX-License-Identifier: Apache-2.0
"""Kalman filters over the actions of an arm: the next action predicted from the last ones.

The filters are linear and the window is short, so the prediction is a fixed linear combination of the window's actions. Its
weights come from the gains of one run of filterpy's KalmanFilter; a prediction then costs one small product.
"""
from collections import deque
from dataclasses import dataclass

import numpy as np
from filterpy.kalman import KalmanFilter

WINDOW = 10  # actions, as KERV publishes


@dataclass(frozen=True)
class StateModel:
    """x' = F x + w, w ~ N(0, Q); z = H x + v, v ~ N(0, R); the state begins at 0 with covariance P.

    F, Q, P (n, n); H (1, n); R (1, 1). z is one dimension of the normalised action, in -1..1 for q01..q99.
    """

    F: np.ndarray
    H: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    P: np.ndarray


def constant_velocity(process: float = 0.01, measurement: float = 0.1, period: float = 1.0) -> StateModel:
    """The action and its rate of change; white acceleration of variance `process`, observed with variance `measurement`.

    KERV (arXiv 2603.01581) names a Kalman filter over the last ten actions without its model; this is the usual one
    (Bar-Shalom et al., "Estimation with Applications to Tracking and Navigation", 2001, eq. 6.3.2-4), period in steps.
    """
    dt = period
    noise = np.array([[dt**4 / 4, dt**3 / 2], [dt**3 / 2, dt**2]])
    return StateModel(
        np.array([[1.0, dt], [0.0, 1.0]]), np.array([[1.0, 0.0]]), process * noise, np.array([[measurement]]), np.eye(2) * 10,
    )


def decaying(decay: float, measurement: float = 0.0) -> StateModel:
    """An action that shrinks by a factor `decay` each step, as that of a proportional controller near its goal does.

    decay 1 with no measurement noise repeats the last action.
    """
    one = np.ones((1, 1))
    return StateModel(decay * one, one, one, (measurement + 1e-9) * one, 10 * one)


class ActionFilter:
    """One model a dimension over the last `window` actions (7,), normalised.

    gate: an action that differs from its prediction by more than this in any of the dimensions x, y, z is an event (a new
    phase of the task), as is a change of the gripper; what came before an event is forgotten. inf: never.
    Raises ValueError when the models are not seven.
    """

    def __init__(self, models: list[StateModel], window: int = WINDOW, gate: float = np.inf):
        if len(models) != 7:
            raise ValueError(f"a filter of actions needs one model for each of 7 dimensions, but got {len(models)}")
        self._weights = [np.stack(rows) for rows in zip(*(_weights(model, window) for model in models))]  # (7, count) each
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
        actions = np.stack(self._window, axis=1)  # (7, n)
        return np.clip((self._weights[len(self._window) - 1] * actions).sum(1), -1.0, 1.0)

    def clear(self) -> None:
        self._window.clear()

    def _is_event(self, action: np.ndarray) -> bool:
        if not np.isfinite(self._gate):
            return False
        turned = (action[6] > 0.5) != (self._window[-1][6] > 0.5)
        return bool(turned or np.abs(action[:3] - self.predict()[:3]).max() > self._gate)


def _weights(model: StateModel, window: int) -> list[np.ndarray]:
    """For each count 1 .. window the factors (count,) of the observations in the prediction of what follows, oldest first.

    An update and a prediction are x' = F (I - K H) x + F K z. The gains K depend on the number of observations alone, so one run
    of the filter gives those of every count.
    """
    kalman = KalmanFilter(dim_x=len(model.F), dim_z=1)
    kalman.F, kalman.H, kalman.Q, kalman.R, kalman.P = model.F, model.H, model.Q, model.R, model.P.copy()
    keeps, gains = [], []
    for _ in range(window):
        kalman.update(0.0)
        keeps.append(model.F @ (np.eye(len(model.F)) - kalman.K @ model.H))
        gains.append(model.F @ kalman.K)
        kalman.predict()
    rows = []
    for count in range(1, window + 1):
        row, left = np.zeros(count), model.H
        for i in reversed(range(count)):
            row[i] = (left @ gains[i]).item()
            left = left @ keeps[i]
        rows.append(row)
    return rows
