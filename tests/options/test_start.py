"""What a run starts from is checked when the options are made."""

import pytest

from tfdist.options.run import RunConfig
from tfdist.options.start import StartOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": "backbone"}, "freeze is 'backbone'. Use a tuple."),
        ({"freeze": ("(",)}, "freeze has '(', which is no regular expression: missing ), unterminated subpattern"),
        ({"freeze": ("",)}, "freeze has an empty pattern, which would match each layer. Leave it out."),
        ({"thaw_epoch": 2}, "thaw_epoch is 2, but nothing is frozen. Give freeze too."),
        ({"thaw_epoch": 0, "freeze": ("a",)}, "thaw_epoch is 0. Use a whole number from 1."),
        ({"lora_layers": ("a",)}, "lora_layers chooses the layers of lora_rank, which is not given. Give it too."),
        ({"init_from": ""}, "init_from is empty. Give a file or a run's folder, or leave it out."),
        ({"init_from": 3}, "init_from is 3. Use a path."),
    ],
)
def test_a_wrong_start_is_refused_by_field_and_value(fields, message):
    with pytest.raises(ValueError) as error:
        StartOptions(**fields)
    assert str(error.value).startswith(message)


def test_a_thawing_after_the_last_epoch_is_named():
    late = RunConfig(epochs=3, start=StartOptions(init_from="a.keras", freeze=("a",), thaw_epoch=3))
    assert late.likely_mistakes(10) == ["thaw_epoch is 3, but the run has 3 epochs, so the layers stay frozen."]
    assert late.replace(thaw_epoch=2).likely_mistakes(10) == []
    assert late.replace(steps=15, thaw_epoch=2).likely_mistakes(10) == [
        "thaw_epoch is 2, but the run has 1.5 epochs, so the layers stay frozen."
    ]
    assert late.replace(steps=21, thaw_epoch=2).likely_mistakes(10) == []


def test_random_weights_that_are_kept_are_named():
    (line,) = RunConfig(start=StartOptions(freeze=("conv",))).likely_mistakes(10)
    assert line.startswith("freeze is ('conv',), but without init_from the weights that it keeps are random.")
    (line,) = RunConfig(start=StartOptions(lora_rank=2)).likely_mistakes(10)
    assert line.startswith("lora_rank is 2, but without init_from")
    assert RunConfig(model=lambda: None, start=StartOptions(lora_rank=2)).likely_mistakes(10) == []
