"""The house: which floor a module stands on, what it may import, and how long things may be."""

import ast
import functools
import graphlib
import re
import statistics
import sys

import pytest
from processes import REPOSITORY, run_python

HOUSE = REPOSITORY / "tfdist"

# Floor → what stands on it, files and folders, from the ground up. A new one finds its place here.
FLOORS = {
    "ground": (
        "__init__",
        "cluster",
        "command_line",
        "config",
        "errors",
        "exits",
        "faults",
        "fingerprint",
        "flags",
        "heartbeat",
        "launch",
        "log",
        "manifest",
        "options",
        "order",
        "preemption",
        "rendezvous",
        "rundir",
        "slurm",
        "xla_cache",
    ),
    "machine": ("coordination", "hardware", "hashing", "internals", "strategy"),
    "parts": ("checkpoint", "data", "gradients", "models", "monitor", "optimizers"),
    "loop": ("assemble", "benchmark", "equality", "health", "training"),
    "roof": ("bench", "doctor", "train", "verify"),
}
# Floors whose modules know nothing of each other.
STRANGERS = ("parts", "roof")
# What the ground may import beside the standard library.
GROUND_NEEDS = {"command_line": {"absl"}, "flags": {"absl"}, "launch": {"absl"}, "order": {"numpy"}}
# What the command line reads before TensorFlow is loaded, though it stands higher.
LIGHT = (
    "tfdist.train",
    "tfdist.doctor",
    "tfdist.bench",
    "tfdist.data",
    "tfdist.data.by_name",
    "tfdist.data.catalog",
    "tfdist.models",
)
# What Python documents all the same: named tuples leave the other names to the fields, and `os._exit`.
DOCUMENTED = {"_exit", "_asdict", "_field_defaults", "_fields", "_make", "_replace"}
# What Python itself does at its end, and gives no other name to.
ENDING = {"_run_exitfuncs", "_shutdown"}
PRIVATE_PACKAGES = ("keras.src", "tensorflow.python", "tensorflow.compiler", "tensorflow.core")

FILES = sorted(HOUSE.rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(HOUSE)) for path in FILES])


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), str(path))


def unit(path):
    """Gives what a file belongs to: its folder in the house, or itself."""
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def floor_of(name):
    (floor,) = (floor for floor, names in FLOORS.items() if name in names)
    return floor


def imports(path):
    """Lists the dotted names that a file imports, at any depth and by `import_module`."""
    found = []
    lazy = path != HOUSE / "__init__.py" and "import_module" in path.read_text()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: write the import from tfdist on"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif lazy and isinstance(node, ast.Constant) and str(node.value).startswith("tfdist."):
            found += [node.value] * all(part.isidentifier() for part in node.value.split("."))
    return found


def neighbours(path):
    """Gives the other parts of the house that a file imports; the front door is "__init__"."""
    names = [name.split(".") for name in imports(path) if name.split(".")[0] == "tfdist"]
    standing = {unit(file) for file in FILES}
    units = {name[1] if name[1:] and name[1] in standing else "__init__" for name in names}
    return units - {unit(path)}


def test_every_module_stands_on_one_floor():
    placed = [name for names in FLOORS.values() for name in names]
    assert len(placed) == len(set(placed))
    assert {unit(path) for path in FILES} <= set(placed)


@every_file
def test_a_module_imports_only_what_stands_below_it(path):
    floors = list(FLOORS)
    mine = floor_of(unit(path))
    for name in neighbours(path):
        theirs = floor_of(name)
        assert floors.index(theirs) <= floors.index(mine), f"{unit(path)} imports {name}"
        if mine in STRANGERS:
            assert theirs != mine, f"{unit(path)} imports {name}"


def test_every_name_of_a_floor_is_there():
    assert {name for names in FLOORS.values() for name in names} == {unit(path) for path in FILES}


def test_one_module_makes_the_logger():
    making = [path.name for path in FILES if re.search(r"getLogger\((\"tfdist|__name__)", path.read_text())]
    assert making == ["log.py"]


def test_no_modules_import_each_other_in_a_circle():
    graph = {}
    for path in FILES:
        graph.setdefault(unit(path), set()).update(neighbours(path))
    graphlib.TopologicalSorter(graph).prepare()


@every_file
def test_inside_the_house_the_front_door_gives_only_the_version(path):
    standing = {unit(file) for file in FILES}
    through = {
        node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute) and dotted(node.value) == "tfdist"
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "tfdist":
            through |= {alias.name for alias in node.names} - standing
    assert through <= {"__version__"}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if floor_of(unit(path)) == "ground"],
    ids=lambda path: str(path.relative_to(HOUSE)),
)
def test_the_ground_is_made_of_the_standard_library(path):
    roots = {name.split(".")[0] for name in imports(path)} - {"tfdist"}
    assert roots - set(sys.stdlib_module_names) <= GROUND_NEEDS.get(unit(path), set())


def test_what_the_command_line_needs_leaves_tensorflow_unimported():
    ground = [path for path in FILES if floor_of(unit(path)) == "ground"]
    names = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in ground
        # Running is what it is for.
        if path.stem != "__main__"
    ]
    script = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    print(name, sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    ended = run_python("-c", script, *names, *LIGHT, deadline_seconds=60)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [f"{name} []" for name in (*names, *LIGHT)]
    assert "tfdist" in names


def test_the_names_of_models_and_data_sets_are_told_without_tensorflow():
    script = """
import sys
from tfdist import data, models
models.check_name(models.names()[0])
data.check_name(data.names()[0])
print(sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    ended = run_python("-c", script, deadline_seconds=60)
    assert (ended.code, ended.out, ended.err) == (0, "[]\n", "")


def dotted(node):
    """Gives `a.b.c` of an expression that is one, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


@every_file
def test_private_packages_are_imported_in_internals_alone(path):
    chains = [dotted(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]
    names = [*imports(path), *(chain.replace("tf.", "tensorflow.", 1) for chain in chains)]
    private = [name for name in names if any(f"{name}.".startswith(f"{package}.") for package in PRIVATE_PACKAGES)]
    assert private == [] or unit(path) == "internals"


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def own_names(path):
    """Gives the private names that a file itself defines or sets."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if dotted(node.value) == "self" else set()
    return found


@every_file
def test_private_attributes_of_others_are_read_in_internals_alone(path):
    read = {node.attr for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute) and is_private(node.attr)}
    allowed = DOCUMENTED | (ENDING if unit(path) == "exits" else set())
    assert read - own_names(path) - allowed == set() or unit(path) == "internals"


@every_file
def test_private_names_are_not_imported_from_another_file(path):
    private = [name for name in imports(path) if is_private(name.split(".")[-1])]
    assert private == [] or unit(path) == "internals"


def test_the_checks_for_private_names_see_them(tmp_path):
    file = tmp_path / "tfdist" / "example.py"
    file.parent.mkdir()
    file.write_text(
        "def f():\n    from keras.src import x\n    import tensorflow.python.y as y\n"
        "    return tf.python.z, model._loss_tracker\n"
    )
    assert imports(file) == ["keras.src.x", "tensorflow.python.y"]
    attributes = [node for node in ast.walk(tree(file)) if isinstance(node, ast.Attribute)]
    assert "tf.python.z" in map(dotted, attributes)
    assert "_loss_tracker" not in own_names(file)


def lines(path):
    return len(path.read_text().splitlines())


@every_file
def test_no_file_is_longer_than_400_lines(path):
    assert lines(path) <= 400


def test_the_median_file_is_shorter_than_120_lines():
    assert statistics.median(map(lines, FILES)) < 120


def function_lengths():
    """Maps each function to its lines, less those of its docstring."""
    lengths = {}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                has_text = ast.get_docstring(node) is not None
                text = first.end_lineno - first.lineno + 1 if has_text else 0
                key = f"{path.relative_to(HOUSE)}:{node.lineno} {node.name}"
                lengths[key] = node.end_lineno - node.lineno + 1 - text
    return lengths


def test_no_function_has_more_than_60_lines_beside_its_docstring():
    assert {name: length for name, length in function_lengths().items() if length > 60} == {}


def test_at_least_half_of_the_functions_have_fewer_than_25_lines():
    lengths = function_lengths().values()
    assert len(lengths) > 200
    assert sum(length < 25 for length in lengths) >= len(lengths) / 2
