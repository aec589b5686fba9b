# SPDX-License-Identifier: Apache-2.0
"""Nothing that this package reads can run code of whoever made the file: weights, arrays, parameters, states of trainings."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vla_sd_ros.policy import weights

SOURCES = [*(Path(__file__).parents[2] / "src").rglob("*.py"), *(Path(__file__).parents[2] / "benchmarks").rglob("*.py")]
FORBIDDEN = {
    "pickle": {"load", "loads", "Unpickler"},
    "dill": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "yaml": {"load", "load_all", "full_load", "unsafe_load"},
}


def objections(tree: ast.AST) -> list[str]:
    found = []
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)):
            continue
        module, name = call.func.value.id, call.func.attr
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if (
            name in FORBIDDEN.get(module, ())
            or (module, name) == ("torch", "load")
            and given.get("weights_only") != "True"
            or (module, name) == ("np", "load")
            and given.get("allow_pickle", "False") != "False"
        ):
            found.append(ast.unparse(call))
    return found


def test_the_search_finds_what_it_looks_for():
    bad = "torch.load(a)\ntorch.load(a, weights_only=False)\nnp.load(a, allow_pickle=True)\nyaml.load(a)\npickle.loads(a)"
    good = "torch.load(a, weights_only=True)\nnp.load(a)\nyaml.safe_load(a)"
    assert len(objections(ast.parse(bad))) == 5 and objections(ast.parse(good)) == []


def test_no_source_unpickles_what_it_was_given():
    found = {str(path): objections(ast.parse(path.read_text())) for path in SOURCES}
    assert len(found) > 60 and {path: calls for path, calls in found.items() if calls} == {}


def test_a_torch_that_can_be_talked_round_reads_nothing(tmp_path, monkeypatch):
    torch.save({"step": 1}, tmp_path / "state.pt")
    assert weights.load_plain(tmp_path / "state.pt") == {"step": 1}
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.5.1+cpu"))
    with pytest.raises(ValueError, match="torch 2.5.1.* may run code .* install torch 2.6 or newer"):
        weights.load_plain(tmp_path / "state.pt")


class Intruder:
    """What unpickling it does to a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_the_state_of_somebodys_training_is_one_sentence_and_does_nothing(tmp_path):
    work = tmp_path / "policy" / "training"
    work.mkdir(parents=True)
    (work / "meta.json").write_text("{}")  # as if the demonstrations had been read
    torch.save({"live": Intruder(tmp_path / "intruded")}, work / "state.pt")
    command = [sys.executable, "-m", "vla_sd_ros.cli", "train", "--output", str(tmp_path / "policy"), "--processes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not (tmp_path / "intruded").exists(), done.stderr
    assert "the state of the training in" in done.stderr and "remove it to begin anew" in done.stderr
