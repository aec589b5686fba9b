# SPDX-License-Identifier: Apache-2.0
"""ROS parameter files read without ROS: which sections they have, and which of these reach which node.

rcl gives a node the sections whose name fits it and says nothing of the others: a limit under `arm_node:` instead of
`/**/arm_node:` is then simply not in force. Here such a section is an error.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vla_sd_ros.node_names import NODES

ANY = ("*", "**")


class _Loader(yaml.SafeLoader):
    """Numbers as rcl reads them: 1e-3 is one, though YAML 1.1 wants 1.0e-3."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


@dataclass(frozen=True)
class Section:
    """The parameters under one name of a parameter file, nested ones with dots."""

    name: str  # with wildcards, as it is written
    values: Mapping[str, Any]

    @property
    def node(self) -> str:
        """The node that is meant, in whatever namespace; * or ** for any."""
        return self.name.rpartition("/")[2]

    def fits(self, node: str) -> bool:
        """Whether rcl gives this section to the node of this full name."""
        pattern = re.escape("/" + self.name.lstrip("/")).replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"/\w+")
        return re.fullmatch(pattern, node) is not None


def read(path: str | Path) -> list[Section]:
    """The sections of a file, in its order. ValueError, with one sentence, where it is no parameter file."""
    try:
        tree = yaml.compose(Path(path).read_text(), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the parameter file {path} cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    sections: dict[str, dict] = {}
    try:
        _collect(tree, "", sections, str(path))
    except (yaml.YAMLError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no parameter file: what stands below ros__parameters must be names and plain values "
            f"({' '.join(str(error).split())[:120]})"
        ) from error
    return [Section(name, values) for name, values in sections.items()]


def _collect(tree: yaml.Node | None, name: str, sections: dict[str, dict], path: str) -> None:
    """Fills `sections` from the nodes of YAML, because a dictionary would lose the first of two sections of one name."""
    if not isinstance(tree, yaml.MappingNode):
        if tree is None and not name:
            return  # an empty file
        raise ValueError(
            f"{path} is no parameter file: {f'section {name!r}' if name else 'it'} has no ros__parameters below the name of a node"
        )
    for key, value in tree.value:
        if key.value == "ros__parameters":
            sections.setdefault(name, {}).update(flat(_plain(value)))
        else:
            _collect(value, f"{name}/{key.value}" if name else key.value, sections, path)


def _plain(tree: yaml.Node) -> Any:
    return _Loader("").construct_document(tree)


def flat(tree: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """Nested parameters under their full names: {"limits": {"linear_velocity": 0.4}} is {"limits.linear_velocity": 0.4}."""
    values: dict[str, Any] = {}
    for key, value in (tree or {}).items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def values_of(sections: Iterable[Section], node: str) -> dict[str, Any]:
    """What the node of this full name gets."""
    values: dict[str, Any] = {}
    for section in sections:
        if section.fits(node):
            values |= section.values
    return values


def refuse_lost(path: str | Path, sections: Sequence[Section], nodes: Iterable[str], strangers: bool = True) -> None:
    """ValueError where a section is meant for one of these nodes, by their full names, and reaches none of them.

    A file may have sections for the same node in several namespaces; one must fit. strangers: whether there may be
    sections for nodes that this package does not have.
    """
    full = {node.rpartition("/")[2]: node for node in nodes}
    for section in sections:
        if section.node in full:
            node = full[section.node]
            if not any(s.fits(node) for s in sections if s.node == section.node):
                raise ValueError(
                    f"{path} has the section '{section.name}', which is not for {node}: write it as /**/{section.node}, or with "
                    "the namespace of the node"
                )
        elif section.node not in (*NODES, *ANY):
            near = difflib.get_close_matches(section.node, full, n=1, cutoff=0.75)
            if near or not strangers:
                hint = f"did you mean '/**/{near[0]}'?" if near else f"it may have those of {', '.join(NODES)}"
                raise ValueError(f"{path} has the section '{section.name}', which no node reads: {hint}")


def refuse_unknown(path: str | Path, sections: Iterable[Section], node: str, known: Iterable[str]) -> None:
    """ValueError where the node of this full name would get a parameter that it does not have."""
    known = set(known)
    for section in sections:
        for name in section.values if section.fits(node) else ():
            if name not in known and name != "use_sim_time" and not name.startswith("qos_overrides."):
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else "write it under the node that has it"
                raise ValueError(
                    f"{path} gives {node.rpartition('/')[2]} the parameter '{name}' (section '{section.name}'), which it does not "
                    f"have: {hint}"
                )


def given(arguments: Sequence[str]) -> list[str]:
    """The parameter files among the arguments of a process."""
    return [value for name, value in zip(arguments, arguments[1:]) if name == "--params-file"]
