# SPDX-License-Identifier: Apache-2.0
"""Action tokens: seven of 256 bins over [-1, 1], and the statistics that turn them into metres and radians.

The arithmetic is OpenVLA's (prismatic ActionTokenizer): 256 edges make 255 centres, token id = end - digit.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIMENSIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
BINS = 256
_EDGES = np.linspace(-1.0, 1.0, BINS)
_CENTRES = (_EDGES[:-1] + _EDGES[1:]) / 2


def encode(normalised: np.ndarray) -> np.ndarray:
    """Bins (..., 7) int in 0..255 of normalised actions (..., 7) in [-1, 1]; values outside are clipped."""
    return np.digitize(np.clip(normalised, -1.0, 1.0), _EDGES) - 1


def decode(bins: np.ndarray) -> np.ndarray:
    """Normalised actions (..., 7) in (-1, 1) of bins (..., 7): bin centres; bins 254 and 255 share the last one."""
    return _CENTRES[np.clip(bins, 0, BINS - 2)]


@dataclass(frozen=True)
class ActionStatistics:
    """q01, q99 (7,): 1st and 99th percentile of each dimension. mask (7,): False where values are raw (gripper)."""

    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    def unnormalise(self, normalised: np.ndarray) -> np.ndarray:
        """Actions (..., 7) in metres, radians and gripper opening: 0.5 (a + 1) (q99 - q01) + q01 where masked."""
        scaled = 0.5 * (normalised + 1.0) * (self.q99 - self.q01) + self.q01
        return np.where(self.mask, scaled, normalised)

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """The inverse of unnormalise: actions (..., 7) in metres, radians and gripper opening, to [-1, 1], clipped."""
        span = np.where(self.mask, self.q99 - self.q01, 1.0)
        scaled = 2.0 * (actions - self.q01) / span - 1.0
        return np.clip(np.where(self.mask, scaled, actions), -1.0, 1.0)


class Table(dict[str, ActionStatistics]):
    """Statistics by key. damaged: of the entries that cannot be used, what is wrong with each; they spoil no other one."""

    def __init__(self):
        super().__init__()
        self.damaged: dict[str, str] = {}


def statistics_of(actions: np.ndarray) -> ActionStatistics:
    """Statistics of a data set's actions (N, 7); the gripper stays raw, as in bridge_orig."""
    mask = np.array([True] * 6 + [False])
    return ActionStatistics(np.quantile(actions, 0.01, axis=0), np.quantile(actions, 0.99, axis=0), mask)


def read_statistics(path: Path) -> Table:
    """All entries of a dataset_statistics.json, by key. Raises ValueError where none can be used."""
    return parse_statistics(json.loads(path.read_text()))


def parse_statistics(entries: dict) -> Table:
    """Statistics by key, of what dataset_statistics.json or OpenVLA's norm_stats hold. ValueError as read_statistics.

    Without a mask every dimension is scaled, as OpenVLA does it.
    """
    if not isinstance(entries, dict):
        raise ValueError(f"it holds a {type(entries).__name__}, but must hold statistics by key")
    table = Table()
    for key, entry in entries.items():
        try:
            table[key] = _parse(key, entry)
        except ValueError as error:
            table.damaged[key] = str(error)
    if table.damaged and not table:
        raise ValueError(next(iter(table.damaged.values())))
    return table


def choose_statistics(entries: dict[str, ActionStatistics], key: str) -> str:
    """The entry's name that a key asks for: itself, LIBERO's without no-ops, or the only one if the key is empty.

    Raises ValueError with the keys that there are, or with what is wrong with the entry.
    """
    damaged = getattr(entries, "damaged", {})
    candidates = [key, f"{key}_no_noops"] if key else list(entries) * (len(entries) + len(damaged) == 1)
    for name in candidates:
        if name in damaged:
            raise ValueError(damaged[name])
        if name in entries:
            return name
    raise ValueError(
        f"there are no statistics {key!r}: set policy.unnorm_key (--unnorm-key) to one of {', '.join(sorted(entries))}"
    )


def check_units(entries: dict[str, ActionStatistics], key: str, largest: tuple[float, float] | None) -> None:
    """Raises ValueError when a step goes farther along an axis than `largest` [m], [rad]; None: whatever."""
    if largest is None:
        return
    chosen = entries[key]
    steps = np.where(chosen.mask, np.maximum(np.abs(chosen.q01), np.abs(chosen.q99)), 1.0)
    for i, name in enumerate(DIMENSIONS[:6]):
        limit, unit = largest[i // 3], ("m", "rad")[i // 3]
        if steps[i] > limit:
            raise ValueError(
                f"the action statistics {key!r} hold steps of {steps[i]:.3g} {unit} in {name}, more than {limit:g} {unit}: they "
                "must be in metres and radians of one control period; choose other ones with policy.unnorm_key (--unnorm-key), "
                "or raise policy.largest_translation and policy.largest_rotation (--largest-step) where the arm's own step "
                "limits or its action_scale make up for it"
            )


def _parse(key: str, entry: dict) -> ActionStatistics:
    try:
        action = entry["action"]
        q01, q99 = (np.asarray(action[name], dtype=float) for name in ("q01", "q99"))
        mask = np.asarray(action.get("mask", np.ones(q01.shape)), dtype=bool)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"no q01 and q99 of seven numbers under {key!r}") from error
    if not q01.shape == q99.shape == mask.shape == (len(DIMENSIONS),):
        raise ValueError(f"q01, q99 and mask under {key!r} are not of seven numbers each")
    if not np.all(np.isfinite((q01, q99))):
        raise ValueError(f"q01 or q99 under {key!r} is not finite")
    if np.any(q01 > q99):
        raise ValueError(f"q01 under {key!r} lies above q99 in {DIMENSIONS[int(np.argmax(q01 > q99))]}")
    return ActionStatistics(q01, q99, mask)


def write_statistics(path: Path, key: str, statistics: ActionStatistics) -> None:
    """Write one entry as a dataset_statistics.json."""
    action = {name: getattr(statistics, name).tolist() for name in ("q01", "q99", "mask")}
    path.write_text(json.dumps({key: {"action": action}}, indent=1) + "\n")
