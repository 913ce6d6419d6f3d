"""How large things may be, what a name may be, and what loads without TensorFlow; pyproject.toml has the floors."""

import ast
import collections
import functools
import re
import statistics

import pytest
from support.processes import REPOSITORY, run_python

HOUSE = REPOSITORY / "tfdist"
# What the command line reads before TensorFlow is loaded, though it stands higher than the ground.
LIGHT = (
    *("tfdist.train.command", "tfdist.train.flags", "tfdist.doctor.command", "tfdist.verify.command"),
    *(
        "tfdist.bench.command",
        "tfdist.assembly.names",
        "tfdist.assembly.recipe_file",
        "tfdist.data",
        "tfdist.data.by_name",
    ),
    *("tfdist.doctor.config", "tfdist.verify.config", "tfdist.bench.config", "tfdist.report.command"),
    *("tfdist.data.sources.tfds_catalog", "tfdist.models", "tfdist.models.listing"),
)
GROUND = ("process", "options", "cluster", "run", "launch", "jobs")

FILES = sorted(HOUSE.rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(HOUSE)) for path in FILES])


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), str(path))


def above(node):
    """Returns the texts of a class's decorators and bases."""
    return [ast.unparse(part) for part in (*node.decorator_list, *node.bases)]


def alternatives(annotation):
    """Returns the texts of a type's parts between `|`."""
    return ast.unparse(annotation).split(" | ")


def lines(path):
    return len(path.read_text().splitlines())


def room(path):
    return path.relative_to(HOUSE).parts[0]


def test_the_root_holds_rooms_and_next_to_no_files():
    assert sorted(path.name for path in HOUSE.iterdir() if path.is_file()) == ["__init__.py", "__main__.py", "py.typed"]


def test_no_file_has_the_name_of_another_one_in_its_room():
    named = collections.Counter((room(path), path.name) for path in FILES if path.stem != "__init__")
    assert [name for name, count in named.items() if count > 1] == []


def test_no_class_has_the_name_of_another_one():
    defined = [node.name for path in FILES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    assert [name for name, count in collections.Counter(defined).items() if count > 1] == []


def test_every_field_of_a_dataclass_or_a_named_tuple_says_what_it_holds():
    vague = {"object", "dict", "list", "tuple", "set", "frozenset", "Mapping", "Sequence", "Iterable", "Callable"}
    defined = [node for path in FILES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    records = [node for node in defined if re.search("dataclass|NamedTuple", " ".join(above(node)))]
    assert len(records) > 40
    fields = [(node.name, field) for node in records for field in node.body]
    # Without a type, a name in such a class is no field.
    assert [name for name, field in fields if isinstance(field, ast.Assign)] == []
    typed = [(name, field) for name, field in fields if isinstance(field, ast.AnnAssign)]
    assert [f"{name}.{field.target.id}" for name, field in typed if vague & set(alternatives(field.annotation))] == []


def test_no_public_function_has_the_name_of_a_package():
    import tfdist

    packages = {path.name for path in HOUSE.iterdir() if path.is_dir()}
    assert packages & set(tfdist.__all__) == {"callbacks", "data", "models", "optimizers"}


def test_one_module_makes_the_logger():
    making = [path.name for path in FILES if re.search(r"getLogger\((\"tfdist|__name__)", path.read_text())]
    assert making == ["log.py"]


def test_inside_the_house_the_front_door_gives_only_the_version():
    through = {
        (str(path.relative_to(HOUSE)), node.attr)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tfdist"
    }
    assert {name for _, name in through} <= {"__version__"}


def test_what_the_command_line_needs_leaves_tensorflow_unimported():
    ground = [path for path in FILES if room(path) in GROUND and path.stem != "__main__"]
    names = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for path in ground]
    script = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    print(name, sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    ended = run_python("-c", script, "tfdist", *names, *LIGHT, deadline_seconds=60)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [f"{name} []" for name in ("tfdist", *names, *LIGHT)]


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
