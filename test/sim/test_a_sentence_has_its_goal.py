# SPDX-License-Identifier: Apache-2.0
"""The sentence chooses the goal that is judged, in each of LIBERO's scenes; the wrong object there is a failure, and a
sentence that the scene cannot judge is never a success.
"""

import pytest

from vla_sd_ros.sim.judge import Judge, NotJudged, State, Things

GROCERIES = Things(
    ["alphabet_soup_1", "basket_1", "salad_dressing_1", "cream_cheese_1", "milk_1", "tomato_sauce_1", "butter_1"],
    [],
    "pick up the alphabet soup and place it in the basket",
    [["in", "alphabet_soup_1", "basket_1_contain_region"]],
)
BOWLS = Things(
    ["akita_black_bowl_1", "akita_black_bowl_2", "cookies_1", "glazed_rim_porcelain_ramekin_1", "plate_1"],
    ["wooden_cabinet_1", "flat_stove_1"],
    "pick up the black bowl on the stove and place it on the plate",
    [["on", "akita_black_bowl_1", "plate_1"]],
)
KITCHEN = Things(
    ["akita_black_bowl_1", "cream_cheese_1", "wine_bottle_1", "plate_1"],
    ["wooden_cabinet_1", "flat_stove_1", "wine_rack_1"],
    "turn on the stove",
    [["turnon", "flat_stove_1"]],
)
MUGS = Things(["porcelain_mug_1", "red_coffee_mug_1", "white_yellow_mug_1", "plate_1"], ["microwave_1"], "-", [])


@pytest.mark.parametrize(
    "things, said, predicates",
    [
        (GROCERIES, "Pick up the milk and place it in the basket.", [("in", "milk_1", "basket_1_contain_region")]),
        (GROCERIES, "put the cream cheese box into the basket", [("in", "cream_cheese_1", "basket_1_contain_region")]),
        (
            GROCERIES,
            "put both the alphabet soup and the tomato sauce in the basket",
            [("in", "alphabet_soup_1", "basket_1_contain_region"), ("in", "tomato_sauce_1", "basket_1_contain_region")],
        ),
        (BOWLS, "pick up the black bowl on the stove and place it on the plate", [("on", "akita_black_bowl_1", "plate_1")]),
        (BOWLS, "put the cookies on the plate", [("on", "cookies_1", "plate_1")]),
        (KITCHEN, "put the bowl on the plate", [("on", "akita_black_bowl_1", "plate_1")]),
        (KITCHEN, "put the wine bottle on top of the cabinet", [("on", "wine_bottle_1", "wooden_cabinet_1_top_side")]),
        (KITCHEN, "put the wine bottle on the rack", [("on", "wine_bottle_1", "wine_rack_1_top_region")]),
        (KITCHEN, "put the cream cheese in the bowl", [("on", "cream_cheese_1", "akita_black_bowl_1")]),
        (KITCHEN, "put the bowl in the top drawer of the cabinet", [("in", "akita_black_bowl_1", "wooden_cabinet_1_top_region")]),
        (KITCHEN, "open the middle drawer of the cabinet", [("open", "wooden_cabinet_1_middle_region")]),
        (KITCHEN, "close the bottom drawer", [("close", "wooden_cabinet_1_bottom_region")]),
        (KITCHEN, "turn on the stove", [("turnon", "flat_stove_1")]),
        (MUGS, "put the yellow and white mug in the microwave", [("in", "white_yellow_mug_1", "microwave_1_heating_region")]),
        (
            MUGS,
            "put the white mug and the red mug on the plate",
            [("on", "porcelain_mug_1", "plate_1"), ("on", "red_coffee_mug_1", "plate_1")],
        ),
    ],
)
def test_it_is_judged_by_what_it_says(things, said, predicates):
    assert list(things.goal(said).predicates) == predicates


@pytest.mark.parametrize(
    "things, said, why",
    [
        (GROCERIES, "pick up the banana and place it in the basket", "nothing called 'banana'; it has alphabet soup, basket"),
        (GROCERIES, "put the milk on the plate", "nothing called 'plate'"),
        (GROCERIES, "dance", "no sentence of this scene's: it judges one like 'pick up the alphabet soup"),
        (GROCERIES, "put the milk on the butter", "does not judge what is on the butter"),
        (GROCERIES, "do not pick up the milk and place it in the basket", "no sentence of this scene's"),
        (GROCERIES, "pick up the red milk and place it in the basket", "nothing called 'red milk'"),
        (BOWLS, "put the black bowl on the plate", "2 things called 'black bowl'"),
        (
            BOWLS,
            "pick up the black bowl next to the plate and place it on the plate",
            "nothing called 'black bowl next to the plate'",
        ),
    ],
)
def test_what_cannot_be_judged_says_why(things, said, why):
    with pytest.raises(NotJudged, match=why):
        things.goal(said)
    assert Judge(things, said, lambda predicate: True).look(0.0)[0] == State.NOT_JUDGED


def test_the_wrong_object_in_the_goal_is_a_failure_that_names_it_and_no_success():
    true = set()
    judge = Judge(GROCERIES, "pick up the milk and place it in the basket", lambda predicate: predicate in true)
    assert judge.look(0.0) == (State.OPEN, "")
    true.add(("in", "alphabet_soup_1", "basket_1_contain_region"))
    assert judge.look(1.0) == (State.OPEN, "")  # it may only pass
    assert judge.look(2.0) == (State.FAILURE, "the alphabet soup is where the milk was to go")
    true = {("in", "milk_1", "basket_1_contain_region")}
    assert judge.look(3.0) == (State.SUCCESS, "")


def test_the_wrong_drawer_is_a_failure():
    true = set()
    judge = Judge(KITCHEN, "open the middle drawer of the cabinet", lambda predicate: predicate in true)
    true.add(("open", "wooden_cabinet_1_top_region"))
    judge.look(0.0)
    assert judge.look(1.5) == (State.FAILURE, "the top drawer was moved instead of the middle one")


def test_what_is_there_from_the_start_is_nothing_wrong():
    judge = Judge(BOWLS, "put the cookies on the plate", lambda predicate: predicate == ("on", "akita_black_bowl_2", "plate_1"))
    assert [judge.look(time)[0] for time in (0.0, 1.0, 5.0)] == [State.OPEN] * 3


def test_a_goal_that_the_simulator_lacks_is_not_judged():
    def holds(predicate):
        raise KeyError(predicate)

    assert Judge(KITCHEN, "close the bottom drawer", holds).look(0.0)[0] == State.NOT_JUDGED


def test_predicates_may_raise_what_they_like():
    def holds(predicate):
        raise AssertionError("not for these arguments")

    assert Judge(KITCHEN, "close the bottom drawer", holds).look(0.0)[0] == State.NOT_JUDGED

    calls = iter([False] * 20)
    judge = Judge(KITCHEN, "turn on the stove", lambda predicate: next(calls))
    assert judge.look(0.0)[0] == State.OPEN
    calls = iter([])
    assert judge.look(1.0) == (State.NOT_JUDGED, "the simulator cannot judge 'turn on the stove' (RuntimeError)")
