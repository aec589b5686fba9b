# SPDX-License-Identifier: Apache-2.0
"""Names of LIBERO's suites, and how much is in each."""

SUITES = ("libero_object", "libero_spatial", "libero_goal", "libero_10")
# LIBERO-PRO's changes to each of them (arXiv 2510.03827): other words, places changed about, other looks, another object
# asked for. For measurement alone.
PERTURBED = tuple(f"{suite}_{change}" for suite in SUITES for change in ("lan", "swap", "object", "task"))
TASKS_PER_SUITE = 10
INITIAL_STATES = 50  # published of each task


def base(suite: str) -> str:
    """The suite that one of PERTURBED changes; any other is its own."""
    return suite.rsplit("_", 1)[0] if suite in PERTURBED else suite
