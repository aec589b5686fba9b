# SPDX-License-Identifier: Apache-2.0
"""K_S and phi of KERV's dynamic threshold, from recorded steps, and whether the threshold tells anything at all.

KERV takes them from an offline table per suite, which is not published. Here: the threshold is r_min + (r_max - r_min) s with
s = exp(-(|dK_var| / K_S)^phi), and s is fitted as the probability that the wide radius does no harm: that every motion token
which it lets through is within the narrow radius of autoregressive decoding's. Maximum likelihood over a grid.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from vla_sd_ros.bench.decode import RecordedStep
from vla_sd_ros.decoding.acceptance import Relaxed
from vla_sd_ros.decoding.decision import Stopwatch
from vla_sd_ros.decoding.methods.kerv import kinematic_variability
from vla_sd_ros.decoding.methods.spec_vla import drafting
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.speculative import Plan, speculative_decode
from vla_sd_ros.policy.drafter import Drafter
from vla_sd_ros.policy.vla import ACTION_TOKENS, Vla

EXPONENTS = (0.5, 1.0, 2.0, 4.0)
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of the median change
LEAST = 1e-3  # probability: none is certain of harm


@dataclass(frozen=True)
class Threshold:
    """scale, exponent: K_S and phi. harmless: share of the steps. gain: what |dK_var| tells about a step [nats], beside knowing that
    share alone; below 0 the share alone tells more. steps: how many."""

    scale: float
    exponent: float
    harmless: float
    gain: float
    steps: int

    def settings(self) -> dict[str, float]:
        """By name."""
        return {"kerv_scale": self.scale, "kerv_exponent": self.exponent}

    def report(self) -> dict:
        """For a results file."""
        return asdict(self)

    def sentence(self) -> str:
        """For people."""
        return (
            f"kerv: the wide radius did no harm in {self.harmless:.0%} of {self.steps} steps; the change of K_var tells "
            f"{self.gain:+.3f} nats a step about which"
        )


def fit_threshold(vla: Vla, drafter: Drafter, steps: Iterable[RecordedStep], plain: np.ndarray, settings: Settings) -> Threshold:
    """From what the verifier says to each step when the radius is the wide one. plain (n, 7): its greedy tokens of these n steps."""
    changes, harmless = [], []
    for change, off in wide_steps(vla, drafter, steps, plain, settings):
        changes.append(change)
        harmless.append(off <= settings.kerv_radius_min)
    return likeliest(np.array(changes), np.array(harmless))


def wide_steps(
    vla: Vla, drafter: Drafter, steps: Iterable[RecordedStep], plain: np.ndarray, settings: Settings
) -> Iterable[tuple[float, int]]:
    """At each step |dK_var| as kerv knows it before, and the largest error of a motion token at the wide radius [bins]."""
    watch = Stopwatch(vla.synchronise)
    rule = Relaxed(np.append(np.full(6, settings.kerv_radius_max), 0.0))
    variability, change = 0.0, 0.0
    for (image, instruction, history), greedy in zip(steps, plain, strict=True):
        if not len(history):
            variability, change = 0.0, 0.0
        plan = Plan("draft", drafting(drafter, settings.tree("kerv"), ACTION_TOKENS), rule)
        outcome = speculative_decode(vla, vla.observe(image, instruction), plan, watch)
        yield abs(change), int(np.abs(np.array(outcome.tokens) - greedy)[:6].max())
        now = kinematic_variability(outcome.bias, vla.statistics)
        variability, change = now, now - variability


def likeliest(changes: np.ndarray, harmless: np.ndarray) -> Threshold:
    """The K_S and phi under which what was harmless (n,) bool is likeliest, given |dK_var| (n,)."""
    middle = float(np.median(changes[changes > 0])) if (changes > 0).any() else 1.0

    def likelihood(probability) -> float:
        probability = np.clip(probability, LEAST, 1 - LEAST)
        return float(np.where(harmless, np.log(probability), np.log(1 - probability)).mean())

    grid = [
        (likelihood(np.exp(-((changes / (middle * scale)) ** exponent))), middle * scale, exponent)
        for scale in SCALES
        for exponent in EXPONENTS
    ]
    best, scale, exponent = max(grid)
    share = float(harmless.mean())
    return Threshold(float(f"{scale:.4g}"), exponent, share, best - likelihood(np.full(len(changes), share)), len(changes))
