# SPDX-License-Identifier: Apache-2.0
"""Text that came from elsewhere, in a sentence."""

MOST = 80  # characters that are shown


def quoted(text: str) -> str:
    """In quotes, short, on one line, whatever was sent."""
    shown = repr(text[:MOST])
    return shown if len(text) <= MOST else f"{shown} ... ({len(text)} characters)"
