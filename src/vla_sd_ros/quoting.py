# SPDX-License-Identifier: Apache-2.0
"""Text that came from elsewhere: in a sentence, and whether it is text."""

import unicodedata

MOST = 80  # characters that are shown


def quoted(text: str) -> str:
    """In quotes, short, on one line, whatever was sent."""
    shown = repr(text[:MOST])
    return shown if len(text) <= MOST else f"{shown} ... ({len(text)} characters)"


def control_character(text: str) -> str:
    """The first control character other than tabs and ends of lines; empty where there is none."""
    return next((character for character in text if unicodedata.category(character) == "Cc" and character not in "\t\r\n"), "")
