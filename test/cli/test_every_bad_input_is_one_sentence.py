# SPDX-License-Identifier: Apache-2.0
"""Whatever cannot be used, an argument, a variable, a file or a folder, is told in one sentence, with exit code 2."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from vla_sd_ros import inputs, policy
from vla_sd_ros.cli import main

BENCH = ["bench", "drafts", "--observations", "{tmp}/none", "--checkpoint", "{tmp}/c"]
TRIAL = ["trial", "{tmp}/study", "--arm", "autoregressive", "--arm", "fused"]
ROBOT = ["robot", "franka", "--robot-ip", "127.0.0.9"]
PREFIL = ["--decoder", "prefil", "--checkpoint", "nowhere"]
DOCTOR = ["doctor", "--checkpoint", "{tmp}/c"]


@dataclass(frozen=True)
class Row:
    """command: {tmp} is a folder with the checkpoint c and the file `file`. environment: None unsets. change: of the files."""

    name: str
    command: list[str]
    sentence: str
    environment: dict[str, str | None] = field(default_factory=dict)
    change: Callable[[Path], object] = lambda folder: None
    folder: str = ""
    code: int = 2


def config(**values: object) -> Callable[[Path], None]:
    """Changes config.json; a__b is b within a."""

    def change(folder: Path) -> None:
        path = folder / "c" / "config.json"
        content = json.loads(path.read_text())
        for name, value in values.items():
            *parents, last = name.split("__")
            place = content
            for parent in parents:
                place = place[parent]
            place[last] = value
        path.write_text(json.dumps(content))

    return change


def statistics(**values: list) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "c" / "dataset_statistics.json"
        content = json.loads(path.read_text())
        content["random"]["action"] |= values
        path.write_text(json.dumps(content))

    return change


def settings(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "decoder.yaml").write_text(f'{{"/**/vla_node": {{ros__parameters: {{decoder: {{{text}}}}}}}}}')


def written(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "decoder.yaml").write_bytes(content)


def dataset(**info: object) -> Callable[[Path], None]:
    """A LeRobot dataset d, with this in its info.json instead."""

    def make(folder: Path) -> None:
        sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))
        from test_lerobot_datasets_are_read import write_info, write_v21

        write_v21(folder / "d", images=True)
        write_info(folder / "d", "v2.1", True, **info)

    return make


def bag(name: str, content: bytes) -> Callable[[Path], object]:
    """A run d whose bag is one file."""

    def make(folder: Path) -> None:
        (folder / "d" / "episode").mkdir(parents=True)
        (folder / "d" / "episode" / name).write_bytes(content)

    return make


JOINTS = {
    "action": {"dtype": "float32", "shape": [7], "names": [f"joint_{i}" for i in range(7)]},
    "observation.images.front": {"dtype": "image", "shape": [48, 64, 3], "names": ["height", "width", "channels"]},
}
SIX = [0.02] * 3 + [0.05] * 3
ROWS = [
    *(
        Row(f"send {option} {value}", ["send", "go", option, value], f"{option}: '{value}' {sentence}")
        for option, value, sentence in (
            ("--step-limit", "-1", "must be a whole number from 0 to 4294967295"),
            ("--step-limit", "4294967297", "must be a whole number from 0 to 4294967295"),
            ("--step-limit", "2.5", "must be a whole number"),
            ("--time-limit", "nan", "must be a number of seconds"),
            ("--wait", "-1", "must be a number of seconds"),
            ("--namespace", "my robot", "is no ROS namespace"),
            ("--namespace", "9arm", "is no ROS namespace"),
            ("--namespace", "a//b", "is no ROS namespace"),
        )
    ),
    Row("demo namespace", ["demo", "--namespace", "my robot"], "is no ROS namespace"),
    Row("demo domain", ["demo", "--domain-id", "233"], "must be a whole number from 0 to 232"),
    Row("no UTF-8", ["send", "\udcff\udcfe"], r"argument 2 is no UTF-8: b'\xff\xfe'"),
    Row("no UTF-8 in an option", ["demo", "--instruction", "\udcff"], "argument 3 is no UTF-8"),
    *(
        Row(f"{command} with {name}={value}", [command, *more], sentence, {name: value, **also})
        for command, *more in (
            ["send", "go"],
            ["demo", "--domain-id", "77"],
            ["record"],
            ["console", "--port", "0"],
            ROBOT,
            [*TRIAL, "--instruction", "go"],
        )
        for name, value, sentence, also in (
            ("RMW_IMPLEMENTATION", "rmw_none_cpp", "'rmw_none_cpp', which this installation does not have: unset it, or set", {}),
            ("ROS_LOG_DIR", "/proc/nowhere", "cannot write its logs to /proc/nowhere", {}),
            ("HOME", None, "HOME is not set", {"ROS_LOG_DIR": None, "ROS_HOME": None}),
            ("HOME", "/proc/nowhere", "cannot write its logs to /proc/nowhere/.ros/log", {"ROS_LOG_DIR": None, "ROS_HOME": None}),
        )
    ),
    *(
        Row(
            f"{command[0]} domain {value}",
            command,
            f"ROS_DOMAIN_ID is '{value}', but must be a whole number from 0 to 232",
            {"ROS_DOMAIN_ID": value},
        )
        for command, *values in (
            (["send", "go"], "abc", "233", "-1", "1.5"),
            (["record"], "abc"),
            (["console", "--port", "0"], "abc"),
            (ROBOT, "abc"),
            ([*TRIAL, "--instruction", "go"], "abc"),
        )
        for value in values
    ),
    *(
        Row(f"{command[0]}: read-only working directory", command, "give another", folder="/proc")
        for command in (
            ["demo"],
            ["record"],
            ["trial", "study", *TRIAL[2:], "--instruction", "go"],
            ["export", "--source", "{tmp}", "--output", "o"],
            ["adapt", "--source", "{tmp}", "--output", "o"],
        )
    ),
    *(
        Row(f"demo {' '.join(options)}", ["demo", *options], sentence)
        for options, sentence in (
            (["--task", "99"], "must be a whole number from 0 to 9"),
            (["--seed", "-1"], "must be a whole number from 0 to 2147483647"),
            (["--initial-state", "50"], "must be a whole number from 0 to 49"),
            (["--suite", "nonsense"], "sim_node: parameter 'suite' is 'nonsense', but must be one of: libero_object"),
        )
    ),
    Row(
        "demo: a task of the file",
        ["demo", "--params", "{tmp}/p.yaml"],
        "sim_node: parameter 'task' is 99, but must lie in 0 .. 9",
        change=lambda folder: (folder / "p.yaml").write_text("/**/sim_node: {ros__parameters: {task: 99}}"),
    ),
    Row("trial --suite nonsense", [*TRIAL, "--simulator", "--suite", "nonsense"], "sim_node: parameter 'suite' is 'nonsense'"),
    Row("report of nothing", ["report", "{tmp}/none"], "has no episode/; give the folder of a run"),
    *(
        Row(f"{command[0]} {option} below a file", [*command, option, "{tmp}/file/x"], f"give another one with {option}")
        for command, option in (
            (["collect", "--episodes-per-task", "1"], "--output"),
            (["train", "--demonstrations", "{tmp}"], "--output"),
            (["export", "--source", "{tmp}"], "--output"),
            (["adapt", "--source", "{tmp}"], "--output"),
            (["record"], "--output-dir"),
            (["build-db", "--source", "{tmp}"], "--output"),
            (["calibrate", "--observations", "{tmp}"], "--output"),
            (BENCH, "--json"),
        )
    ),
    *(
        Row(f"{command[0]} {text!r}", [*command, text], f"the instruction {wrong}; say in words what the arm shall do")
        for command in (["send"], ["demo", "--instruction"], ["trial", "{tmp}/study", "--simulator", "--instruction"])
        for text, wrong in (("", "is empty"), (" . ", "is empty"), ("a\0b", "contains the unprintable character U+0000"))
    ),
    *(
        Row(f"record {option} {value}", ["record", option, value], sentence)
        for option, value, sentence in (
            ("--patience", "5000", "parameter 'patience' is 5000.0, but must lie in 0.0 .. 3600.0"),
            ("--image-topic", "my camera!", "'my camera!' is no name of a topic"),
            ("--joint-states-topic", "9/joints", "'9/joints' is no name of a topic"),
        )
    ),
    Row(
        "robot --image-topic",
        ["robot", "franka", "--robot-ip", "127.0.0.9", "--image-topic", "my camera!"],
        "'my camera!' is no name of a topic",
    ),
    Row("demo: a checkpoint that is not there", ["demo", "--checkpoint", "./nothere"], "checkpoint './nothere' was not found"),
    Row(
        "demo: a whole number for another",
        ["demo", "--params", "{tmp}/p.yaml"],
        "but must be double (write 1.0, not 1)",
        change=lambda folder: (folder / "p.yaml").write_text("/**/arm_node: {ros__parameters: {blend_in: 1}}"),
    ),
    Row("demo --output-dir that is a file", ["demo", "--output-dir", "{tmp}/file"], "give another --output-dir"),
    Row("a folder for a file", [*BENCH, "--json", "{tmp}"], "is a folder: give the name of a file with --json"),
    *(
        Row(
            f"{command} shares a batch of two among four",
            [command, "--processes", "4", "--batch-size", "2", *more],
            "--processes is 4, but a batch of 2 images cannot be shared by more than 2",
        )
        for command, more in (("train", ["--output", "{tmp}/o"]), ("train-drafter", ["--checkpoint", "{tmp}/c"]))
    ),
    *(
        Row(f"{command} --processes 0", [command, "--processes", "0"], "must be a whole number from 1")
        for command in ("train", "train-drafter")
    ),
    *(
        Row(f"{command} {option} {value}", [command, option, value], f"{option}: '{value}' must be {sentence}")
        for command, option, value, sentence in (
            ("serve", "--port", "99999", "a whole number from 0 to 65535"),
            ("serve", "--threads", "-1", "a whole number from 0 to 1024"),
            ("serve", "--batch", "0", "a whole number from 1 to 32"),
            ("console", "--port", "-1", "a whole number from 0 to 65535"),
            ("train", "--learning-rate", "nan", "a number from 1e-09 to 1"),
            ("train-drafter", "--noise", "-1", "a number from 0 to 100"),
            ("train-head", "--weight-decay", "much", "a number from 0 to 10"),
            ("collect", "--noise", "inf", "a number from 0 to 100"),
            ("adapt", "--drafter-rate", "0", "a number from 1e-09 to 1"),
            ("export", "--rate", "-5", "a number from 0 to 10000"),
            ("build-db", "--control-period", "0", "a number from 0.0001 to 3600"),
            ("build-db", "--stride", "0", "a whole number from 1"),
        )
    ),
    Row("adapt --action-scale 0.05 0", ["adapt", "--action-scale", "0.05", "0"], "'0' must be a number from 1e-09"),
    *(
        Row(f"bench {option} {value}", ["bench", command, option, value], f"{option}: '{value}' must be a whole number from")
        for command, option, value in (("libero", "--seed", "-1"), ("decode", "--seed", "1.5"), ("decode", "--actions", "0"))
    ),
    Row("a decoder twice", ["bench", "libero", "--decoder", "fused,fused"], "--decoder fused,fused names one of them twice"),
    Row("no decoder", ["bench", "libero", "--decoder", ""], "unknown decoder ''"),
    Row("--tasks and none", ["bench", "libero", "--tasks"], "expected at least one argument"),
    Row("a policy to be measured that is not there", ["bench", "libero", "--checkpoint", "nowhere"], "'nowhere' was not found"),
    Row(
        "results and trace in one file",
        ["bench", "libero", "--checkpoint", "{tmp}/c", "--json", "{tmp}/r", "--trace", "{tmp}/r"],
        "--json and --trace are both",
    ),
    Row("decoders that are not asked", ["bench", "decode", "--decoder", "fused"], "--decoder is of no use without --observations"),
    Row("bench decode --batch a,b", ["bench", "decode", "--batch", "a,b"], "a,b must be numbers from 1 to 64, like 1,2,4"),
    Row("train-head --images 0", ["train-head", "--images", "0"], "must be a whole number from 1"),
    Row(
        "episodes of something else",
        ["train", "--demonstrations", "{tmp}", "--output", "{tmp}/o"],
        "episode0.npz was not made by this version of vla-sd collect",
        change=lambda folder: np.savez(folder / "episode0.npz", images=np.zeros((2, 8, 8, 3), np.uint8)),
    ),
    Row(
        "a damaged episode",
        ["train", "--demonstrations", "{tmp}", "--output", "{tmp}/o"],
        "episode0.npz cannot be read",
        change=lambda folder: (folder / "episode0.npz").write_bytes(b"PK"),
    ),
    *(
        Row(f"{command[0]}: {what}", [*command, "--source", "{tmp}/d", "--output", "{tmp}/o"], sentence, change=change)
        for command in (["build-db", "--checkpoint", "{tmp}/c"], ["export"], ["adapt", "--checkpoint", "{tmp}/c"])
        for what, sentence, change in (
            ("a dataset of joint positions", "joint positions cannot be used", dataset(features=JOINTS)),
            ("a dataset of an old version", "version v1.6: convert it", dataset(codebase_version="v1.6")),
            ("a bag that is cut short", "copy it again from where it was recorded", bag("a.mcap", b"\x89MCAP0\r\n")),
            ("a bag that is none", "episode is a bag that cannot be read", bag("a_0.db3", b"no database")),
            ("an empty folder", "there are no episodes in", lambda folder: (folder / "d").mkdir()),
        )
    ),
    *(
        Row(f"report: {what}", ["report", "{tmp}/d"], sentence, change=change)
        for what, sentence, change in (
            ("a bag that is cut short", "copy it again from where it was recorded", bag("a.mcap", b"\x89MCAP0\r\n")),
            ("a bag that is none", "cannot be read", bag("a_0.db3", b"no database")),
        )
    ),
    *(
        Row(f"bench {name}: the decoder before the checkpoint", ["bench", name, *PREFIL], "unknown decoder 'prefil'")
        for name in ("libero", "decode")
    ),
    Row("trial: the decoder before the checkpoint", [*TRIAL, "--arm", "prefil", "--checkpoint", "nowhere"], "no decoder 'prefil'"),
    Row("no demonstrations", ["train", "--demonstrations", "{tmp}", "--output", "{tmp}/o"], "run vla-sd collect first"),
    Row("a task that is not there", ["collect", "--suite", "own", "--tasks", "9", "--output", "{tmp}/o"], "correct --tasks"),
    Row("a policy that is not there", ["collect", "--policy", "nowhere", "--output", "{tmp}/o"], "'nowhere' was not found"),
    *(
        Row(f"config.json {values}", BENCH, f"config.json must have {sentence}", change=config(**values))
        for values, sentence in (
            ({"vision__heads": 0}, "whole numbers from 1 to 10000000 in vision.heads, not '0'"),
            ({"text__num_attention_heads": 0}, "whole numbers from 1 to 10000000 in text.num_attention_heads, not '0'"),
            ({"vision__strides": [4, 0]}, "whole numbers from 1 to 10000000 in vision.strides, not '(4, 0)'"),
            ({"vision__strides": [4]}, "vision.channels and vision.strides of equal length"),
            ({"vision__merge": 1000}, "a vision.merge of at most 4"),
            ({"text__hidden_size": "32"}, "whole numbers from 1 to 10000000 in text.hidden_size, not '32'"),
            ({"vision__width": 32.0}, "whole numbers from 1 to 10000000 in vision.width, not '32.0'"),
            ({"vision__width": 33}, "a vision.width that vision.heads divides"),
            ({"action_end": 5}, "an action_end from 256"),
            ({"action_end": -1}, "whole numbers from 1 to 10000000 in action_end"),
            ({"action_end": 321}, "an action_end from 256, the number of action tokens, to text.vocab_size, 320"),
            ({"text__num_hidden_layers": 1_000_000}, "whole numbers from 1 to 512 in text.num_hidden_layers"),
            ({"text__rope_theta": "much"}, "a text.rope_theta above 0"),
            ({"image_std": 0.0}, "numbers in image_std above 0"),
        )
    ),
    *(
        Row(f"statistics {list(values.values())[0][0]}", command, sentence, change=statistics(**values), code=code)
        for values, sentence in (
            ({"q99": [0.9375] * 3 + SIX[3:] + [1.0]}, "hold steps of 0.938 m in x, more than 0.25 m"),
            ({"q01": [-1e6] * 6 + [0.0]}, "hold steps of 1e+06 m in x"),
            ({"q99": SIX}, "not of seven numbers"),
            ({"q01": [1.0] * 7}, "q01 under 'random' lies above q99 in x"),
        )
        for command, code in ((BENCH, 2), (DOCTOR, 1))
    ),
    *(
        Row(f"setting {text}", [*BENCH, "--set", text], sentence)
        for text, sentence in (
            ("relaxed_radius=nine", "relaxed_radius is 'nine', but must be a number"),
            ("relaxed_radius=true", "relaxed_radius is True, but must be a number"),
            ("relaxed_radius=[", "a setting is no YAML: while parsing"),
            ("kerv_steps=3.5", "kerv_steps is 3.5, but must be a whole number"),
            ("prefill_sources=head", "prefill_sources is 'head', but must be a list"),
            ("prefill_sources=[]", "prefill_sources is [], but must be a list of at least one entry"),
            ("kalman_decay=[a,b,c,d,e,f]", "kalman_decay is 'a', but must be a number"),
            ("retrieval_recombine='no'", "retrieval_recombine is 'no', but must be true or false"),
            ("kalman_model=3", "kalman_model is 3, but must be text"),
            ("metric_radius=[0.5, 0.0]", "but its first value, which becomes 0, must lie below its second"),
        )
    ),
    *(
        Row(f"decoder {name}", [*BENCH, "--decoder", name], sentence)
        for name, sentence in (
            ("spec_vla@a=5+b=1", "unknown setting 'a'"),
            ("spec_vla@relaxed_radius=5+b=1", "relaxed_radius is '5+b=1'"),
            ("prefil", "unknown decoder 'prefil'"),
            ("retrieval_only", "needs a database"),
        )
    ),
    *(
        Row(
            f"{command[0]}: settings file",
            [*command, "--settings", "{tmp}/decoder.yaml"],
            "relaxed_radius is 'nine', but must be",
            change=settings("relaxed_radius: nine"),
        )
        for command in (BENCH, ["serve", "--port", "0"])
    ),
    *(
        Row(f"settings file: {what}", [*BENCH, "--settings", "{tmp}/decoder.yaml"], sentence, change=written(content))
        for what, content, sentence in (
            ("Latin-1", "a: \xf6".encode("latin-1"), "decoder.yaml cannot be read: 'utf-8' codec can't decode byte 0xf6"),
            ("no YAML", b"a: [", "decoder.yaml is not YAML"),
            ("a list", b"[1]", "decoder.yaml is no parameter file"),
            ("nested", b"[" * 5000, "decoder.yaml is not YAML"),
            ("nothing", b"", "decoder.yaml has no parameters of a decoder"),
        )
    ),
    Row("serve: decoder", ["serve", "--port", "0", "--decoder", "prefil", "--checkpoint", "nowhere"], "unknown decoder 'prefil'"),
    Row("serve: database", ["serve", "--port", "0", "--decoder", "heisd", "--checkpoint", "nowhere"], "needs a database"),
]
PROCESSES = [  # what is read when a library is first imported
    Row("MUJOCO_GL of the simulator", ["collect"], "MUJOCO_GL is 'nonsense', but must be one of egl", {"MUJOCO_GL": "nonsense"}),
    Row("MUJOCO_GL of the bench", ["bench", "libero"], "MUJOCO_GL is 'nonsense', but must be one of", {"MUJOCO_GL": "nonsense"}),
    Row("MUJOCO_GL of the demo", ["demo"], "MUJOCO_GL is 'nonsense', but must be one of egl", {"MUJOCO_GL": "nonsense"}),
    Row(
        "MUJOCO_GL of a trial", ["trial", "study", *TRIAL[2:], "--simulator"], "MUJOCO_GL is 'nonsense'", {"MUJOCO_GL": "nonsense"}
    ),
    Row(
        "RMW_IMPLEMENTATION of a trial",
        ["trial", "study", *TRIAL[2:], "--simulator"],
        "'rmw_none_cpp', which this installation",
        {"RMW_IMPLEMENTATION": "rmw_none_cpp"},
    ),
    Row("bytes", ["send", "\udcff\udcfe"], "argument 2 is no UTF-8"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    policy.write_random(folder / "c")
    return {path.name: path.read_bytes() for path in (folder / "c").iterdir()}


@pytest.fixture
def files(made, tmp_path):
    (tmp_path / "c").mkdir()
    for name, content in made.items():
        (tmp_path / "c" / name).write_bytes(content)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_in_process(row, files, monkeypatch, capsys):
    row.change(files)
    monkeypatch.chdir(row.folder or files)
    for name in ("ROS_DOMAIN_ID", "OMP_NUM_THREADS", "ROS_AUTOMATIC_DISCOVERY_RANGE"):  # the demo sets them
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    for name, value in row.environment.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    if "ROS_DOMAIN_ID" not in row.environment:
        monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    try:
        code = main([part.format(tmp=files) for part in row.command])
    except SystemExit as ended:  # argparse
        code = ended.code
    said = capsys.readouterr()
    assert (code, "Traceback" in said.err) == (row.code, False)
    lines = [line for line in (said.out if row.code == 1 else said.err).splitlines() if line and "%|" not in line]  # of tqdm
    assert row.sentence in lines[-1]
    assert len(lines) == 1 or lines[0].startswith("usage: "), lines


@pytest.mark.parametrize("text, name", [("vla/", "vla"), ("/vla/", "vla"), ("/cell_1/left", "cell_1/left")])
def test_a_namespace_may_be_written_with_slashes_at_its_ends(text, name):
    assert inputs.namespace(text) == name


def test_no_option_takes_any_number_there_is():
    options = [
        line.strip()
        for path in Path(policy.__file__).parents[1].rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"add_argument\(.*type=(int|float)\b|^ *\"--.*type=(int|float)\b", line)
    ]
    assert options == []


@pytest.mark.parametrize(
    ("name", "value"), [("ROS_DOMAIN_ID", "abc"), ("RMW_IMPLEMENTATION", "rmw_none_cpp"), ("ROS_LOG_DIR", "/proc/nowhere")]
)
def test_a_node_says_why_it_could_not_start(name, value):
    done = subprocess.run(
        [sys.executable, "-m", "vla_sd_ros.nodes", "arm_node"],
        capture_output=True,
        text=True,
        env=os.environ | {name: value},
        timeout=60,
    )
    assert done.returncode == 1 and done.stderr.startswith("could not start: ") and value in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("row", PROCESSES, ids=lambda row: row.name)
def test_in_a_process(row, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vla_sd_ros.cli", *(os.fsencode(part) for part in row.command)],
        capture_output=True,
        text=True,
        env=os.environ | row.environment,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (line,) = done.stderr.splitlines()
    assert row.sentence in line
    assert list(tmp_path.iterdir()) == []  # a study that was made could not be given other variables
