# SPDX-License-Identifier: Apache-2.0
"""No class is over 250 lines; no function is over 40, unless a comment above it begins with "Longer" and says why."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "vla_sd_ros"
LINES_OF_A_CLASS, LINES_OF_A_FUNCTION = 250, 40
REASON = "# Longer than others: "


def too_long(source: str) -> list[str]:
    """Names of the classes and functions, from their first to their last line without decorators, that are too long."""
    lines, found = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            most = LINES_OF_A_CLASS
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            most = LINES_OF_A_FUNCTION
        else:
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        excused = most == LINES_OF_A_FUNCTION and _comment_above(lines, first).startswith(REASON)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > most and not excused:
            found.append(node.name)
    return found


def _comment_above(lines: list[str], number: int) -> str:
    """The comment that ends just before the line with this number, from 1 on."""
    first = number - 1
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return "\n".join(line.strip() for line in lines[first : number - 1])


def test_no_class_and_no_function_is_too_long():
    found = {path.relative_to(SOURCE).as_posix(): too_long(path.read_text()) for path in SOURCE.rglob("*.py")}
    assert len(found) > 200 and {path: names for path, names in found.items() if names} == {}


def test_the_measure_counts_lines_and_hears_reasons():
    def function(name: str, lines: int) -> str:
        return f"def {name}():\n" + "    pass\n" * (lines - 1)

    assert too_long(function("fits", 40) + function("long", 41)) == ["long"]
    assert too_long(REASON + "one table.\n@cache\n" + function("excused", 41)) == []
    assert too_long("# As long as that.\n" + function("unexcused", 41)) == ["unexcused"]
    assert too_long("class Fits:\n" + "    x = 1\n" * 249) == []
    assert too_long(REASON + "no reason helps.\nclass Large:\n" + "    x = 1\n" * 250) == ["Large"]
