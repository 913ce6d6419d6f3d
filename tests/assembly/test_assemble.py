"""What the options name is what assembly makes."""

from tfdist.assembly import assemble
from tfdist.options.run import OPTIMIZERS


def test_the_optimizers_that_the_options_name_are_those_that_are_made():
    assert set(assemble._OPTIMIZERS) == set(OPTIMIZERS)
