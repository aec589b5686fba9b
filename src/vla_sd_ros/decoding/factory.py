# SPDX-License-Identifier: Apache-2.0
"""Decoders by name."""

from dataclasses import dataclass, replace

from vla_sd_ros.decoding.autoregressive import Autoregressive
from vla_sd_ros.decoding.methods.fused import Fused
from vla_sd_ros.decoding.methods.heisd import Heisd, HeisdReference, RetrievalOnly
from vla_sd_ros.decoding.methods.kerv import Kerv, KervReference, KervRepeat
from vla_sd_ros.decoding.methods.prefill import Prefill, PrefillJacobi, PrefillRelaxed
from vla_sd_ros.decoding.methods.spec_vla import NaiveSd, SpecVla
from vla_sd_ros.decoding.settings import DECODERS, Settings
from vla_sd_ros.decoding.speculative import Method, Speculative


@dataclass(frozen=True)
class Recipe:
    """needs: "drafter" and "database", as far as the method uses them."""

    method: type[Method]
    needs: tuple[str, ...] = ()


RECIPES = {
    "naive_sd": Recipe(NaiveSd, ("drafter",)),
    "spec_vla": Recipe(SpecVla, ("drafter",)),
    "kerv": Recipe(Kerv, ("drafter",)),
    "kerv_repeat": Recipe(KervRepeat, ("drafter",)),
    "kerv_reference": Recipe(KervReference, ("drafter",)),
    "retrieval_only": Recipe(RetrievalOnly, ("database",)),
    "heisd": Recipe(Heisd, ("drafter", "database")),
    "heisd_reference": Recipe(HeisdReference, ("drafter", "database")),
    "prefill": Recipe(Prefill),
    "prefill_relaxed": Recipe(PrefillRelaxed),
    "prefill_jacobi": Recipe(PrefillJacobi),
    "fused": Recipe(Fused),
}


def make(name: str, vla, settings: Settings = Settings(), drafter=None, database=None) -> Autoregressive | Speculative:
    """The decoder of this name over a loaded policy.

    Raises ValueError for an unknown name, or when the drafter or the database that it needs is not given.
    """
    check(name, drafter is not None, database is not None)
    if name == Autoregressive.name:
        return Autoregressive(vla)
    method = RECIPES[name].method
    settings = replace(settings, **method.own)
    return Speculative(name, vla, method(settings, drafter), settings, database)


def needs(name: str) -> tuple[str, ...]:
    """What a decoder needs beside the policy: "drafter", "database"."""
    return RECIPES[name].needs if name in RECIPES else ()


def check(name: str, drafter: bool, database: bool) -> None:
    """Raises ValueError as make() does, before a policy is loaded: whether there is a drafter, a database."""
    if name not in DECODERS:
        raise ValueError(f"unknown decoder {name!r}: choose one of {', '.join(DECODERS)}")
    given = {"drafter": drafter, "database": database}
    for need in needs(name):
        if not given[need]:
            raise ValueError(f"decoder {name!r} needs a {need}: set policy.{need} or give --{need}, or choose another decoder")
