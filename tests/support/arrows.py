"""Counts the arrows between rooms: how many rooms each room imports, and how many imports cross from room to room.

Usage: python tests/support/arrows.py [FOLDER of the package, by default tfdist of this repository]
"""

import ast
import collections
import pathlib
import sys


def arrows(package):
    """Returns (room, imported room) → the number of imports, for each pair of different rooms of a package.

    A room is what stands at the package's root: a folder, or a module of its own.
    """
    package = pathlib.Path(package)
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    found = collections.Counter()
    for path in sorted(package.rglob("*.py")):
        room = pathlib.Path(path.relative_to(package).parts[0]).stem
        for name in _imported(path, package.name):
            target = name.split(".")[1] if "." in name else "__init__"
            target = target if target in rooms else "__init__"
            if target != room:
                found[room, target] += 1
    return found


def _imported(path, package):
    tree = ast.parse(path.read_text())
    # What only type checkers import is no arrow.
    unused = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unused:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == package)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


if __name__ == "__main__":
    counted = arrows(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "tfdist")
    print(f"{len(counted)} arrows between rooms, {sum(counted.values())} imports")
