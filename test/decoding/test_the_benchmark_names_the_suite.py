# SPDX-License-Identifier: Apache-2.0
"""vla-sd bench libero tells the decoders which suite they decode for, unless the user says another."""

from pathlib import Path

import pytest

from vla_sd_ros.bench import libero
from vla_sd_ros.cli import main

ROOT = Path(__file__).parents[2]


class Caught(Exception):
    """In place of the episodes."""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--suite", "libero_10"], "libero_10"),
        (["--suite", "libero_object_swap"], "libero_object"),
        (["--suite", "libero_10", "--set", "suite=libero_goal"], "libero_goal"),
        (["--suite", "libero_10", "--settings", str(ROOT / "config" / "decoder.yaml")], "libero_10"),
    ],
)
def test_the_suite_reaches_the_decoders(monkeypatch, given, expected):
    def found(assignments, arguments):
        raise Caught(assignments[0].parts.decoder_settings().suite)

    monkeypatch.setattr(libero, "_found", found)
    with pytest.raises(Caught, match=f"^{expected}$"):
        main(["bench", "libero", *given])
