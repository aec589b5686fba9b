# SPDX-License-Identifier: Apache-2.0
"""The API key that server and client share, in a file, because command lines and parameters can be read by others."""

from pathlib import Path


def read_key(path: str) -> str:
    """The key in a file. Raises ValueError, with one sentence."""
    try:
        key = Path(path).expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"the API key cannot be read from {path} ({error})") from error
    if not key or not key.isprintable() or " " in key:
        raise ValueError(f"{path} holds no API key: write one word into it, for example with `openssl rand -hex 32`")
    return key
