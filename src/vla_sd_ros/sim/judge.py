# SPDX-License-Identifier: Apache-2.0
"""Which sentences a scene can judge, and whether what one of them asks for has happened, or something else instead.

LIBERO judges one goal for each task. Here it is the sentence that chooses the goal: any object of the scene in or on whatever
can hold it, drawers, the stove. A sentence that says more than that, or names what is not there, is not judged.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from vla_sd_ros.instruction import normalized

Predicate = tuple[str, ...]  # as LIBERO has it: ("in", "milk_1", "basket_1_contain_region")

WRONG_TIME = 1.0  # [s] for which something else must be in the goal, so that nothing is judged that only passes

# What LIBERO's kinds of things are called besides their own names.
CALLED = {
    "akita_black_bowl": ("black bowl", "bowl"),
    "black_book": ("black book", "book"),
    "chefmate_8_frypan": ("frying pan", "frypan", "pan"),
    "cream_cheese": ("cream cheese", "cream cheese box"),
    "cookies": ("cookies", "cookie box"),
    "glazed_rim_porcelain_ramekin": ("ramekin",),
    "porcelain_mug": ("white mug", "porcelain mug"),
    "red_coffee_mug": ("red mug", "red coffee mug"),
    "white_yellow_mug": ("yellow and white mug", "white and yellow mug"),
    "wine_bottle": ("wine bottle", "bottle"),
    "flat_stove": ("stove",),
    "wooden_cabinet": ("wooden cabinet", "cabinet"),
    "white_cabinet": ("white cabinet", "cabinet"),
    "wine_rack": ("wine rack", "rack"),
    "desk_caddy": ("caddy",),
    "alphabet_soup": ("alphabet soup", "soup"),
}
DRAWERS = ("top", "middle", "bottom")
# Where a thing can be put: by kind, what follows its name in LIBERO's own names, and the predicate.
HOLDERS = {
    "basket": ("in", "_contain_region"),
    "plate": ("on", ""),
    "akita_black_bowl": ("on", ""),
    "flat_stove": ("on", "_cook_region"),
    "wooden_cabinet": ("on", "_top_side"),
    "white_cabinet": ("on", "_top_side"),
    "wine_rack": ("on", "_top_region"),
    "microwave": ("in", "_heating_region"),
}
_VERB = r"(?:please )?(?:pick up|take|grab|get|fetch|put|place|move|bring|drop|lay|set) (?:both )?"
_IN = r"(?:in|into|inside|on|onto|on top of)"
PUT = (
    re.compile(rf"{_VERB}(?P<things>.+) and (?:place|put|drop|move|lay|set) (?:it|them) {_IN} (?P<where>.+)"),
    re.compile(rf"{_VERB}(?P<things>.+?) {_IN} (?P<where>.+)"),
)
OPEN = re.compile(rf"(?:please )?(?P<what>open|close) the (?P<drawer>{'|'.join(DRAWERS)}) drawer(?: of the (?P<of>.+))?")
TURN = re.compile(r"(?:please )?(?:turn|switch) (?P<how>on|off) the stove")
REGION = re.compile(r"(.*)_(\w+)_region")  # of a drawer, by its cabinet and its place in it
ARTICLE = re.compile(r"^(?:the|a|an) ")


class State(IntEnum):
    """Same names and values as the constants of vla_sd_msgs/TaskOutcome."""

    NOT_JUDGED = 0
    OPEN = 1
    SUCCESS = 2
    FAILURE = 3


@dataclass(frozen=True)
class Goal:
    """predicates: all of them make the success. wrong: any of them is a failure; with the name of what it is about."""

    predicates: tuple[Predicate, ...]
    wrong: dict[Predicate, str] = field(default_factory=dict)


class NotJudged(ValueError):
    """A sentence that this scene cannot judge; says why."""


def kind(name: str) -> str:
    """The kind of a thing: "milk" of "milk_1"."""
    return name.rsplit("_", 1)[0]


def called(name: str) -> str:
    """What people call a thing: "black bowl" of "akita_black_bowl_1"."""
    return CALLED.get(kind(name), (kind(name).replace("_", " "),))[0]


class Things:
    """What is in a scene: movable objects and fixtures, by LIBERO's names; its own sentence, with that one's goal."""

    def __init__(self, objects: Sequence[str], fixtures: Sequence[str], instruction: str, goal: Iterable[Sequence[str]]):
        self._objects, self._all = list(objects), [*objects, *fixtures]
        self._own, self._own_goal = normalized(instruction), tuple(tuple(predicate) for predicate in goal)

    def goal(self, instruction: str) -> Goal:
        """The goal of a sentence; NotJudged, with why, where there is none."""
        said = normalized(instruction)
        if said == self._own:
            return Goal(self._own_goal, self._wrong(self._own_goal))
        predicates = self._put(said) or self._drawer(said) or self._stove(said)
        if predicates is None:
            raise NotJudged(f"{said!r} is no sentence of this scene's: it judges one like {self.example()!r}")
        return Goal(predicates, self._wrong(predicates))

    def example(self) -> str:
        """A sentence that this scene can judge."""
        return self._own

    def _put(self, said: str) -> tuple[Predicate, ...] | None:
        match = PUT[0].fullmatch(said) or PUT[1].fullmatch(said)
        if match is None:
            return None
        relation, holder = self._holder(match["where"])
        things = [self._one(thing, self._objects) for thing in self._split(match["things"])]
        if any(holder.startswith(thing) for thing in things):
            raise NotJudged(f"nothing can be put {relation} itself")
        return tuple((relation, thing, holder) for thing in things)

    def _split(self, things: str) -> list[str]:
        """Names joined by "and", which may itself be part of one ("yellow and white mug")."""
        return [things] if self._named(things, self._objects) else re.split(r" and (?=the |a |an )", things)

    def _holder(self, where: str) -> tuple[str, str]:
        """Predicate and region of what a thing is put in or on."""
        drawer = re.fullmatch(rf"(?:the )?({'|'.join(DRAWERS)}) drawer(?: of (.+))?", where)
        if drawer:
            return "in", f"{self._cabinet(drawer[2])}_{drawer[1]}_region"
        name = self._one(re.sub(r"^(?:the )?top of ", "", where), self._all)
        if kind(name) not in HOLDERS:
            raise NotJudged(f"this scene does not judge what is on the {called(name)}")
        relation, region = HOLDERS[kind(name)]
        return relation, name + region

    def _drawer(self, said: str) -> tuple[Predicate, ...] | None:
        match = OPEN.fullmatch(said)
        return match and ((match["what"], f"{self._cabinet(match['of'])}_{match['drawer']}_region"),)

    def _stove(self, said: str) -> tuple[Predicate, ...] | None:
        match = TURN.fullmatch(said)
        return match and ((f"turn{match['how']}", self._one("stove", self._all)),)

    def _cabinet(self, phrase: str | None) -> str:
        return self._one(phrase or "cabinet", [name for name in self._all if "cabinet" in name])

    def _named(self, phrase: str, among: list[str]) -> list[str]:
        """The things that a phrase names exactly: "the black bowl" names each black bowl, "the red bowl" nothing."""
        bare = ARTICLE.sub("", phrase.strip())
        return [name for name in among if bare in (*CALLED.get(kind(name), ()), kind(name).replace("_", " "))]

    def _one(self, phrase: str, among: list[str]) -> str:
        named = self._named(phrase, among)
        if len(named) == 1:
            return named[0]
        bare = ARTICLE.sub("", phrase)
        raise NotJudged(
            f"there are {len(named)} things called {bare!r} in this scene"
            if named
            else f"this scene has nothing called {bare!r}; it has {', '.join(sorted(set(map(called, among))))}"
        )

    def _wrong(self, predicates: Sequence[Predicate]) -> dict[Predicate, str]:
        """The same done with something else: another thing in the goal, another drawer."""
        wrong: dict[Predicate, str] = {}
        for relation, *about in predicates:
            if relation in ("in", "on") and len(about) == 2:
                wanted = {thing for same, thing, *where in predicates if where == about[1:]}
                others = [name for name in self._objects if name not in wanted and not about[1].startswith(name)]
                wrong |= {
                    (relation, name, about[1]): f"the {called(name)} is where the {called(about[0])} was to go" for name in others
                }
            elif relation in ("open", "close") and (match := REGION.fullmatch(about[0])):
                cabinet, drawer = match.groups()
                wrong |= {
                    (relation, f"{cabinet}_{other}_region"): f"the {other} drawer was moved instead of the {drawer} one"
                    for other in DRAWERS
                    if other != drawer
                }
        return wrong


class Judge:
    """Watches one sentence in a scene, from the moment at which it is asked for."""

    def __init__(self, things: Things, instruction: str, holds: Callable[[Predicate], bool]):
        """holds: whether a predicate is true now. Where the sentence cannot be judged, `why` says so."""
        self.instruction, self.why = instruction, ""
        self._holds, self._goal = holds, None
        self._since: dict[Predicate, float] = {}  # when something else got into the goal
        try:
            goal = things.goal(instruction)
            for predicate in goal.predicates:
                holds(predicate)
            self._goal = Goal(goal.predicates, {wrong: what for wrong, what in goal.wrong.items() if self._judged(wrong)})
        except Exception as error:  # LIBERO's predicates raise what they like about what they were not made for
            self.why = str(error) if isinstance(error, NotJudged) else f"the simulator has no predicate for {instruction!r}"

    def _judged(self, predicate: Predicate) -> bool:
        """Whether a predicate of something wrong says anything: it can be evaluated, and is not true from the start."""
        try:
            return not self._holds(predicate)
        except Exception:  # as above
            return False

    def look(self, time: float) -> tuple[State, str]:
        """The state at a simulated time [s], and one sentence where it is no success."""
        try:
            return self._look(time)
        except Exception as error:  # as above: it must not end the simulation
            self._goal, self.why = None, f"the simulator cannot judge {self.instruction!r} ({type(error).__name__})"
            return State.NOT_JUDGED, self.why

    def _look(self, time: float) -> tuple[State, str]:
        if self._goal is None:
            return State.NOT_JUDGED, self.why
        if all(self._holds(predicate) for predicate in self._goal.predicates):
            return State.SUCCESS, ""
        for predicate, what in self._goal.wrong.items():
            if not self._holds(predicate):
                self._since.pop(predicate, None)
            elif time - self._since.setdefault(predicate, time) >= WRONG_TIME:
                return State.FAILURE, what
        return State.OPEN, ""
