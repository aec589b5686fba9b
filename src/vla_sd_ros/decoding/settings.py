# SPDX-License-Identifier: Apache-2.0
"""Every number that a decoder depends on, with its range and its effect; vla_node's parameters are made from this table."""
from dataclasses import dataclass, field, fields
from typing import Any

# All decoders by name; factory.py makes them. Here, because naming them must not wait for torch.
DECODERS = ("autoregressive", "naive_sd", "spec_vla", "kerv", "kerv_repeat", "kerv_reference", "retrieval_only", "heisd",
            "heisd_reference", "prefill", "prefill_relaxed", "prefill_jacobi", "fused")
SOURCES = ("last_action", "kalman", "head", "retrieval", "median", "composite")


def _setting(default: Any, description: str, low: float | None = None, high: float | None = None, choices: tuple = ()):
    metadata = {"description": description, "low": low, "high": high, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Defaults are the published values where there are any. Raises ValueError, with one sentence, for a bad value."""

    relaxed_radius: float = _setting(9.0, "Relaxed acceptance: largest distance from the verifier's token [bins].", 0.0, 255.0)
    relaxed_translation: float = _setting(
        0.0, "Relaxed acceptance: the radius of x, y, z [m] instead of relaxed_radius; 0: not used.", 0.0, 1.0)
    relaxed_rotation: float = _setting(
        0.0, "Relaxed acceptance: the radius of roll, pitch, yaw [rad] instead of relaxed_radius; 0: not used.", 0.0, 3.2)
    sequence_largest: int = _setting(15, "Sequence-wise acceptance: largest distance of one token [bins].", 0, 255)
    sequence_total: int = _setting(30, "Sequence-wise acceptance: largest sum of distances of a group [bins].", 0, 765)
    kalman_model: str = _setting(
        "decaying", "State model of the filter: constant_velocity as the usual reading of KERV, or decaying.",
        choices=("constant_velocity", "decaying"))
    kalman_observe: str = _setting(
        "executed", "What the filter observes: the measured motion of the arm, or the executed actions.",
        choices=("measured", "executed"))
    kalman_window: int = _setting(10, "Actions that the filter looks back over.", 1, 100)
    kalman_process: float = _setting(0.01, "constant_velocity: variance of the acceleration, normalised actions.", 1e-9, 100.0)
    kalman_measurement: float = _setting(0.01, "Variance of the observation, normalised actions.", 0.0, 100.0)
    kalman_decay: list = _setting(
        [0.9] * 6, "decaying: factor of x, y, z, roll, pitch, yaw from one step to the next.", 0.0, 1.2)
    kalman_gate: float = _setting(
        10.0, "An action that misses its prediction by more, normalised, begins a new window; 10: only the gripper does.",
        0.0, 10.0)
    kerv_mode: str = _setting(
        "kvar", "Threshold of kerv: kvar, by the kinematic variability; time_decay; or fixed, relaxed_radius.",
        choices=("kvar", "time_decay", "fixed"))
    kerv_radius_min: float = _setting(5.0, "Smallest threshold of kerv [bins].", 0.0, 255.0)
    kerv_radius_max: float = _setting(15.0, "Largest threshold of kerv [bins].", 0.0, 255.0)
    kerv_scale: float = _setting(0.2, "K_S of kerv: change of K_var [m, rad summed] at which the threshold falls.", 1e-6, 100.0)
    kerv_exponent: float = _setting(2.0, "phi of kerv: how sharply the threshold falls.", 0.1, 10.0)
    kerv_cooldown: int = _setting(4, "Steps without compensation after a compensation.", 0, 1000)
    kerv_steps: int = _setting(
        300, "time_decay, and kerv_reference outside of LIBERO: steps of a whole task.", 1, 100_000)
    kerv_tails: bool = _setting(
        True, "kerv_reference: the filter's prediction also hangs as a chain on each node of the drafter's tree, as released.")
    drafter_nodes: int = _setting(50, "Drafter: nodes of the tree.", 1, 200)
    drafter_depth: int = _setting(4, "Drafter: depth of the tree.", 1, 6)
    drafter_top_k: int = _setting(8, "Drafter: continuations of each node.", 1, 64)
    retrieval_candidates: int = _setting(5, "Retrieval: neighbours, K.", 1, 64)
    retrieval_recombine: bool = _setting(
        False, "Retrieval: verify each neighbour's position with each one's rotation too, K * K paths.")
    skip_similarity: float = _setting(
        0.999, "Verify-skip: cosine of the nearest neighbour from which its action is executed unverified.", -1.0, 1.1)
    skip_adjustment: float = _setting(
        0.0005, "Verify-skip: by how much skip_similarity rises after a rejected draft, and a third of it falls after an "
        "accepted one.", 0.0, 1.0)
    skip_run: int = _setting(2, "Verify-skip of heisd: most steps in a row without verification; 0: never skip.", 0, 100)
    fused_run: int = _setting(4, "fused: most steps in a row without verification; 0: never skip.", 0, 100)
    skip_confidence: float = _setting(
        1.1, "fused: the draft head's own probability that all its tokens would be accepted, from which its action is "
        "executed unverified; above 1: never.", 0.0, 1.1)
    fused_radius_min: float = _setting(3.0, "fused: error of an unverified action that counts as none at rest [bins].", 1.0, 255.0)
    fused_radius_max: float = _setting(
        20.0, "fused: the same at fused_translation and above [bins]; in proportion between.", 1.0, 255.0)
    fused_translation: float = _setting(0.04, "fused: translation of one action at which the distance is greatest [m].", 1e-4, 1.0)
    metric_boundary: float = _setting(0.2, "Fused metric above which heisd retrieves, below which it drafts.", 0.0, 1.0)
    metric_alpha: float = _setting(0.5, "Fused metric: share of the radius.", 0.0, 1.0)
    metric_window: int = _setting(15, "Fused metric: points of the end effector's path.", 3, 200)
    metric_displacement: str = _setting(
        "path", "Fused metric: path, its length; or spread, distances from the newest point as the released code.",
        choices=("path", "spread"))
    metric_radius: list = _setting([0.0, 0.5], "Fused metric: radius that becomes 0, and that becomes 1 [m].", 0.0, 1000.0)
    metric_length: list = _setting([0.0, 0.4], "Fused metric: displacement that becomes 0, and that becomes 1 [m].", 0.0, 100.0)
    prefill_sources: list = _setting(
        ["head"], "Sources of the draft in the prefill, of which prefill_jacobi and fused take the first that knows anything: "
        + ", ".join(SOURCES) + ".", choices=SOURCES)
    jacobi_radius: float = _setting(
        20.0, "prefill_jacobi and fused: distance from the verifier's token up to which the verifier's later tokens stand [bins]; "
        "0: exact, 255: one pass whatever the draft is.", 0.0, 255.0)
    head_nodes: int = _setting(
        12, "prefill: most nodes of a tree of the draft head's likeliest actions, where the head is its only source; 0: the "
        "likeliest action alone.", 0, 200)
    head_least: float = _setting(
        0.05, "prefill: probability that a beginning must have to be in that tree; the less a drafted token costs beside a "
        "pass, the lower.", 0.0, 1.0)
    composite: list = _setting(
        ["head", "head", "head", "last_action", "last_action", "last_action", "head"],
        "The source of each dimension of a composite draft.", choices=SOURCES[:-1])

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check(entry.name, getattr(self, entry.name), entry.metadata)
        for name, count in (("kalman_decay", 6), ("metric_radius", 2), ("metric_length", 2), ("composite", 7)):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, but needs {count}")
        for name in ("metric_radius", "metric_length"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"{name} is [{low:g}, {high:g}], but its first value, which becomes 0, must lie below its "
                                 "second, which becomes 1")
        if self.kerv_radius_min > self.kerv_radius_max:
            raise ValueError("kerv_radius_min is larger than kerv_radius_max")
        if self.fused_radius_min > self.fused_radius_max:
            raise ValueError("fused_radius_min is larger than fused_radius_max")


def _check(name: str, value: Any, rule: dict) -> None:
    for one in value if isinstance(value, list) else [value]:
        if rule["choices"] and one not in rule["choices"]:
            raise ValueError(f"{name} is {one!r}, but must be one of {', '.join(rule['choices'])}")
        if rule["low"] is not None and not rule["low"] <= one <= rule["high"]:
            raise ValueError(f"{name} is {one}, but must lie in {rule['low']} .. {rule['high']}")
