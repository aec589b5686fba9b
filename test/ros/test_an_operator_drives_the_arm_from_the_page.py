# SPDX-License-Identifier: Apache-2.0
"""In a real browser, before the real nodes and a simulated arm: a goal started, watched and stopped by clicks; two operators
who see the same; a page that is loaded anew; nodes that are lost and come back. A console that is lost: test/console.

The picture of the README, before a simulated scene: CONSOLE_PICTURE=docs/console.png make test ARGS=test/ros/THIS_FILE
"""

import io
import os
import sys
import time
from pathlib import Path

import pytest
from system import System
from vla_sd_msgs.msg import ArmStatus

sys.path.insert(0, str(Path(__file__).parents[1] / "console"))

from browser import DESKTOP, PHONE, ConsoleProcess, Page, chromium  # noqa: E402

PICTURE = os.environ.get("CONSOLE_PICTURE", "")
SENTENCE = "pick up the milk and place it in the basket"  # one of those that the shipped policy knows
SLOW = 20.0  # s, for what takes a second on an idle machine


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def system(browser, tmp_path_factory):  # after the browser: where there is none, nothing is started
    robot, scale = ("scene", 1.0) if PICTURE else ("arm", 0.1)  # the picture of an arm without a scene leads nowhere
    with System(
        tmp_path_factory.mktemp("system"), robot, relay=False, arm={"action_scale": scale}, vla={"decoder.name": "fused"}
    ) as system:
        yield system


@pytest.fixture(scope="module")
def console(system, tmp_path_factory):
    process = ConsoleProcess(system.domain, tmp_path_factory.mktemp("console"), "--runs", str(tmp_path_factory.mktemp("runs")))
    yield process
    assert process.terminate() == 0 and "Traceback" not in process.log


@pytest.fixture
def operator(browser, console):
    """Opens pages; at the end of the test no goal runs and nothing holds the arm."""
    pages = []

    def opened(look=DESKTOP):
        pages.append(Page(browser, console.url, look))
        pages[-1].wait_for("document.body.dataset.kind !== 'lost'", SLOW)
        return pages[-1]

    yield opened
    last = pages[-1]
    last.click("#stop")
    if last.page.locator("#release").is_visible():
        last.click("#release")
    for page in pages:
        page.wait_for("document.querySelector('#running').hidden", SLOW)
        assert page.failures == []
        page.close()


def moved(system) -> bool:
    """Whether the target moved in the last half second."""
    recent = [message.pose.position for when, message in list(system.targets) if when > time.monotonic() - 0.5]
    return bool(recent) and max(abs(p.x - q.x) + abs(p.y - q.y) + abs(p.z - q.z) for p in recent for q in recent[:1]) > 1e-4


def test_a_goal_is_started_watched_and_stopped_by_clicks(system, operator):
    page = operator()
    page.page.locator("#known").select_option(SENTENCE)
    page.click("#start:enabled")
    page.sees("#word", "MOVING", SLOW)
    page.sees("#progress", SENTENCE)
    system.ros.wait_until(lambda: moved(system), "motion", SLOW)
    page.wait_for("document.querySelector('#picture').naturalWidth > 0")
    picture = page.page.get_attribute("#picture", "src")
    page.wait_for(f"document.querySelector('#picture').src !== '{picture}'")
    page.wait_for("Number(document.querySelector('#newest').textContent.match(/step (\\d+)/)?.[1] ?? 0) > 5", SLOW)
    for canvas in ("latency", "accepted"):
        drawn = f"document.querySelector('#{canvas}').toDataURL()"
        before = page.page.evaluate(drawn)
        page.wait_for(f"{drawn} !== '{before}'", SLOW)  # each action moves the bars
    page.sees("#stages", "prefill")
    if PICTURE:
        photograph(page, operator(PHONE), Path(PICTURE))
    page.click("#stop")
    page.sees("#last", "cancelled", SLOW)
    page.sees("#word", "READY", SLOW)
    system.wait_for_rest(time.monotonic())


def test_two_operators_see_the_same_and_one_holds_for_both(system, operator):
    one, other = operator(), operator(PHONE)
    one.start(SENTENCE)
    other.sees("#progress", SENTENCE)
    other.sees("#chips", "2 operators")
    system.ros.wait_until(lambda: moved(system), "motion", SLOW)
    other.click("#hold")
    for page in (one, other):
        page.sees("#word", "HELD")
        page.sees("#events", "HOLD pressed at 127.0.0.1")
    system.wait_for_rest(time.monotonic())
    assert system.statuses[-1][1].code == ArmStatus.HELD
    for page in (one, other):
        page.sees("#last", "fault", SLOW)
        assert page.page.locator("#start").is_disabled()
    other.click("#hold")  # again: still held
    other.sees("#answer", "the arm holds")
    one.click("#release")
    for page in (one, other):
        page.sees("#word", "READY")
        page.sees("#events", "HOLD released at 127.0.0.1")


def test_a_goal_that_somebody_else_began_is_seen_over_a_reload_and_stopped(system, operator):
    system.client.start(SENTENCE, time_limit=600.0)
    page = operator()
    page.sees("#progress", SENTENCE)
    page.page.reload()
    page.sees("#progress", SENTENCE)
    page.sees("#word", "MOVING", SLOW)
    page.wait_for("Number(document.querySelector('#newest').textContent.match(/step (\\d+)/)?.[1] ?? 0) > 3", SLOW)
    page.click("#stop")
    assert system.client.result(SLOW).termination_reason == "cancelled"


def test_an_operators_mark_ends_the_goal(system, operator):
    page = operator()
    page.start(SENTENCE)
    page.click("#success")
    page.sees("#last", "success", SLOW)
    page.start(SENTENCE)
    page.click("#failure")
    page.sees("#last", "failure", SLOW)


def test_parameters_change_the_nodes_and_are_seen_by_all(system, operator):
    one, other = operator(), operator(PHONE)
    decoder = "[id='parameter-vla-decoder.name-value']"
    before = one.page.locator(decoder).input_value(timeout=1e3 * SLOW)
    one.page.locator(decoder).select_option("autoregressive")
    one.sees("#answer", "decoder.name is autoregressive")
    other.wait_for(f"document.querySelector(\"{decoder}\").value === 'autoregressive'")
    assert system.ros.set_parameter("vla_node", "decoder.name", before).successful
    one.wait_for(f"document.querySelector(\"{decoder}\").value === '{before}'")
    one.page.locator("#filter").fill("workspace")
    one.sees("[id='parameter-arm-workspace.min']", "workspace.min [m]")
    one.page.locator("[id='parameter-arm-workspace.min-value']").fill("0.9, 0, 0")
    one.click("[id='parameter-arm-workspace.min'] button")
    one.sees("#answer", "min must be below max")  # the node's own sentence
    one.wait_for("!document.querySelector(\"[id='parameter-arm-workspace.min-value']\").value.startsWith('0.9')")


def test_a_lost_policy_is_told_and_its_goal_too(system, operator):
    page = operator()
    page.start(SENTENCE)
    page.sees("#word", "MOVING", SLOW)
    system.processes["vla_node"].kill()
    page.sees("#word", "COMMAND STALE", SLOW)
    page.sees("#word", "POLICY LOST", SLOW)
    page.sees("#why", "has been silent")
    assert system.restart_dead() == ["vla_node"]
    page.sees("#word", "COMMAND STALE", SLOW)  # why the arm holds, until the next goal
    page.sees("#last", "vla_node was started anew and knows nothing of this goal", SLOW)


def test_a_lost_arm_is_told_and_a_hold_that_did_not_arrive_too(system, operator):
    page = operator()
    system.processes["arm_node"].terminate()  # a killed one would stay in the graph for 20 s, as a second master of the next
    page.sees("#word", "ARM LOST", SLOW)
    page.click("#hold")
    page.sees("#answer", "the arm was NOT told to hold; use the emergency stop")
    assert system.restart_dead() == ["arm_node"]


def photograph(desktop: Page, phone: Page, path: Path) -> None:
    """Both pages side by side, as a PNG."""
    from PIL import Image

    phone.sees("#word", "MOVING")
    pictures = [Image.open(io.BytesIO(page.page.screenshot())).convert("RGB") for page in (desktop, phone)]
    height = pictures[0].height
    pictures[1] = pictures[1].resize((round(pictures[1].width * height / pictures[1].height), height))
    both = Image.new("RGB", (pictures[0].width + 24 + pictures[1].width, height), "white")
    both.paste(pictures[0], (0, 0))
    both.paste(pictures[1], (pictures[0].width + 24, 0))
    both.quantize(256, Image.Quantize.FASTOCTREE).save(path, optimize=True)
