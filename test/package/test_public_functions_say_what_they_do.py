# SPDX-License-Identifier: Apache-2.0
"""Public functions and methods have docstrings; a method that keeps a promise has it where the promise is made.

That is in a base class, or in the protocol whose methods the class has. Functions and classes are held to it by ruff.
"""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "vla_sd_ros"


def methods(class_: ast.ClassDef) -> dict[str, bool]:
    """Public methods by name, and whether each has a docstring."""
    return {
        node.name: bool(ast.get_docstring(node))
        for node in class_.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    }


def names_of_bases(class_: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).partition("[")[0].split(".")[-1] for base in class_.bases]


def undocumented(modules: dict[str, ast.Module]) -> list[str]:
    """The methods, as file:Class.method, that neither have a docstring nor keep a promise that has one."""
    classes = [(path, node) for path, module in modules.items() for node in module.body if isinstance(node, ast.ClassDef)]
    by_name: dict[str, list[ast.ClassDef]] = {}
    for _, class_ in classes:
        by_name.setdefault(class_.name, []).append(class_)
    protocols = [class_ for _, class_ in classes if "Protocol" in names_of_bases(class_)]

    def ancestors(class_: ast.ClassDef) -> list[ast.ClassDef]:
        direct = [base for name in names_of_bases(class_) for base in by_name.get(name, []) if base is not class_]
        return direct + [further for base in direct for further in ancestors(base)]

    found = []
    for path, class_ in classes:
        above = ancestors(class_)
        has = {name for one in (class_, *above) for name in methods(one)}
        above += [protocol for protocol in protocols if methods(protocol).keys() <= has]
        promised = {name for one in above for name, documented in methods(one).items() if documented}
        found += [
            f"{path}:{class_.name}.{name}"
            for name, documented in methods(class_).items()
            if not documented and name not in promised
        ]
    return found


def test_every_public_method_is_documented():
    assert undocumented({path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}) == []


def test_the_check_tells_a_kept_promise_from_a_silent_method():
    source = (
        'class Arm(Protocol):\n    def send(self):\n        "Sends."\n    def rest(self):\n        "Rests."\n'
        "class Whole:\n    def send(self): ...\n    def rest(self): ...\n    def more(self): ...\n"
        "class Half:\n    def send(self): ...\n"
        "class Heir(Whole):\n    def rest(self): ...\n    def _own(self): ...\n"
    )
    assert undocumented({"a.py": ast.parse(source)}) == ["a.py:Whole.more", "a.py:Half.send"]
