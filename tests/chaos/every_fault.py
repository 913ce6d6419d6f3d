"""The whole matrix, on two and on three workers: `make chaos`."""

import pytest
from chaos import chains, matrix

EPOCHS = len(matrix.POINTS) + 1
SIZES = (2, 3)
CHAINS = [(kind, workers) for workers in SIZES for kind in matrix.KINDS]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns a function (kind or None, workers) → the chain of a kind, or the undisturbed run; each is run once."""
    folder, known = tmp_path_factory.mktemp("chains"), {}

    def run(kind, workers):
        if (kind, workers) not in known:
            place = folder / f"{kind}-{workers}"
            if kind is None:
                known[kind, workers] = chains.undisturbed(place, epochs=EPOCHS, workers=workers)
            else:
                cells = matrix.every_cell(kind, workers)
                known[kind, workers] = chains.suffer(place, cells, epochs=EPOCHS, workers=workers)
        return known[kind, workers]

    return run


@pytest.mark.parametrize("point", list(matrix.POINTS))
@pytest.mark.parametrize(("kind", "workers"), CHAINS)
def test_promise_20_promise_22_promise_23_a_fault_strikes_there_and_the_run_starts_again(runs, kind, workers, point):
    chains.assert_struck(runs(kind, workers), matrix.every_cell(kind, workers), list(matrix.POINTS).index(point))


@pytest.mark.parametrize(("kind", "workers"), CHAINS)
def test_promise_29_promise_30_after_all_faults_of_a_kind_the_weights_are_the_undisturbed_runs(runs, kind, workers):
    cells = matrix.every_cell(kind, workers)
    chains.assert_nothing_lost(runs(kind, workers), cells, runs(None, workers), epochs=EPOCHS)
    assert runs(kind, workers).left_alive() == runs(None, workers).left_alive() == []
