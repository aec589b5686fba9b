# SPDX-License-Identifier: Apache-2.0
"""LeRobot datasets of v2.1 and v3.0, with videos or images, become episodes in the policy's units and at its rate.

The datasets are written here after the published layout, with pyarrow and PyAV alone.
"""

import json
import os

import cv2
import numpy as np
import pytest
from reading import read, refused, skipped

av = pytest.importorskip("av", reason="needs the extra [data]")
pa = pytest.importorskip("pyarrow", reason="needs the extra [data]")

from pyarrow import parquet  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from vla_sd_ros.recordings.units import composed  # noqa: E402

CAMERA, FPS = "observation.images.front", 20
TASKS = ["open the drawer", "pick up the milk"]
LENGTHS = [7, 9, 5]  # of episodes; the task of each is its number modulo 2


def level(episode, frame):
    """The grey of a frame, far enough from its neighbours' to survive a codec."""
    return 20 + 60 * episode + 6 * frame


def action(episode, frame):
    return [0.01 * frame, -0.01, 0.001 * episode, 0.02, 0.0, -0.03, float(frame % 2)]


def encode(path, levels, codec="libx264"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options={"g": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in levels:
            pixels = np.full((48, 64, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    # SVT-AV1, run as root, leaves its caller with real-time priority, which every later test's processes would inherit
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def frames(episode, images, columns):
    """The rows of an episode."""
    count = LENGTHS[episode]
    table = {
        "action": pa.array([action(episode, i) for i in range(count)], pa.list_(pa.float32(), 7)),
        "timestamp": pa.array([i / FPS for i in range(count)], pa.float32()),
        "frame_index": list(range(count)),
        "episode_index": [episode] * count,
        "index": [sum(LENGTHS[:episode]) + i for i in range(count)],
        "task_index": [episode % 2] * count,
    }
    if images:
        encoded = [cv2.imencode(".png", np.full((48, 64, 3), level(episode, i), np.uint8))[1] for i in range(count)]
        table[CAMERA] = [{"bytes": data.tobytes(), "path": None} for data in encoded]
    return pa.table(table | {name: [value[episode]] * count for name, value in columns.items()})


def write_info(root, version, images, **changes):
    shape = {"dtype": "image" if images else "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    scalars = {name: {"dtype": "int64", "shape": [1]} for name in ("frame_index", "episode_index", "index", "task_index")}
    info = {
        "codebase_version": version,
        "fps": FPS,
        "total_episodes": 3,
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 2,
        "features": {
            "action": {"dtype": "float32", "shape": [7], "names": ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]},
            CAMERA: shape,
            "timestamp": {"dtype": "float32", "shape": [1]},
            **scalars,
        },
    }
    if version.startswith("v2"):
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    else:
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta" / "info.json").write_text(json.dumps(info | changes))
    return info


def write_v21(root, images=False, codec="libx264", **columns):
    write_info(root, "v2.1", images)
    tasks = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate(TASKS)]
    (root / "meta" / "tasks.jsonl").write_text("\n".join(tasks) + "\n")
    for episode, count in enumerate(LENGTHS):
        chunk = f"chunk-{episode // 2:03d}"
        (root / "data" / chunk).mkdir(parents=True, exist_ok=True)
        parquet.write_table(frames(episode, images, columns), root / "data" / chunk / f"episode_{episode:06d}.parquet")
        if not images:
            path = root / "videos" / chunk / CAMERA / f"episode_{episode:06d}.mp4"
            encode(path, [level(episode, i) for i in range(count)], codec)


def write_v30(root, images=False, codec="libx264", **columns):
    """Episodes 0 and 1 share a data file, 1 and 2 a video."""
    write_info(root, "v3.0", images)
    parquet.write_table(pa.table({"task_index": [1, 0], "__index_level_0__": TASKS[::-1]}), root / "meta" / "tasks.parquet")
    where = {"episode_index": [0, 1, 2], "length": LENGTHS, "data/chunk_index": [0] * 3, "data/file_index": [0, 0, 1]}
    if not images:
        where |= {
            f"videos/{CAMERA}/chunk_index": [0] * 3,
            f"videos/{CAMERA}/file_index": [0, 1, 1],
            f"videos/{CAMERA}/from_timestamp": [0.0, 0.0, LENGTHS[1] / FPS],
            f"videos/{CAMERA}/to_timestamp": [LENGTHS[0] / FPS, LENGTHS[1] / FPS, (LENGTHS[1] + LENGTHS[2]) / FPS],
        }
        for file, episodes in enumerate(([0], [1, 2])):
            levels = [level(episode, i) for episode in episodes for i in range(LENGTHS[episode])]
            encode(root / "videos" / CAMERA / "chunk-000" / f"file-{file:03d}.mp4", levels, codec)
    for folder in (root / "meta" / "episodes" / "chunk-000", root / "data" / "chunk-000"):
        folder.mkdir(parents=True)
    parquet.write_table(pa.table(where), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    first = pa.concat_tables([frames(0, images, columns), frames(1, images, columns)])
    parquet.write_table(first, root / "data" / "chunk-000" / "file-000.parquet")
    parquet.write_table(frames(2, images, columns), root / "data" / "chunk-000" / "file-001.parquet")


@pytest.mark.parametrize("write", [write_v21, write_v30])
@pytest.mark.parametrize("stored", [{"images": True}, {"codec": "libx264"}, {"codec": "libsvtav1"}])
def test_frames_actions_and_tasks_are_those_written(tmp_path, write, stored):
    write(tmp_path, **stored)
    _, episodes = read(tmp_path)
    assert len(episodes) == 3
    for number, (episode, images) in enumerate(episodes):
        assert episode.instruction == TASKS[number % 2] and episode.name == f"{tmp_path}#{number}"
        np.testing.assert_allclose(episode.actions, [action(number, i) for i in range(LENGTHS[number])], atol=1e-7)
        assert len(images) == LENGTHS[number]
        for i, image in enumerate(images):
            assert image.shape == (48, 64, 3) and image.dtype == np.uint8
            assert abs(image.mean() - level(number, i)) < 2.5


@pytest.mark.parametrize("write", [write_v21, write_v30])
def test_frames_between_two_steps_of_the_policy_are_composed(tmp_path, write):
    write(tmp_path)
    _, episodes = read(tmp_path, stride=4)
    episode, images = episodes[1]
    assert [round(float(image.mean())) // 3 for image in images] == [level(1, i) // 3 for i in (0, 4, 8)]
    moved = np.array([action(1, i) for i in range(9)])
    np.testing.assert_allclose(episode.actions[0, :3], moved[:4, :3].sum(0), atol=1e-7)
    np.testing.assert_allclose(episode.actions[2], moved[8], atol=1e-7)  # what is left at the end
    assert episode.actions[:, 6].tolist() == [1.0, 1.0, 0.0]


def test_composed_rotations_turn_as_their_parts_do():
    deltas = np.random.default_rng(0).uniform(-0.4, 0.4, (5, 7))
    rotation = Rotation.identity()
    for delta in deltas:
        rotation = Rotation.from_euler("xyz", delta[3:6]) * rotation
    found = Rotation.from_euler("xyz", composed(deltas)[3:6])
    np.testing.assert_allclose(found.as_matrix(), rotation.as_matrix(), atol=1e-12)


def test_units_and_gripper_are_converted(tmp_path):
    write_v30(tmp_path, images=True)
    _, episodes = read(tmp_path, action_scale=(0.05, 0.5), gripper=(1.0, 0.0))
    expected = np.array([action(0, i) for i in range(7)]) * ([0.05] * 3 + [0.5] * 3 + [1.0])
    expected[:, 6] = 1.0 - expected[:, 6]
    np.testing.assert_allclose(episodes[0][0].actions, expected, atol=1e-7)


def test_episodes_recorded_as_failed_only_on_request(tmp_path):
    write_v30(tmp_path, images=True, **{"next.success": [True, False, True]})
    assert [e.name[-1] for e, _ in read(tmp_path)[1]] == ["0", "2"]
    assert len(read(tmp_path, include_failed=True)[1]) == 3


def test_actions_that_are_no_deltas_of_an_end_effector_are_refused(tmp_path):
    write_v21(tmp_path, images=True)
    features = json.loads((tmp_path / "meta" / "info.json").read_text())["features"]
    joints = features | {"action": {"dtype": "float32", "shape": [6], "names": ["shoulder", "elbow"]}}
    write_info(tmp_path, "v2.1", True, features=joints)
    refused(tmp_path, r"shape \(6,\) .*shoulder.*end-effector deltas")
    joints["action"] = {"dtype": "float32", "shape": [7], "names": [f"joint_{i}" for i in range(7)]}
    write_info(tmp_path, "v2.1", True, features=joints)
    refused(tmp_path, "joint positions cannot be used")
    refused(tmp_path, "no 'actions': .*--action; it has action, ", action="actions")


def test_the_camera_must_be_named_where_there_are_several(tmp_path):
    write_v21(tmp_path, images=True)
    features = json.loads((tmp_path / "meta" / "info.json").read_text())["features"]
    write_info(tmp_path, "v2.1", True, features=features | {"observation.images.wrist": features[CAMERA]})
    refused(tmp_path, f"{CAMERA}, observation.images.wrist: name .*--camera")
    assert len(read(tmp_path, camera=CAMERA)[1]) == 3


def test_what_is_missing_of_a_dataset_is_named_and_the_rest_is_read(tmp_path):
    write_v30(tmp_path)
    video = tmp_path / "videos" / CAMERA / "chunk-000" / "file-001.mp4"
    whole = [f"{tmp_path}#{number}" for number in range(3)]
    encode(video, [level(1, i) for i in range(LENGTHS[1])])  # episode 2 is missing from it
    assert skipped(tmp_path, "#2", "has no picture at 0.450 s of") == whole[:2]
    video.write_bytes(b"no video")
    assert skipped(tmp_path, "#1", "cannot be decoded") == whole[:1]
    video.unlink()
    assert skipped(tmp_path, "#2", "has no video videos/observation.images.front/chunk-000/file-001.mp4") == whole[:1]
    parquet.write_table(
        pa.table(
            {
                "episode_index": [0],
                f"videos/{CAMERA}/chunk_index": [0],
                f"videos/{CAMERA}/file_index": [0],
                f"videos/{CAMERA}/from_timestamp": [0.0],
            }
        ),
        tmp_path / "meta" / "episodes" / "chunk-000" / "file-000.parquet",
    )
    assert skipped(tmp_path, "#1", "has no video in the dataset's meta/episodes") == whole[:1]
    data = tmp_path / "data" / "chunk-000" / "file-001.parquet"
    data.write_bytes(data.read_bytes()[:100])
    assert skipped(tmp_path, "file-001.parquet", "cannot be read") == whole[:1]
    data.unlink()
    assert skipped(tmp_path, tmp_path.name, "has 16 of 21 frames") == whole[:1]


def test_datasets_of_which_nothing_can_be_read_are_refused(tmp_path):
    write_v30(tmp_path)
    write_info(tmp_path, "v1.6", False)
    refused(tmp_path, "version v1.6: convert it")
    (tmp_path / "meta" / "info.json").write_text("{}")
    refused(tmp_path, "cannot be read .KeyError: 'codebase_version'")


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_video_of_more_pixels_than_a_camera_has_is_refused_before_it_takes_memory(tmp_path, monkeypatch, codec):
    write_v21(tmp_path, codec=codec)
    monkeypatch.setattr("vla_sd_ros.recordings.lerobot.MAX_PIXELS", 64 * 48 - 1)
    assert skipped(tmp_path, "#0", "cannot be decoded") == []
