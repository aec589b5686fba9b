# SPDX-License-Identifier: Apache-2.0
"""The pages of the site that are made when it is built: README and CONTRIBUTING, and the reference from the code itself.

    make docs                          # mkdocs calls on_files(), see mkdocs.yml
    python tools/site_pages.py FOLDER  # writes the same pages as files

The reference of parameters is that of the tables from which the nodes declare them, the reference of messages is msg/.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
MESSAGES = ROOT / "msg"


def pages() -> dict[str, str]:
    """Markdown by file name, as if each lay in docs/."""
    return {
        "index.md": at_home((ROOT / "README.md").read_text()),
        "contributing.md": at_home((ROOT / "CONTRIBUTING.md").read_text()),
        "changelog.md": f"# Changelog\n\n```rst\n{(ROOT / 'CHANGELOG.rst').read_text()}```\n",
        "parameters.md": parameters(),
        "messages.md": messages(),
    }


def at_home(text: str) -> str:
    """Links of a page of the repository's root, seen from docs/."""
    names = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.rst": "changelog.md"}
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\(([\w.]+)(?=[#)])", lambda link: f"]({names.get(link[1], link[1])}", text)


def parameters() -> str:
    """A table for each node."""
    from vla_sd_ros.nodes.arm_node import ArmNode
    from vla_sd_ros.nodes.franka_driver import FrankaDriver
    from vla_sd_ros.nodes.lifecycle import ManagedNode
    from vla_sd_ros.nodes.sim_arm_node import SimArmNode
    from vla_sd_ros.nodes.sim_node import SimNode
    from vla_sd_ros.nodes.vla_node import VlaNode
    from vla_sd_ros.nodes.wxai_driver import WxaiDriver

    tables = {
        "arm_node": (ManagedNode.AUTOSTART, *ArmNode.TABLE),
        "vla_node": (ManagedNode.AUTOSTART, *VlaNode.TABLE),
        "sim_node": SimNode.TABLE,
        "sim_arm_node": SimArmNode.TABLE,
        "franka_driver": FrankaDriver.TABLE,
        "wxai_driver": WxaiDriver.TABLE,
    }
    text = (
        "# Parameters\n\nThe defaults are those of the nodes. The files of `config/` say for each parameter what it does and when "
        "to change it,\nand hold what each arm has instead; [Real arms](arms.md) says which value wins. A parameter that "
        "changes at start is read\nonce; all others can be set at any time, those of `policy.*` (but `policy.unnorm_key`) while "
        "vla_node is unconfigured.\n"
    )
    for node, table in tables.items():
        text += f"\n## {node}\n\n| parameter | default | values | changes | what it is |\n|---|---|---|---|---|\n"
        text += "".join(
            f"| `{spec.name}` | {shown(spec.default)} | {values(spec)} | {'at start' if spec.read_only else ''} "
            f"| {cell(spec.description)} |\n"
            for spec in table
        )
    return text


def values(spec) -> str:
    """The range, or the choices, of a parameter."""
    if spec.low is not None:
        return f"{spec.low:g} .. {spec.high:g}"
    return ", ".join(map(shown, filter(None, spec.choices)))


def shown(value) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def messages() -> str:
    """Each file of msg/, whose comments explain each field."""
    text = "# Messages, services, actions\n\nThe package `vla_sd_msgs`.\n"
    for kind, folder in (("Messages", "msg"), ("Services", "srv"), ("Actions", "action")):
        text += f"\n## {kind}\n"
        for path in sorted((MESSAGES / folder).iterdir()):
            text += f"\n### {path.stem}\n\n```text\n{path.read_text()}```\n"
    return text


def on_files(files, config):
    """mkdocs' hook: the pages join those of docs/."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def main(arguments: Iterable[str]) -> None:
    folder = Path(*arguments)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
