# SPDX-License-Identifier: Apache-2.0
"""Every number that a decoder depends on, with its range and its effect; vla_node's parameters are made from this table."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

# All decoders by name; factory.py makes them. Here, because naming them must not wait for torch.
DECODERS = (
    "autoregressive",
    "naive_sd",
    "spec_vla",
    "kerv",
    "kerv_repeat",
    "kerv_reference",
    "retrieval_only",
    "heisd",
    "heisd_reference",
    "prefill",
    "prefill_relaxed",
    "prefill_jacobi",
    "fused",
)
SUITES = ("libero_object", "libero_spatial", "libero_goal", "libero_10")  # whose constants were released
TREES = ("naive_sd_tree", "spec_vla_tree", "kerv_tree", "heisd_tree")
SOURCES = ("last_action", "kalman", "head", "retrieval", "median", "composite")
KINDS = {  # of a setting, by the type of its default: its name, and what is one
    bool: ("true or false", bool),
    int: ("a whole number", int),
    float: ("a number", int | float),
    str: ("text", str),
}


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
        0.0, "Relaxed acceptance: radius of x, y, z [m], instead of relaxed_radius; 0: not used.", 0.0, 1.0
    )
    relaxed_rotation: float = _setting(
        0.0, "Relaxed acceptance: radius of roll, pitch, yaw [rad], instead of relaxed_radius; 0: not used.", 0.0, 3.2
    )
    sequence_largest: int = _setting(15, "Sequence-wise acceptance: largest distance of one token [bins].", 0, 255)
    sequence_total: int = _setting(30, "Sequence-wise acceptance: largest sum of distances of a group [bins].", 0, 765)
    kalman_model: str = _setting(
        "decaying",
        "State model of the Kalman filter: constant_velocity, the usual reading of KERV, or decaying.",
        choices=("constant_velocity", "decaying"),
    )
    kalman_observe: str = _setting(
        "executed",
        "What the Kalman filter observes: the measured motion of the arm, or the executed actions.",
        choices=("measured", "executed"),
    )
    kalman_window: int = _setting(10, "Kalman filter: latest actions that it runs over.", 1, 100)
    kalman_process: float = _setting(0.01, "constant_velocity: variance of the acceleration of a normalised action.", 1e-9, 100.0)
    kalman_measurement: float = _setting(0.01, "Kalman filter: variance of an observation, of a normalised action.", 0.0, 100.0)
    kalman_decay: list = _setting(
        [0.9] * 6, "decaying: factor by which x, y, z, roll, pitch, yaw shrink from one step to the next.", 0.0, 1.2
    )
    kalman_gate: float = _setting(
        10.0,
        "Kalman filter: prediction error in x, y or z, normalised, above which earlier actions are forgotten, as they are when "
        "the gripper opens or closes; 10: only then.",
        0.0,
        10.0,
    )
    kerv_mode: str = _setting(
        "kvar",
        "Threshold of kerv: kvar, by the kinematic variability; time_decay; or fixed, relaxed_radius.",
        choices=("kvar", "time_decay", "fixed"),
    )
    kerv_radius_min: float = _setting(5.0, "Smallest threshold of kerv [bins].", 0.0, 255.0)
    kerv_radius_max: float = _setting(15.0, "Largest threshold of kerv [bins].", 0.0, 255.0)
    kerv_scale: float = _setting(
        0.2,
        "K_S of kerv: change of K_var [m, rad and the gripper's, summed] at which the threshold has fallen to 37 %.",
        1e-6,
        100.0,
    )
    kerv_exponent: float = _setting(2.0, "phi of kerv: how sharply the threshold falls.", 0.1, 10.0)
    kerv_at_error: str = _setting(
        "verifier",
        "kerv: what stands at the position of the error: the verifier's own token, which the pass has given, or the filter's, as "
        "it does behind it.",
        choices=("verifier", "filter"),
    )
    kerv_cooldown: int = _setting(4, "kerv: steps without compensation after a compensation.", 0, 1000)
    suite: str = _setting(
        "auto",
        "kerv_reference, heisd_reference: the LIBERO suite whose released constants hold, libero_object, libero_spatial, "
        "libero_goal or libero_10; auto: the one that the policy's key of action statistics names, if it does.",
        choices=("auto", *SUITES),
    )
    kerv_steps: int = _setting(300, "time_decay, and kerv_reference outside of LIBERO: steps of a whole task.", 1, 100_000)
    kerv_tails: bool = _setting(
        True, "kerv_reference: the filter's prediction also hangs as a chain on each node of the drafter's tree, as released."
    )
    drafter_nodes: int = _setting(
        50, "Drafter: nodes of the tree, its root among them, of a decoder that has no tree of its own below.", 1, 200
    )
    drafter_depth: int = _setting(
        5, "Drafter: levels of drafted tokens below the root, 5 as released, whose code calls it 4.", 1, 6
    )
    drafter_top_k: int = _setting(8, "Drafter: continuations of each node, and nodes of a level that get any.", 1, 64)
    naive_sd_tree: list = _setting(
        [0, 0, 0],
        "naive_sd: nodes, levels and continuations of its own tree, as vla-sd calibrate finds it on a device; 0: as "
        "drafter_nodes, drafter_depth, drafter_top_k.",
        0,
        200,
    )
    spec_vla_tree: list = _setting([0, 0, 0], "spec_vla: the same.", 0, 200)
    kerv_tree: list = _setting([0, 0, 0], "kerv: the same.", 0, 200)
    heisd_tree: list = _setting([0, 0, 0], "heisd: the same.", 0, 200)
    retrieval_candidates: int = _setting(5, "Retrieval: number of nearest neighbours, K.", 1, 64)
    retrieval_recombine: bool = _setting(
        True, "heisd: verify each neighbour's position with every neighbour's rotation, K * K paths, as published."
    )
    skip_similarity: float = _setting(
        0.999,
        "heisd, verify-skip: cosine similarity of the nearest neighbour from which on its action is executed unverified.",
        -1.0,
        1.1,
    )
    skip_adjustment: float = _setting(
        0.0005,
        "heisd, verify-skip: skip_similarity rises by this after a rejected retrieval and falls by a third of it after an "
        "accepted one.",
        0.0,
        1.0,
    )
    skip_run: int = _setting(2, "heisd, verify-skip: most steps in a row without verification; 0: never skip.", 0, 100)
    fused_run: int = _setting(8, "fused: most steps in a row without verification; 0: never skip.", 0, 100)
    skip_while_right: bool = _setting(
        True, "fused: skip only while the draft head was right, within the radius, when the language model ran last."
    )
    skip_confidence: float = _setting(
        1.1,
        "fused: probability, as the draft head itself estimates it, that all its tokens would be accepted, from which on "
        "they are executed unverified; above 1: never.",
        0.0,
        1.1,
    )
    ahead_confidence: float = _setting(
        1.1,
        "fused: probability, as the draft head itself estimates it of a step ahead, that all its tokens would be accepted, "
        "from which on that step is executed without a look at its image; above 1: never.",
        0.0,
        1.1,
    )
    ahead_steps: int = _setting(2, "fused: most steps in a row without a look at their image; 0: always look.", 0, 2)
    fused_radius_min: float = _setting(
        3.0, "fused: largest error of an unverified action while the arm stands still [bins].", 1.0, 255.0
    )
    fused_radius_max: float = _setting(
        20.0, "fused: the same for an action that moves by fused_translation or more [bins]; linear between.", 1.0, 255.0
    )
    fused_translation: float = _setting(
        0.04, "fused: translation of one action from which on fused_radius_max holds [m].", 1e-4, 1.0
    )
    metric_boundary: float = _setting(0.2, "Fused metric above which heisd retrieves, below which it drafts.", 0.0, 1.0)
    metric_alpha: float = _setting(0.5, "Fused metric: weight of the radius; that of the displacement is 1 minus it.", 0.0, 1.0)
    metric_window: int = _setting(15, "Fused metric: points of the end effector's path.", 3, 200)
    metric_displacement: str = _setting(
        "path",
        "Fused metric: displacement of the points; path: length of the path; spread: sum of the distances from the newest point, "
        "as in the released code.",
        choices=("path", "spread"),
    )
    metric_radius: list = _setting(
        [0.0, 0.5], "Fused metric: radius that is normalised to 0, and radius that is normalised to 1 [m].", 0.0, 1000.0
    )
    metric_length: list = _setting(
        [0.0, 0.4], "Fused metric: displacement that is normalised to 0, and displacement that is normalised to 1 [m].", 0.0, 100.0
    )
    prefill_sources: list = _setting(
        ["head"],
        "Sources of the draft in the prefill, of which prefill_jacobi and fused take the first that knows anything: "
        + ", ".join(SOURCES)
        + ".",
        choices=SOURCES,
    )
    jacobi_radius: float = _setting(
        20.0,
        "prefill_jacobi and fused: largest error of a drafted token after which the verifier's next tokens are still "
        "used [bins]; 0: exact, 255: one pass whatever the draft is.",
        0.0,
        255.0,
    )
    head_nodes: int = _setting(
        12,
        "prefill: most nodes of the tree of the draft head's most probable actions, where the head is its only source; "
        "0: the most probable action alone.",
        0,
        200,
    )
    head_least: float = _setting(
        0.05,
        "prefill: smallest probability of a node of that tree; the cheaper a drafted token is beside a pass, the lower.",
        0.0,
        1.0,
    )
    composite: list = _setting(
        ["head", "head", "head", "last_action", "last_action", "last_action", "head"],
        "The source of each dimension of a composite draft.",
        choices=SOURCES[:-1],
    )

    def __post_init__(self) -> None:
        for entry in fields(self):
            factory = entry.default_factory
            default = entry.default if factory is MISSING else factory()
            _check(entry.name, getattr(self, entry.name), default, entry.metadata)
        lengths = {"kalman_decay": 6, "metric_radius": 2, "metric_length": 2, "composite": 7} | dict.fromkeys(TREES, 3)
        for name, count in lengths.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, but needs {count}")
        for name in TREES:
            for part, value in zip(("drafter_nodes", "drafter_depth", "drafter_top_k"), getattr(self, name)):
                high = type(self).__dataclass_fields__[part].metadata["high"]
                if value > high:
                    raise ValueError(f"{name} has {value} where {part} stands, but must lie in 0 .. {high:g}")
        for name in ("metric_radius", "metric_length"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(
                    f"{name} is [{low:g}, {high:g}], but its first value, which becomes 0, must lie below its second, which "
                    "becomes 1"
                )
        if self.kerv_radius_min > self.kerv_radius_max:
            raise ValueError("kerv_radius_min is larger than kerv_radius_max")
        if self.fused_radius_min > self.fused_radius_max:
            raise ValueError("fused_radius_min is larger than fused_radius_max")

    def suite_of(self, key: str) -> str:
        """The LIBERO suite by name, if there is one; key: of the policy's action statistics."""
        return key.removesuffix("_no_noops") if self.suite == "auto" else self.suite

    def tree(self, decoder: str) -> tuple[int, int, int]:
        """Nodes, levels and continuations of the drafter's tree in a decoder."""
        own = getattr(self, f"{decoder}_tree", [0, 0, 0])
        shared = (self.drafter_nodes, self.drafter_depth, self.drafter_top_k)
        nodes, levels, continuations = (mine or ours for mine, ours in zip(own, shared))
        return nodes, levels, continuations


def _check(name: str, value: Any, default: Any, rule: Mapping) -> None:
    if isinstance(default, list):
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name} is {value!r}, but must be a list of at least one entry")
        default = default[0]
    else:
        value = [value]
    kind, allowed = KINDS[type(default)]
    for one in value:
        if not isinstance(one, allowed) or isinstance(one, bool) != (kind == "true or false"):
            raise ValueError(f"{name} is {one!r}, but must be {kind}")
        if rule["choices"] and one not in rule["choices"]:
            raise ValueError(f"{name} is {one!r}, but must be one of {', '.join(rule['choices'])}")
        if rule["low"] is not None and not rule["low"] <= one <= rule["high"]:
            raise ValueError(f"{name} is {one}, but must lie in {rule['low']} .. {rule['high']}")
