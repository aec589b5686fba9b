# SPDX-License-Identifier: Apache-2.0
"""What is out of order in a LeRobot dataset is put in order, or named with what mends it; the other episodes are read."""

import json
from pathlib import Path

import numpy as np
import pytest
from reading import read, refused, skipped

pa = pytest.importorskip("pyarrow", reason="needs the extra [data]")
pytest.importorskip("av", reason="needs the extra [data]")

from pyarrow import parquet  # noqa: E402
from test_lerobot_datasets_are_read import CAMERA, FPS, LENGTHS, TASKS, action, level, write_info, write_v21, write_v30  # noqa: E402

FIRST = "data/chunk-000/file-000.parquet"


def change(path, edit):
    """Rewrite a parquet file by its rows, dicts."""
    table = parquet.read_table(path)
    rows = edit(table.to_pylist())
    parquet.write_table(pa.Table.from_pylist(rows), path)


def set_cell(row, column, value):
    def edit(rows):
        rows[row][column] = value
        return rows

    return edit


def check(root, numbers=(0, 1, 2), called=None):
    """These episodes are read with their own frames in order. called: their numbers in the dataset, where they are others."""
    _, episodes = read(root)
    assert [episode.name for episode, _ in episodes] == [f"{root}#{number}" for number in called or numbers]
    for number, (episode, images) in zip(numbers, episodes):
        assert episode.instruction == TASKS[number % 2] and len(images) == LENGTHS[number]
        np.testing.assert_allclose(episode.actions, [action(number, i) for i in range(LENGTHS[number])], atol=1e-7)
        assert max(abs(image.mean() - level(number, i)) for i, image in enumerate(images)) < 2.5


@pytest.mark.parametrize("images", [True, False])
def test_rows_out_of_order_and_interleaved_episodes_are_sorted(tmp_path, images):
    write_v30(tmp_path, images=images)
    change(tmp_path / FIRST, lambda rows: [rows[i] for i in np.random.default_rng(0).permutation(len(rows))])
    check(tmp_path)


def test_an_episode_may_lie_in_several_files(tmp_path):
    write_v30(tmp_path, images=True)
    rows = parquet.read_table(tmp_path / FIRST)
    parquet.write_table(rows.slice(0, 3), tmp_path / "data" / "chunk-000" / "file-009.parquet")
    parquet.write_table(rows.slice(3), tmp_path / FIRST)
    check(tmp_path)


def test_indices_as_floats_are_whole_numbers_all_the_same(tmp_path):
    write_v30(tmp_path)
    names = [f"videos/{CAMERA}/chunk_index", f"videos/{CAMERA}/file_index", "episode_index"]
    change(
        tmp_path / "meta/episodes/chunk-000/file-000.parquet",
        lambda rows: [row | {name: float(row[name]) for name in names} for row in rows],
    )
    for path in (FIRST, "data/chunk-000/file-001.parquet"):
        change(
            tmp_path / path,
            lambda rows: [
                row | {name: float(row[name]) for name in ("episode_index", "task_index", "frame_index")} for row in rows
            ],
        )
    check(tmp_path)


@pytest.mark.parametrize("images", [True, False])
def test_gaps_in_the_numbers_of_episodes_are_none_of_the_content(tmp_path, images):
    write_v21(tmp_path, images=images)
    data, videos = tmp_path / "data", tmp_path / "videos"
    (data / "chunk-000" / "episode_000000.parquet").unlink()
    if not images:
        (videos / "chunk-000" / CAMERA / "episode_000000.mp4").unlink()
    write_info(tmp_path, "v2.1", images, total_frames=sum(LENGTHS[1:]), total_episodes=2)
    check(tmp_path, (1, 2))


GAPS = {0: 0, 1: 2, 2: 3}  # one episode was taken out, and the count is that of those which are left


def renumbered(rows):
    return [row | {"episode_index": GAPS[row["episode_index"]]} for row in rows]


@pytest.mark.parametrize("images", [True, False])
def test_a_gap_among_the_numbers_of_v21_loses_no_episode(tmp_path, images):
    write_v21(tmp_path, images=images)
    for old, new in sorted(GAPS.items(), reverse=True):
        for path in tmp_path.rglob(f"episode_{old:06d}.*"):
            if path.suffix == ".parquet":
                change(path, renumbered)
            place = Path(*(f"chunk-{new // 2:03d}" if part.startswith("chunk-") else part for part in path.parts))
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place.with_stem(f"episode_{new:06d}"))
    check(tmp_path, called=tuple(GAPS.values()))


@pytest.mark.parametrize("images", [True, False])
def test_a_gap_among_the_numbers_of_v30_loses_no_episode(tmp_path, images):
    write_v30(tmp_path, images=images)
    for path in [*(tmp_path / "data").rglob("*.parquet"), *(tmp_path / "meta" / "episodes").rglob("*.parquet")]:
        change(path, renumbered)
    check(tmp_path, called=tuple(GAPS.values()))


@pytest.mark.parametrize("stamps", [lambda i: 0.0, lambda i: 7.5, lambda i: float("nan"), lambda i: None])
def test_stamps_that_tell_nothing_are_replaced_by_the_rate(tmp_path, stamps):
    write_v30(tmp_path)
    change(tmp_path / FIRST, lambda rows: [row | {"timestamp": stamps(i)} for i, row in enumerate(rows)])
    check(tmp_path)
    episode = read(tmp_path)[1][0][0]
    np.testing.assert_allclose(episode.stamps, np.arange(LENGTHS[0]) / FPS)
    assert episode.period == 1 / FPS


@pytest.mark.parametrize(
    "column, value, said",
    [
        ("action", None, "has no action in frame 2, where seven numbers are needed"),
        ("action", [0.0] * 6, "has an action of 6 numbers in frame 2"),
        ("action", [0.0] * 6 + [None], "in frame 2"),
        ("action", [float("nan")] * 7, "has an action that is not finite, at step 2"),
        ("frame_index", 1, "has frame 1 twice"),
        ("frame_index", None, "has a frame without a number"),
        ("frame_index", 60, "lacks what is between frames 1 and 3: download it again"),
        (CAMERA, {"bytes": b"no picture", "path": None}, "has a picture that cannot be read"),
        (CAMERA, {"bytes": None, "path": "images/gone.png"}, "has a picture that cannot be read"),
    ],
)
def test_a_frame_that_cannot_be_right_costs_its_episode_alone(tmp_path, column, value, said):
    write_v30(tmp_path, images=True)
    change(tmp_path / FIRST, set_cell(2, column, value))
    assert skipped(tmp_path, "#0", said) == [f"{tmp_path}#1", f"{tmp_path}#2"]


def test_an_image_cell_may_be_empty_or_the_file_itself(tmp_path):
    write_v30(tmp_path, images=True)
    change(tmp_path / FIRST, set_cell(2, CAMERA, None))
    assert [image is None for image in read(tmp_path)[1][0][1]] == [False, False, True] + [False] * 4
    change(tmp_path / FIRST, lambda rows: [row | {CAMERA: row[CAMERA] and row[CAMERA]["bytes"]} for row in rows])
    assert [image is None for image in read(tmp_path)[1][0][1]] == [False, False, True] + [False] * 4


def test_a_begin_in_the_video_that_is_one_frame_late_costs_its_episode_alone(tmp_path):
    write_v30(tmp_path)
    change(
        tmp_path / "meta/episodes/chunk-000/file-000.parquet",
        set_cell(2, f"videos/{CAMERA}/from_timestamp", (LENGTHS[1] + 1) / FPS),
    )
    others = skipped(tmp_path, "#2", "the file is cut short, or the episode's from_timestamp in meta/episodes is wrong")
    assert others == [f"{tmp_path}#0", f"{tmp_path}#1"]


def test_sentences_are_found_beside_the_episodes_where_the_tasks_have_none(tmp_path):
    write_v30(tmp_path, images=True)
    parquet.write_table(pa.table({"task_index": [0, 1]}), tmp_path / "meta" / "tasks.parquet")
    assert skipped(tmp_path, "#0", "does not name: give --instruction") == []
    assert len(read(tmp_path, instruction="open the drawer")[1]) == 3
    change(
        tmp_path / "meta/episodes/chunk-000/file-000.parquet",
        lambda rows: [row | {"tasks": [TASKS[i % 2]]} for i, row in enumerate(rows)],
    )
    check(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper"],
        {"motors": ["shoulder_pan", "shoulder_lift", "elbow_flex", "roll", "yaw", "pitch", "gripper"]},
        [["j1", "j2", "j3", "j4", "j5", "j6", "gripper"]],
        [f"main_axis_{i}" for i in range(7)],
        ["q0", "q1", "q2", "q3", "q4", "q5", "q6"],
        [f"panda_joint{i}" for i in range(7)],
    ],
)
def test_joints_are_known_by_their_names(tmp_path, names):
    write_v21(tmp_path, images=True)
    features = json.loads((tmp_path / "meta" / "info.json").read_text())["features"]
    features["action"]["names"] = names
    write_info(tmp_path, "v2.1", True, features=features)
    refused(tmp_path, "joint positions cannot be used")


@pytest.mark.parametrize(
    "names",
    [
        None,
        ["x", "y", "z", "roll", "pitch", "yaw", "gripper"],
        {"motors": [f"motor_{i}" for i in range(7)]},
        ["actions"],
        ["delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper_position"],
    ],
)
def test_names_of_an_end_effector_or_of_nothing_are_no_joints(tmp_path, names):
    write_v21(tmp_path, images=True)
    features = json.loads((tmp_path / "meta" / "info.json").read_text())["features"]
    features["action"]["names"] = names
    write_info(tmp_path, "v2.1", True, features=features)
    check(tmp_path)
