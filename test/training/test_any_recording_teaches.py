# SPDX-License-Identifier: Apache-2.0
"""train-head and train-drafter learn from every kind of recording; what of them cannot be read is named and left out."""

import csv

import pytest
from policies import SENTENCES, write_policy

from vla_sd_ros.cli import main
from vla_sd_ros.training import answers

for library in ("google.protobuf", "crc32c"):
    pytest.importorskip(library, reason="needs the extra [data]")

import tfds_files  # noqa: E402

STEPS = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A policy, and an RLDS dataset of seven episodes, in the third of which a picture is damaged."""
    root = tmp_path_factory.mktemp("any")
    write_policy(root / "policy")
    episodes = [
        tfds_files.episode(i, STEPS, **{"steps/language_instruction": [SENTENCES[i % 2].encode()] * STEPS}) for i in range(7)
    ]
    episodes[2]["steps/observation/image_0"][3] = b"damaged"
    tfds_files.write(root / "dataset", episodes)
    return root


def train(command, root, *more):
    return main(
        [
            command,
            "--checkpoint",
            str(root / "policy"),
            "--demonstrations",
            str(root / "dataset"),
            "--held-out",
            "3",
            "--batch-size",
            "8",
            "--rate",
            "5",
            *more,
        ]
    )


def test_a_head(root, capsys):
    assert train("train-head", root, "--steps", "5") == 0
    said = capsys.readouterr().out
    assert "1 skipped: " in said and "#2 has a picture that cannot be read" in said
    assert "24 images" in said  # of four episodes; two are held out


def test_a_drafter(root, capsys):
    assert train("train-drafter", root, "--processes", "1", "--steps", "50", "--evaluate", "4") == 0
    work = root / "policy" / "answers"
    assert [episode.images() for episode in answers.answered(work)] == [STEPS] * 6
    with (work / "drafter_held_out.csv").open() as file:
        assert len(list(csv.reader(file))) == 1


def test_the_answers_to_one_recording_serve_both(root, capsys):
    assert train("train-head", root, "--steps", "5") == 0
    asked = {path: path.stat().st_mtime_ns for path in (root / "policy" / "answers").glob("*-*.safetensors")}
    assert train("train-drafter", root, "--processes", "1", "--steps", "5", "--evaluate", "4") == 0
    assert asked and asked == {path: path.stat().st_mtime_ns for path in (root / "policy" / "answers").glob("*-*.safetensors")}


@pytest.mark.parametrize("command", ["train-head", "train-drafter"])
@pytest.mark.parametrize(
    "more, said",
    [
        (["--control-period", "0.05"], "have a step each 0.2 s, but the policy decides each 0.05 s"),
        (["--camera", "wrist"], "has the cameras image_0"),
        (["--instruction", "  "], "none of the recordings can be used"),
    ],
)
def test_what_cannot_be_learnt_from_is_one_sentence(root, capsys, command, more, said):
    assert train(command, root, *more) == 2
    assert said in (error := capsys.readouterr().err) and error.count("\n") == 1
