# SPDX-License-Identifier: Apache-2.0
"""vla-sd record: a bag a goal, that can be learnt from, with the operator's verdict; full disks and kills lose nothing written."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("vla_sd_msgs", reason="vla_sd_msgs is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))

from test_bags_are_read import START, Messages, action  # noqa: E402

from vla_sd_ros.recordings import Options, Recordings  # noqa: E402
from vla_sd_ros.report import recording  # noqa: E402
from vla_sd_ros.report.bag import EPISODE_TOPICS  # noqa: E402

TOPICS = {f"/vla/{topic.name}": topic for topic in EPISODE_TOPICS if not topic.name.startswith("/")}


class Scene:
    """GoalBags that hear an image and a step each 0.2 s while a goal runs; time is that of the messages."""

    def __init__(self, folder, patience=30.0):
        self.done, self.told = [], []
        self.bags = recording.GoalBags(folder, TOPICS, patience, self.done.append, self.told.append)
        self.now = 0.0
        self.messages = Messages(lambda name, stamp, data: self.bags.hear(f"/vla/{name}", stamp, data, self.now))

    def pictures(self, count):
        for _ in range(count):
            self.now += 0.2
            self.messages.image(self.now, int(self.now * 5) % 256, delay=0.0)
            self.bags.tick(self.now)

    def goal(self, number, sentence, steps=4):
        """The first step is decided on the picture before the goal."""
        first, self.now = self.now, self.now + 0.01
        self.messages.add(
            "goal", self.now, header=self.messages.header(self.now), goal_id=self.messages.goal_id(number), instruction=sentence
        )
        self.bags.begin(sentence, START + round(self.now * 1e9), self.now)
        for step in range(steps):
            self.messages.decode(first, number, step, action(number, step % 10))
            self.pictures(1)
            first = self.now
        self.bags.end(self.now)

    def verdict(self, state):
        self.messages.success(self.now, state)
        self.bags.judge(state == 2)


def episodes(folder, **options):
    found = Recordings([folder], Options(**options))
    return [(e.instruction, len(e.actions), sum(image is not None for image in e.images), e.success) for e in found]


def test_each_goal_is_an_episode_with_the_picture_that_its_first_step_was_decided_on(tmp_path):
    scene = Scene(tmp_path / "runs")
    scene.messages.add("robot_description", 0.0, data="<robot/>")
    scene.pictures(5)
    scene.goal(1, "open the drawer")
    scene.verdict(2)
    scene.pictures(20)  # at rest
    scene.goal(2, "close it", steps=3)
    scene.verdict(3)
    scene.pictures(20)
    assert len(scene.done) == 2 and not scene.told
    assert episodes(tmp_path / "runs", include_failed=True) == [("open the drawer", 4, 4, True), ("close it", 3, 3, False)]
    assert episodes(tmp_path / "runs") == [("open the drawer", 4, 4, True)]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in scene.done]
    assert [(s["instruction"], s["success"], s["steps"]) for s in summaries] == [
        ("open the drawer", True, 4),
        ("close it", False, 3),
    ]


def test_an_operator_may_judge_later_and_change_their_mind(tmp_path):
    scene = Scene(tmp_path / "runs")
    scene.goal(1, "open the drawer")
    scene.pictures(10)
    assert scene.bags.run.ended is not None and not scene.done  # waits
    scene.verdict(2)
    scene.verdict(3)
    scene.pictures(10)
    assert len(scene.done) == 1 and episodes(tmp_path / "runs", include_failed=True) == [("open the drawer", 4, 3, False)]


def test_nobody_judges_and_the_next_goal_comes(tmp_path):
    scene = Scene(tmp_path / "runs", patience=5.0)
    scene.goal(1, "open the drawer")
    scene.goal(2, "close it")
    scene.pictures(40)
    assert len(scene.done) == 2
    assert episodes(tmp_path / "runs") == []  # success is not known
    assert [e[0] for e in episodes(tmp_path / "runs", include_failed=True)] == ["open the drawer", "close it"]


def test_a_full_disk_keeps_what_was_written_and_the_next_goal_is_tried_again(small_disk):
    scene = Scene(small_disk / "runs")
    scene.pictures(2)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1 << 20))
    scene.messages.add("goal", 0.4, header=scene.messages.header(0.4), goal_id=scene.messages.goal_id(1), instruction="open it")
    scene.bags.begin("open it", START, scene.now)
    step = 0
    while not scene.told and step < 5000:
        scene.messages.decode(scene.now, 1, step, action(1, step % 10))
        scene.messages.add("robot_description", scene.now, data="x" * 20_000)
        scene.pictures(1)
        step += 1
    assert len(scene.told) == 1 and "there is no more room for the recording (No space left on device)" in scene.told[0]
    scene.bags.end(scene.now)
    scene.pictures(200)
    filler.unlink()
    ((sentence, steps, _, _),) = episodes(small_disk / "runs", include_failed=True)
    assert sentence == "open it" and step - 2 <= steps <= step + 1
    for path in (small_disk / "runs").rglob("*.mcap"):
        path.unlink()
    scene.goal(2, "close it")
    scene.bags.close()
    assert len(scene.told) == 1 and [e[0] for e in episodes(small_disk / "runs", include_failed=True)] == ["close it"]


@pytest.mark.parametrize(
    "removed, sentence",
    [
        ("", "is gone, and with it what was recorded of this goal"),
        ("*", "is gone, and with it"),
        ("*/episode", "cannot be completed (No such file or directory)"),
    ],
)
def test_a_folder_that_is_removed_costs_one_goal(tmp_path, removed, sentence):
    scene = Scene(tmp_path / "runs")
    scene.goal(1, "open the drawer")
    for folder in list((tmp_path / "runs").glob(removed)) if removed else [tmp_path / "runs"]:
        shutil.rmtree(folder)
    scene.verdict(2)
    scene.pictures(20)
    assert len(scene.told) == 1 and sentence in scene.told[0]
    assert len(scene.done) == (removed == "*/episode")
    scene.goal(2, "close it")
    scene.verdict(2)
    scene.bags.close()
    assert len(scene.told) == 1 and [e[0] for e in episodes(tmp_path / "runs")] == ["close it"]


def test_a_killed_recorder_leaves_what_it_had_written(tmp_path):
    if not (child := os.fork()):
        scene = Scene(tmp_path / "runs")
        scene.pictures = lambda count, plain=scene.pictures: (
            plain(count),
            scene.messages.add("robot_description", scene.now, data="x" * 20_000),
        )  # as much as a small picture
        scene.goal(1, "open the drawer", steps=200)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    ((sentence, steps, images, _),) = episodes(tmp_path / "runs", include_failed=True)
    assert sentence == "open the drawer" and steps > 100 and images > 100
