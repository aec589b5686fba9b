# SPDX-License-Identifier: Apache-2.0
"""In a real browser, before a robot without ROS: each state has its word, HOLD is always in reach, text stays text."""

import json
import time

import pytest
from browser import DESKTOP, PHONE, Page, chromium
from operators import NotingRobot, console, ready, step

SENTENCE = "pick up the milk and place it in the basket"
HOSTILE = "<img src=x onerror='document.body.dataset.broken=1'>\"';alert(1)//"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def look(request):
    return request.param


@pytest.fixture
def opened(browser, tmp_path, look):
    """The robot, and its page once it shows the state."""
    robot = NotingRobot()
    with console(robot, tmp_path) as port:
        page = Page(browser, f"http://127.0.0.1:{port}/", look)
        page.sees("#word", "READY")
        yield robot, page
        assert page.failures == []
        assert all(address.startswith((f"http://127.0.0.1:{port}/", "blob:", "data:")) for address in page.asked)
        page.close()


GOAL = {"id": "00", "instruction": SENTENCE, "step": 12, "elapsed": 2.4, "warnings": []}


STATES = (
    ({}, "idle", "READY", "no goal is running"),
    ({"goal": GOAL, "arm": {"moving": True, "code": 0}}, "moving", "MOVING", "step 12"),
    (
        {
            "goal": GOAL,
            "arm": {"held": True, "fault": True, "code": 1111, "name": "HELD", "message": "the service ~/hold was called"},
        },
        "held",
        "HELD",
        "the service ~/hold was called",
    ),
    ({"arm": {"fault": True, "code": 1113, "name": "ROBOT_FAULT", "message": "a reflex"}}, "fault", "ROBOT FAULT", "a reflex"),
    ({"arm": {"there": False, "problem": "arm_node has been silent for 4 s"}}, "lost", "ARM LOST", "use the emergency stop"),
    ({"vla": {"there": False, "problem": "vla_node has been silent for 4 s"}}, "lost", "POLICY LOST", "silent for 4 s"),
    ({"vla": {"state": "inactive"}}, "lost", "NOT READY", "vla_node is inactive"),
)


def test_each_state_has_its_word_its_reason_and_its_colour(opened):
    robot, page = opened
    for changes, kind, word, why in STATES:
        robot.shown = (plain := ready()) | {
            name: plain[name] | change if plain[name] else change for name, change in changes.items()
        }
        page.sees("#word", word)
        page.sees("#why", why)
        page.wait_for(f"document.body.dataset.kind === {json.dumps(kind)}")


def test_recover_is_there_where_a_fault_needs_it(opened):
    robot, page = opened
    page.wait_for("document.getElementById('recover').hidden")
    robot.shown = (plain := ready()) | {"arm": plain["arm"] | {"fault": True, "recover": True, "code": 1113, "name": "ROBOT_FAULT"}}
    page.sees("#word", "ROBOT FAULT")
    page.page.click("#recover")
    end = time.monotonic() + 5.0
    while ("recover",) not in robot.asked and time.monotonic() < end:
        time.sleep(0.02)
    assert robot.asked == [("recover",)]


def test_hold_is_in_reach_wherever_the_page_is_scrolled(opened, look):
    robot, page = opened
    robot.decoded = [step(n, path) for n, path in enumerate(("draft", "kalman", "skip") * 40, 1)]
    robot.known = {"vla": [], "arm": [PARAMETER | {"name": f"limits.number_{i}"} for i in range(60)]}
    robot.shown |= {"parameters": 2, "events": [{"at": 0, "kind": "fault", "text": "x" * 500}] * 50}
    page.wait_for("document.querySelectorAll('.parameter').length === 60")
    width, height = look["viewport"].values()
    for share in (0, 0.5, 1):
        page.page.evaluate(f"window.scrollTo(0, {share} * document.body.scrollHeight)")
        box = page.page.locator("#hold").bounding_box()
        assert box["height"] >= 48 and box["width"] >= 120
        assert 0 <= box["x"] and box["x"] + box["width"] <= width and 0 <= box["y"] and box["y"] + box["height"] <= height
        page.click("#hold")
        page.sees("#answer", "done: hold")
        page.sees("#word", "READY")
        for said in ("#answer", "#word"):  # what came of it, and the state, are in sight too
            box = page.page.locator(said).bounding_box()
            assert 0 <= box["y"] and box["y"] + box["height"] <= height
    assert robot.asked == [("hold", True)] * 3
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width, "the page can be scrolled sideways"


def test_escape_holds_and_a_second_press_does_not_release(opened):
    robot, page = opened
    page.page.keyboard.press("Escape")
    page.sees("#answer", "done: hold")
    page.click("#hold")
    page.page.keyboard.press("Escape")
    page.page.wait_for_timeout(200)
    assert robot.asked == [("hold", True)] * 3


PARAMETER = {
    "name": "control_period",
    "kind": "float",
    "value": 0.2,
    "description": "Time of one action [s].",
    "unit": "s",
    "low": 0.02,
    "high": 5.0,
    "choices": [],
}


def test_parameters_have_units_ranges_and_choices(opened):
    robot, page = opened
    robot.known = {
        "vla": [
            PARAMETER,
            PARAMETER
            | {
                "name": "decoder.name",
                "kind": "str",
                "value": "fused",
                "choices": ["fused", "kerv"],
                "unit": "",
                "low": None,
                "high": None,
                "description": "Decoder.",
            },
            PARAMETER | {"name": "workspace.min", "kind": "list of float", "value": [0.1, -0.5, 0.0], "unit": "m"},
        ],
        "arm": [PARAMETER | {"name": "dry_run", "kind": "bool", "value": False, "unit": "", "low": None, "high": None}],
    }
    robot.shown["parameters"] = 2
    page.sees("[id='group-vla_node: general'] label", "control_period [s]")
    page.page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    page.sees("[id='parameter-vla-control_period']", "Range: 0.02 to 5")
    page.page.locator("[id='parameter-vla-control_period-value']").fill("0.4")
    page.click("[id='parameter-vla-control_period'] button")
    page.sees("#answer", "done: parameter")
    page.page.locator("[id='parameter-vla-decoder.name-value']").select_option("kerv")
    page.page.locator("[id='parameter-vla-workspace.min-value']").fill("0.2, -0.5, 0")
    page.click("[id='parameter-vla-workspace.min'] button")
    page.page.locator("[id='parameter-arm-dry_run-value']").check()
    page.page.wait_for_timeout(200)
    assert robot.asked == [
        ("parameter", "vla", "control_period", 0.4),
        ("parameter", "vla", "decoder.name", "kerv"),
        ("parameter", "vla", "workspace.min", [0.2, -0.5, 0]),
        ("parameter", "arm", "dry_run", True),
    ]


def test_what_comes_from_elsewhere_stays_text(opened):
    robot, page = opened
    robot.shown |= {
        "sentences": [HOSTILE],
        "events": [{"at": 0, "kind": "goal", "text": HOSTILE}],
        "last": {"instruction": HOSTILE, "reason": "fault", "message": HOSTILE},
        "arm": robot.shown["arm"] | {"fault": True, "code": 1113, "name": "ROBOT_FAULT", "message": HOSTILE},
    }
    robot.known = {"vla": [PARAMETER | {"name": HOSTILE, "description": HOSTILE}], "arm": []}
    robot.decoded = [step(n, HOSTILE) for n in range(4, 9)]
    robot.shown["parameters"] = 2
    page.sees("#why", HOSTILE)
    page.sees("#events", HOSTILE)
    page.sees("#paths", HOSTILE)
    page.sees("#last", HOSTILE)
    assert page.page.evaluate("document.body.dataset.broken") is None


def test_a_key_is_asked_for_once_and_kept_over_a_reload(browser, tmp_path):
    robot = NotingRobot()
    with console(robot, tmp_path, "correct-horse") as port:
        page = Page(browser, f"http://127.0.0.1:{port}/", PHONE)
        page.page.locator("#key").fill("wrong")
        page.click("#login button")
        page.sees("#refused", "That key is wrong.")
        page.page.locator("#key").fill("correct-horse")
        page.click("#login button")
        page.sees("#word", "READY")
        page.page.reload()
        page.sees("#word", "READY")
        page.click("#hold")
        page.sees("#answer", "done: hold")
        assert page.failures == [] and robot.asked == [("hold", True)]
        page.close()


def test_a_lost_console_is_told_and_the_page_comes_back_by_itself(browser, tmp_path):
    robot = NotingRobot()
    with console(robot, tmp_path) as port:
        page = Page(browser, f"http://127.0.0.1:{port}/", PHONE)
        page.sees("#word", "READY")
    page.sees("#word", "NO CONNECTION")
    page.sees("#why", "use the emergency stop")
    page.click("#hold")
    page.sees("#answer", "HOLD did nothing. Use the emergency stop.")
    with console(robot, tmp_path, port=port):
        page.click("#hold")  # at once, with the token of the console before
        page.sees("#answer", "done: hold")
        page.sees("#word", "READY")
    assert page.failures == [] and robot.asked == [("hold", True)]
    page.close()


def test_a_console_that_falls_silent_is_asked_anew(browser, tmp_path):
    robot = NotingRobot()
    with console(robot, tmp_path) as port:
        page = Page(browser, f"http://127.0.0.1:{port}/", PHONE)
        page.sees("#word", "READY")
        whole, robot.shown = robot.shown, None  # what tells the page fails
        page.sees("#word", "NO CONNECTION")
        robot.shown = whole
        page.sees("#word", "READY", 15.0)
        page.close()
