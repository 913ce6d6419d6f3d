"""Fields of option classes: each is documented, in one place, and flat names reach those within."""

import dataclasses
import inspect
import re

import pytest

import tfdist
from tfdist.bench.config import BenchConfig
from tfdist.doctor.config import DoctorConfig
from tfdist.launch.config import LaunchConfig
from tfdist.options.fields import documented, flatten, name_of, option, option_of, replace_flat
from tfdist.train.flags import RecipeChoice
from tfdist.verify.config import VerifyConfig

PUBLIC = (tfdist.RunConfig, tfdist.ScheduleOptions, tfdist.StepOptions, tfdist.CheckpointOptions)
CLASSES = (*PUBLIC, RecipeChoice, LaunchConfig, BenchConfig, VerifyConfig, DoctorConfig)


def documented_fields(kind):
    _, _, attributes = inspect.getdoc(kind).partition("Attributes:\n")
    return re.findall(r"^ {4}(\w+): ", attributes.partition("\n\n")[0], re.MULTILINE)


@pytest.mark.parametrize("kind", PUBLIC)
def test_each_field_of_a_public_class_is_in_its_docstring_once(kind):
    assert sorted(documented_fields(kind)) == sorted(field.name for field in dataclasses.fields(kind))


@pytest.mark.parametrize("kind", CLASSES)
def test_each_field_is_documented_by_its_help_or_by_the_docstring_of_its_class(kind):
    written = {field.name for field in dataclasses.fields(kind) if option_of(field)} | {*documented_fields(kind)}
    assert written == {field.name for field in dataclasses.fields(kind)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = option(1, flag="inner_size", help="The size.")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    """A trial."""

    colour: str = option("red", choices=("red", "blue"), help="The colour.")
    inner: Inner = dataclasses.field(default_factory=Inner)


def test_the_help_and_the_choices_go_to_the_docstring():
    assert Outer.__doc__ == "A trial.\n\nAttributes:\n    colour: The colour. One of 'red', 'blue'."


def test_options_are_flat_by_the_names_of_their_flags():
    assert flatten(Outer()) == {"colour": "red", "inner_size": 1}
    assert [name_of(field) for field in dataclasses.fields(Outer)] == ["colour", "inner"]


def test_flat_names_and_fields_are_replaced():
    assert replace_flat(Outer(), {"inner_size": 3, "colour": "blue"}) == Outer(colour="blue", inner=Inner(size=3))
    assert replace_flat(Outer(), {"inner": Inner(size=2)}) == Outer(inner=Inner(size=2))
    assert replace_flat(Outer(), {}) == Outer()


@pytest.mark.parametrize("name", ["size", "color"])
def test_a_name_that_is_no_flag_and_no_field_is_refused(name):
    with pytest.raises(TypeError, match=name):
        replace_flat(Outer(), {name: 3})
