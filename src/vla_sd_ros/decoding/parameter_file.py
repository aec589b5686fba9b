# SPDX-License-Identifier: Apache-2.0
"""The decoders' settings in a ROS parameter file, for programs that are no nodes."""

from collections.abc import Iterable
from dataclasses import fields, replace

import yaml

from vla_sd_ros import parameter_files
from vla_sd_ros.decoding.settings import Settings

DECODER = "decoder."  # before the name of each of its parameters


def read_settings(path: str | None) -> dict:
    """The settings by name of a file of vla-sd calibrate or of a node; none without a file. Raises ValueError."""
    return {} if path is None else read_parameters(path)[1]


def read_parameters(path: str) -> tuple[str, dict]:
    """The decoder's name, empty where it says none, and its settings by name, of the same kinds of file. Raises ValueError."""
    found = [
        of_decoder
        for section in parameter_files.read(path)
        if (of_decoder := {name.removeprefix(DECODER): value for name, value in section.values.items() if name.startswith(DECODER)})
    ]
    if not found:
        raise ValueError(f"{path} has no parameters of a decoder: vla-sd calibrate makes such a file")
    name = str(found[0].pop("name", ""))
    return name, check_settings(found[0])


def read_pairs(pairs: Iterable[str], parted: str = "") -> dict:
    """The settings by name of NAME=VALUE texts, each value as YAML, or, with parted, a list's entries with this between them.
    Raises ValueError."""
    given, found = dict(pair.partition("=")[::2] for pair in pairs), {}
    try:
        for name, value in given.items():
            a_list = parted and isinstance(getattr(Settings(), name, None), list)
            found[name] = [yaml.safe_load(entry) for entry in value.split(parted)] if a_list else yaml.safe_load(value)
        return check_settings(found)
    except yaml.YAMLError as error:
        raise ValueError(f"a setting is no YAML: {str(error).partition(chr(10))[0]}") from error


def check_settings(settings: dict) -> dict:
    """The same settings. Raises ValueError, with one sentence, for one that does not exist or a bad value."""
    known = {entry.name for entry in fields(Settings)}
    for name in settings:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}: choose one of {', '.join(sorted(known))}")
    replace(Settings(), **settings)
    return settings
