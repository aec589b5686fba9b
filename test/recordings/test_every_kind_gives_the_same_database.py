# SPDX-License-Identifier: Apache-2.0
"""The same episodes as our own files, as a bag, as LeRobot and as RLDS datasets make the same database to the last bit."""

import json
import pickle

import cv2
import demonstration_files
import numpy as np
import pytest

for library in ("rosbags", "vla_sd_msgs", "pyarrow", "av", "google.protobuf", "crc32c"):
    pytest.importorskip(library, reason="needs the extra [data] and vla_sd_msgs")

import pyarrow as pa  # noqa: E402
import tfds_files  # noqa: E402
from pyarrow import parquet  # noqa: E402
from test_bags_are_read import Messages, other_bag  # noqa: E402

from vla_sd_ros.recordings import Inventory, Options, Recordings  # noqa: E402
from vla_sd_ros.retrieval import Origin  # noqa: E402
from vla_sd_ros.retrieval.build import build  # noqa: E402

STEPS, SENTENCE = 5, "Open the Drawer."


def episodes():
    """Actions (STEPS, 7) and images (STEPS, 8, 10, 3) of two episodes."""
    rng = np.random.default_rng(0)
    for _ in range(2):
        actions = rng.uniform(-0.02, 0.02, (STEPS, 7)).astype(np.float32)
        actions[:, 6] = rng.integers(0, 2, STEPS)
        yield actions, rng.integers(1, 255, (STEPS, 8, 10, 3), np.uint8)


def png(image):
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def as_demonstrations(folder):
    for i, (actions, images) in enumerate(episodes()):
        demonstration_files.write(folder / f"episode{i:04d}.npz", i, images=images, actions=actions, instruction=SENTENCE)


def as_bag(folder):
    def fill(messages: Messages):
        messages.add("task_instruction", 0.1, data=SENTENCE)
        for goal, (actions, images) in enumerate(episodes(), start=1):
            for step in range(STEPS):
                time = 10.0 * goal + 0.2 * step
                messages.add(
                    "image",
                    time,
                    header=messages.header(time),
                    height=8,
                    width=10,
                    encoding="rgb8",
                    is_bigendian=0,
                    step=30,
                    data=images[step].ravel(),
                )
                messages.decode(time, goal, step, actions[step])
            messages.success(10.0 * goal + 5.0, 2)

    other_bag(folder / "bag", fill, ("image", "decode", "task_success", "task_instruction"))


def as_lerobot(folder):
    rows = [
        {
            "action": actions[i].tolist(),
            "timestamp": i / 5,
            "frame_index": i,
            "episode_index": number,
            "task_index": 0,
            "camera": {"bytes": png(images[i]), "path": None},
        }
        for number, (actions, images) in enumerate(episodes())
        for i in range(STEPS)
    ]
    (folder / "meta").mkdir(parents=True)
    (folder / "data").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), folder / "data" / "file-000.parquet")
    parquet.write_table(pa.table({"task_index": [0], "task": [SENTENCE]}), folder / "meta" / "tasks.parquet")
    features = {"action": {"dtype": "float32", "shape": [7]}, "camera": {"dtype": "image", "shape": [8, 10, 3]}}
    info = {"codebase_version": "v3.0", "fps": 5, "features": features, "total_frames": len(rows)}
    (folder / "meta" / "info.json").write_text(json.dumps(info))


def as_rlds(folder):
    tfds_files.write(
        folder,
        [
            tfds_files.episode(
                i,
                STEPS,
                **{
                    "steps/action": actions.ravel(),
                    "steps/observation/image_0": [png(image) for image in images],
                    "steps/language_instruction": [SENTENCE.encode()] * STEPS,
                },
            )
            for i, (actions, images) in enumerate(episodes())
        ],
    )


def embed(image, instruction):
    return image.reshape(-1)[:12].astype(np.float32) / len(instruction)


def database(folder):
    recordings = Recordings([folder], Options(rate=5.0))
    inventory = Inventory.of(recordings)
    inventory.check_rate(0.2)
    assert inventory.episodes == 2 and recordings.skipped == {}
    return build(recordings, embed, Origin("", ""), recordings.skip)


@pytest.mark.parametrize("write", [as_demonstrations, as_bag, as_lerobot, as_rlds])
def test_an_episode_can_be_handed_to_another_process(tmp_path, write):
    write(tmp_path / "recordings")
    for episode in Recordings([tmp_path / "recordings"], Options(rate=5.0)):
        handed = pickle.dumps(episode)
        for one, other in zip(episode.images, pickle.loads(handed).images, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("write", [as_bag, as_lerobot, as_rlds])
def test_the_same_episodes_make_the_same_database(tmp_path, write):
    as_demonstrations(tmp_path / "own")
    write(tmp_path / "other")
    own, other = database(tmp_path / "own"), database(tmp_path / "other")
    assert list(own.partitions) == list(other.partitions) == ["open the drawer"]
    for name in ("features", "actions", "upcoming", "episodes", "steps"):
        arrays = (getattr(one.partitions["open the drawer"], name) for one in (own, other))
        np.testing.assert_array_equal(*arrays)
