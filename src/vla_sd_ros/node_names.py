# SPDX-License-Identifier: Apache-2.0
"""The nodes of this package, by the names of their executables; who else has their names."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vla_sd_ros.client import InstructionClient

DRIVERS = ("franka_driver", "wxai_driver")  # of arms by pip
NODES = ("arm_node", "vla_node", "sim_node", "sim_arm_node", *DRIVERS, "goal_recorder")
# [s] in which nodes that are there already are seen: they announce themselves every 3 s, and the first words may be missed.
DISCOVERY = 4.0


def namesakes(
    client: "InstructionClient",
    names: Iterable[str],
    expected: int = 0,
    within: float = 0.0,
    check: Callable[[], None] = lambda: None,
) -> list[str]:
    """Full names of nodes, by those in the client's namespace, of which there are more than we have started: they would obey us, and
    move an arm.

    expected: how many of each name are ours. within [s]: how long to look, as nodes that were not yet discovered cannot be
    counted. check: called meanwhile, to give up by raising.
    """
    ours = {f"{client.node.get_namespace().rstrip('/')}/{name}" for name in names}

    def there() -> list[str]:
        found = [f"{namespace.rstrip('/')}/{name}" for name, namespace in client.node.get_node_names_and_namespaces()]
        return sorted(name for name in ours if found.count(name) > expected)

    def seen() -> bool:
        check()
        return bool(there())

    client.spin_until(seen, within)
    return there()
