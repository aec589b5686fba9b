# SPDX-License-Identifier: Apache-2.0
"""Decoders by name."""
from collections.abc import Callable
from dataclasses import dataclass

from vla_sd_ros.decoding import methods
from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.decoding.speculative import Speculative


@dataclass(frozen=True)
class Recipe:
    """build: from settings and a drafter to the method. needs: "drafter" and "database", as far as it uses them."""

    build: Callable
    needs: tuple[str, ...] = ()


RECIPES = {
    "naive_sd": Recipe(lambda s, d: methods.Drafted(s, d, relaxed=False), ("drafter",)),
    "spec_vla": Recipe(lambda s, d: methods.Drafted(s, d, relaxed=True), ("drafter",)),
    "kerv": Recipe(methods.Kerv, ("drafter",)),
    "kerv_repeat": Recipe(lambda s, d: methods.Kerv(s, d, repeat=True), ("drafter",)),
    "kerv_reference": Recipe(methods.KervReference, ("drafter",)),
    "retrieval_only": Recipe(lambda s, d: methods.RetrievalOnly(), ("database",)),
    "heisd": Recipe(methods.Heisd, ("drafter", "database")),
    "heisd_reference": Recipe(methods.HeisdReference, ("drafter", "database")),
    "prefill": Recipe(lambda s, d: methods.Prefill(s, relaxed=False)),
    "prefill_relaxed": Recipe(lambda s, d: methods.Prefill(s, relaxed=True)),
    "prefill_jacobi": Recipe(lambda s, d: methods.Jacobi(s)),
    "fused": Recipe(lambda s, d: methods.Fused(s)),
}


def make(name: str, vla, settings: Settings = Settings(), drafter=None, database=None) -> Autoregressive | Speculative:
    """The decoder of this name over a loaded policy.

    Raises ValueError for an unknown name, or when the drafter or the database that it needs is not given.
    """
    check(name, drafter is not None, database is not None)
    if name == Autoregressive.name:
        return Autoregressive(vla)
    return Speculative(name, vla, RECIPES[name].build(settings, drafter), settings, database)


def check(name: str, drafter: bool, database: bool) -> None:
    """Raises ValueError as make() does, before a policy is loaded: whether there is a drafter, a database."""
    if name not in DECODERS:
        raise ValueError(f"unknown decoder {name!r}: choose one of {', '.join(DECODERS)}")
    given = {"drafter": drafter, "database": database}
    for need in RECIPES[name].needs if name in RECIPES else ():
        if not given[need]:
            raise ValueError(
                f"decoder {name!r} needs a {need}: set policy.{need} or give --{need}, or choose another decoder")
