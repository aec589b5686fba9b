# SPDX-License-Identifier: Apache-2.0
"""Text that came from elsewhere, in a sentence."""

from collections.abc import Sequence

MOST = 80  # characters that are shown
MOST_NAMES = 30


def quoted(text: str) -> str:
    """In quotes, short, on one line, whatever was sent."""
    shown = repr(text[:MOST])
    return shown if len(text) <= MOST else f"{shown} ... ({len(text)} characters)"


def listed(names: Sequence[str]) -> str:
    """Names, the first of many."""
    shown = ", ".join(name[:MOST] for name in names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"
