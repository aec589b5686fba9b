# SPDX-License-Identifier: Apache-2.0
"""The live parameters of vla_node ("vla") and its arm_node ("arm"), as those describe them, and how one is changed."""

import math
import time
from collections.abc import Callable
from threading import RLock
from typing import Any

from rcl_interfaces.msg import ParameterEvent
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile

from vla_sd_ros import instructions
from vla_sd_ros.console import Refused, asking, parameters

PATIENCE = 3.0  # s for an answer


class Tables:
    """`change` is awaited in an asyncio loop; everything else is for the node's own thread. `lock` guards the tables.

    version: another one with each change of a table. checkpoint: of vla_node, or its server's address. sentences: that its
    policy knows.
    """

    def __init__(self, node: Any, lock: RLock):
        self._node, self._lock = node, lock
        self.checkpoint, self.sentences = "", list[str]()
        self.version = 0
        self._tables: dict[str, list[dict]] = {"vla": [], "arm": []}
        self._clients: dict[str, AsyncParameterClient] = {}
        self._names: dict[str, str] = {}  # of the nodes
        self._asked: dict[str, float] = {}  # when each was asked last for all its parameters
        node.create_subscription(ParameterEvent, "/parameter_events", self._on_parameters, QoSProfile(depth=100))

    def follow(self, which: str, name: str) -> None:
        """From here on the node of this name (with its namespace) is the one that is meant."""
        self._clients[which], self._names[which] = AsyncParameterClient(self._node, name), name
        self._take(which, [])

    def copy(self) -> dict[str, list[dict]]:
        """All of them, as parameters.table() has each."""
        with self._lock:
            return {which: [dict(known) for known in table] for which, table in self._tables.items()}

    def value(self, which: str, name: str) -> Any:
        """Of a live parameter; empty where it is not known."""
        return next((known["value"] for known in self._tables[which] if known["name"] == name), "")

    def look(self, there: Callable[[str], bool]) -> None:
        """Fetch the table of a node that has come, forget that of one that is gone. there: whether a node was heard lately."""
        for which, client in list(self._clients.items()):
            if not there(which) and not client.services_are_ready():
                self._take(which, [])
            elif not self._tables[which] and time.monotonic() - self._asked.get(which, -math.inf) > PATIENCE:
                self._asked[which] = time.monotonic()
                self._node.executor.create_task(self._fetch, which, client)

    async def change(self, which: str, name: str, value: Any) -> None:
        """Set one of the parameters. Raises Refused, with the node's own reason where it has one."""
        known = next((known for known in self.copy().get(which, ()) if known["name"] == name), None)
        if not known:
            raise Refused(f"there is no live parameter {name[:80]!r} of {which[:20]!r}")
        message, client = parameters.message(known, value), self._clients[which]
        answer = await asking.answer(
            lambda: client.set_parameters([message]), client.services_are_ready(), PATIENCE, "the node is not there"
        )
        if not answer.results[0].successful:
            raise Refused(answer.results[0].reason or f"{name} was refused")

    async def _fetch(self, which: str, client: AsyncParameterClient) -> None:
        """All live parameters of a node; and of vla_node the sentences that its policy knows."""
        listed = await client.list_parameters()
        names = list(listed.result.names) if listed else []
        described, values = await client.describe_parameters(names), await client.get_parameters(names)
        if not described or not values or len(described.descriptors) != len(values.values):
            return  # a call that was cancelled answers None
        self._take(which, parameters.table(described.descriptors, values.values))
        given = dict(zip(names, map(parameters.plain, values.values)))
        if which == "vla":
            remote = given.get("policy.remote", "")
            self.checkpoint = remote or str(given.get("policy.checkpoint", ""))
            self.sentences = [] if remote else instructions.of(self.checkpoint)

    def _take(self, which: str, table: list[dict]) -> None:
        with self._lock:
            if table != self._tables[which]:
                self._tables[which] = table
                self.version += 1

    def _on_parameters(self, m: ParameterEvent) -> None:
        which = next((which for which, name in self._names.items() if name == m.node), "")
        if not which:
            return
        changed = {p.name: parameters.plain(p.value) for p in [*m.new_parameters, *m.changed_parameters]}
        with self._lock:
            self._take(which, [known | {"value": changed.get(known["name"], known["value"])} for known in self._tables[which]])
