# SPDX-License-Identifier: Apache-2.0
"""What an action costs on a device, from what its passes cost there: measured here, or computed for a device far away."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from vla_sd_ros.decoding.methods.fused import AHEAD
from vla_sd_ros.decoding.settings import Settings
from vla_sd_ros.decoding.sources import DRAFTED_TOKENS
from vla_sd_ros.policy.draft import EMPTY, Draft, below, chain
from vla_sd_ros.policy.drafter import Budget, Drafter
from vla_sd_ros.policy.vla import ACTION_TOKENS, Vla

DRAFTED_PATHS = ("draft", "kalman", "last_action")  # of the steps in which a drafter drafts
RELEASED = (50, 5, 8)
Tree = tuple[int, int, int]  # nodes, levels, continuations


def reach_of(decoder: str) -> int:
    """Up to which token a decoder asks its drafter; its name may have settings behind it."""
    return ACTION_TOKENS if decoder.startswith(("kerv", "heisd_reference")) else DRAFTED_TOKENS


@dataclass(frozen=True)
class Costs:
    """Milliseconds on one device.

    vision: a look at an image, which a step ahead does without. prefill: of the drafted positions behind the prompt. extend: a
    later pass, of its positions. read: the drafter's first pass of an action, over the prompt. draft: each later one, of its
    positions. outside: what a step takes that is no pass.
    """

    vision: float
    prefill: Callable[[int], float]
    extend: Callable[[int], float]
    read: float
    draft: Callable[[int], float]
    outside: float = 0.0

    def action(
        self, path: str, passes: Iterable[tuple[str, int, int]], tree: Tree = RELEASED, reach: int = DRAFTED_TOKENS
    ) -> float:
        """One action: its path, and (kind, drafted, accepted) of each pass. tree: the drafter's, where one drafts; reach: up to
        which token."""
        total, tokens, drafting = self.outside + (0.0 if path == AHEAD else self.vision), 0, path in DRAFTED_PATHS
        fresh = 0  # tokens that the drafter has not seen; none before its first pass, which reads the prompt
        for kind, drafted, accepted in passes:
            if kind == "prefill":
                total += self.prefill(drafted)
            else:
                if drafting and drafted:
                    levels = max(1, min(tree[1], reach - tokens))
                    total += (self.draft(fresh) if fresh else self.read) + (levels - 1) * self.draft(tree[2])
                    fresh = accepted + 1
                total += self.extend(1 + drafted)
            tokens += accepted + 1
        return total


def between(points: dict[int, float]) -> Callable[[int], float]:
    """A function through these points, straight between them, and beyond them as between the last two."""
    x, y = np.array(sorted(points)), np.array([points[key] for key in sorted(points)])

    def value(n: int) -> float:
        if n > x[-1] and len(x) > 1:
            return float(y[-1] + (n - x[-1]) * max(y[-1] - y[-2], 0.0) / (x[-1] - x[-2]))
        return float(np.interp(n, x, y))

    return value


PREFILL, EXTEND, WIDTHS = (0, 6, 24, 48), (1, 2, 4, 6, 9, 13, 21, 33, 50, 100), (1, 2, 4, 8)


def measure(vla: Vla, drafter: Drafter | None, image: np.ndarray, instruction: str, repeats: int = 15) -> Costs:
    """The costs on the device that the policy is on, for image (H, W, 3): medians over passes that take turns."""
    prompt = vla.observe(image, instruction)
    out = vla.prefill(prompt)
    prompt.embeddings  # noqa: B018 - projected once

    def prefill(n: int) -> None:
        vla.prefill(prompt, bushy(n)).greedy()

    def extend(n: int) -> None:
        vla.extend(below(0, bushy(n - 1))).greedy()

    def propose(drafter: Drafter, levels: int, width: int) -> None:
        drafter.start(prompt.embeddings, out.prompt)
        drafter.propose(0, levels, Budget(1 + levels * width, levels, width))

    works: dict[tuple[str, int], Callable[[], object]] = {("vision", 0): lambda: vla.observe(image, instruction).embeddings}
    works |= {("prefill", n): partial(prefill, n) for n in PREFILL}
    works |= {("extend", n): partial(extend, n) for n in EXTEND}
    if drafter is not None:
        works |= {("draft", n): partial(propose, drafter, 5, n) for n in WIDTHS}
        works |= {("read", n): partial(propose, drafter, 1, n) for n in WIDTHS}
    times: dict[tuple[str, int], list[float]] = {key: [] for key in works}
    for _ in range(repeats):
        for key, work in works.items():
            times[key].append(once_ms(vla, work))
    found = {key: float(np.median(own[1:] or own)) for key, own in times.items()}  # the first ones allocate
    level = {n: max((found["draft", n] - found["read", n]) / 4, 0.0) for n in WIDTHS} if drafter else {1: 0.0}
    return Costs(
        found["vision", 0],
        between({n: found["prefill", n] for n in PREFILL}),
        between({n: found["extend", n] for n in EXTEND}),
        found.get(("read", 1), 0.0),
        between(level),
    )


def once_ms(vla: Vla, work: Callable[[], object]) -> float:
    """Milliseconds that the device takes for it."""
    vla.synchronise()
    start = time.perf_counter()
    work()
    vla.synchronise()
    return 1e3 * (time.perf_counter() - start)


def bushy(nodes: int) -> Draft:
    """A draft of so many nodes: a chain, and what does not go into five levels, side by side."""
    if not nodes:
        return EMPTY
    parents = np.arange(nodes) - 1
    parents[5:] = 0
    return Draft(np.zeros(nodes, dtype=int), parents) if nodes > 5 else chain([0] * nodes)


def tree_of(decoder: str, settings: Settings) -> Tree:
    """The tree that the drafter grows in a decoder, with settings."""
    return RELEASED if decoder.endswith("_reference") else settings.tree(decoder.removesuffix("_repeat"))
