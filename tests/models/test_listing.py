"""`python -m tfdist.models`: what it prints, and what it says about a name that it does not know."""

import pytest
from support.processes import REPOSITORY, run_python

from tfdist.models import listing, names


def test_the_columns_are_aligned_and_the_legend_says_what_they_mean(capsys):
    assert listing.main(["resnet20", "vit_s16"]) == 0
    head, small, large, *legend = capsys.readouterr().out.splitlines()
    assert head == "name      parameters  multiply-adds      input  classes  options"
    assert small == "resnet20     269,722         40.6 M    32×32×3       10  weight_decay"
    assert large == "vit_s16   22,050,664         4.60 G  224×224×3     1000  position, pool, dropout"
    assert "published tables count them" in " ".join(legend)


def test_it_lists_every_model_without_loading_keras():
    script = "import sys; from tfdist.models.listing import main; main([]); print('keras' in sys.modules)"
    ended = run_python("-c", script, deadline_seconds=30)
    lines = ended.out.splitlines()
    assert [line.split(" ")[0] for line in lines[1 : len(names()) + 1]] == list(names())
    assert (ended.code, lines[-1]) == (0, "False")
    assert max(map(len, lines)) <= 120


def test_a_wrong_name_gets_the_nearest(capsys):
    assert listing.main(["resnet50", "vit_s61"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tfdist.models: no model is called 'vit_s61'. Did you mean 'vit_s16'? Known: mlp, ")


def test_a_flag_is_refused(capsys):
    assert listing.main(["--all"]) == 2
    assert capsys.readouterr().err == (
        "tfdist.models: there is no flag --all. Give names of models, or nothing for all.\n"
    )


@pytest.mark.parametrize(
    ("count", "text"), [(101_632, "102 K"), (9_994_000, "9.99 M"), (40_551_040, "40.6 M"), (4_089_184_256, "4.09 G")]
)
def test_a_count_is_written_with_three_digits(count, text):
    assert listing.short(count) == text


def test_the_page_of_the_models_shows_the_table():
    page = (REPOSITORY / "docs" / "reference" / "models.md").read_text()
    assert listing.render(names()).removesuffix(listing.LEGEND) in page
