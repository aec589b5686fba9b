# SPDX-License-Identifier: Apache-2.0
"""A section of a parameter file that reaches no node, or a parameter that the node does not have, ends the start.

Otherwise a speed limit under `arm_node:` instead of `/**/arm_node:` is not in force, and nobody says so.
"""

import subprocess
import sys

import pytest
from rclpy.context import Context
from rclpy.node import Node

from vla_sd_ros.parameter_files import read, refuse_lost, refuse_unknown, values_of

LIMIT = "  ros__parameters:\n    limits:\n      linear_velocity: 0.2\n"
PATTERNS = (
    "arm_node",
    "/arm_node",
    "vla/arm_node",
    "/vla/arm_node",
    "/**/arm_node",
    "**/arm_node",
    "/*/arm_node",
    "/**",
    "/*",
    "*",
    "/**/vla/arm_node",
    "/vla/*",
    "/vla/**",
    "/**/*",
    "/*/*",
    "vla/**/arm_node",
    "/*/**/arm_node",
    "/**/vla_node",
    "/cell/vla/arm_node",
    "/other/arm_node",
)


@pytest.fixture
def file(tmp_path):
    """Writes a parameter file; its path."""

    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("namespace", ["/", "/vla", "/cell/vla"])
def test_a_section_fits_the_nodes_that_rcl_gives_it_to(file, namespace):
    path = file("".join(f'"{pattern}":\n  ros__parameters: {{p{i}: 1}}\n' for i, pattern in enumerate(PATTERNS)))
    context = Context()
    context.init(args=[])
    node = Node(
        "arm_node",
        context=context,
        namespace=namespace,
        use_global_arguments=False,
        start_parameter_services=False,
        cli_args=["--ros-args", "--params-file", str(path)],
    )
    given = set(node._parameter_overrides) - {"use_sim_time"}
    name = node.get_fully_qualified_name()
    context.try_shutdown()
    assert set(values_of(read(path), name)) == given and 3 < len(given) < len(PATTERNS)


def test_nested_names_repeated_sections_and_numbers_are_read_as_rcl_reads_them(file):
    path = file(
        "/**:\n  arm_node:\n    ros__parameters: {limits: {linear_jerk: 1e2}, limits.linear_velocity: 1.0}\n"
        "/**:\n  vla_node:\n    ros__parameters: {autostart: true, policy.device: 'on'}\n"
    )
    assert values_of(read(path), "/vla/arm_node") == {"limits.linear_jerk": 100.0, "limits.linear_velocity": 1.0}
    assert values_of(read(path), "/vla/vla_node") == {"autostart": True, "policy.device": "on"}


@pytest.mark.parametrize(
    "text, sentence",
    [
        (f"arm_node:\n{LIMIT}", "section 'arm_node', which is not for /vla/arm_node: write it as /[*][*]/arm_node"),
        (f"/cell/arm_node:\n{LIMIT}", "section '/cell/arm_node', which is not for /vla/arm_node"),
        (f"/**/armnode:\n{LIMIT}", "section '/[*][*]/armnode', which no node reads: did you mean '/[*][*]/arm_node'"),
        (f"/**/camera:\n{LIMIT}", "section '/[*][*]/camera', which no node reads: it may have those of arm_node, vla_node"),
    ],
)
def test_a_section_for_nobody_is_refused(file, text, sentence):
    path = file(text)
    with pytest.raises(ValueError, match=sentence):
        refuse_lost(path, read(path), ["/vla/arm_node", "/vla/vla_node"], strangers=False)


@pytest.mark.parametrize(
    "text",
    [
        f"/**/arm_node:\n{LIMIT}",
        f"vla/arm_node:\n{LIMIT}",
        f"/left/arm_node:\n{LIMIT}/vla/arm_node:\n{LIMIT}",
        f"/**/sim_node:\n{LIMIT}",
        f"/**:\n{LIMIT}",
        "",
    ],
)
def test_sections_that_fit_or_are_for_other_nodes_of_the_package_are_taken(file, text):
    path = file(text)
    refuse_lost(path, read(path), ["/vla/arm_node"], strangers=False)


def test_a_node_alone_leaves_the_sections_of_other_packages_be(file):
    path = file(f"/**/camera:\n{LIMIT}")
    refuse_lost(path, read(path), ["/vla/arm_node"])


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("/**/arm_node: {limits: {linear_velocity: 0.2}}", "has no ros__parameters below"),
        ("/**/arm_node: {ros__parameters: {1: {2: 3}, [a]: 4}}", "is not YAML|is no parameter file"),
        ("just words", "is no parameter file"),
        ("a: [1, 2", "is not YAML"),
    ],
)
def test_a_file_that_is_no_parameter_file_is_one_sentence(file, text, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        read(file(text))
    assert "\n" not in str(error.value)


def test_a_parameter_that_the_node_does_not_have_is_refused_with_the_nearest(file):
    path = file("/**/arm_node:\n  ros__parameters: {limits.linear_velocty: 0.2}\n")
    with pytest.raises(ValueError, match="arm_node the parameter 'limits.linear_velocty' .*did you mean 'limits.linear_velocity'"):
        refuse_unknown(path, read(path), "/vla/arm_node", {"limits.linear_velocity"})


def test_the_process_of_a_node_does_not_start(file):
    path = file(f"arm_node:\n{LIMIT}")
    done = subprocess.run(
        [sys.executable, "-m", "vla_sd_ros.nodes.arm_node", "--ros-args", "-r", "__ns:=/vla", "--params-file", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"could not start: {path} has the section 'arm_node', which is not for /vla/arm_node")
