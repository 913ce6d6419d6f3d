"""The whole matrix, on two and on three workers, and its table in docs/evidence/faults.md: `make chaos`."""

import pytest
from chaos import chains, matrix
from full import evidence

EPOCHS = len(matrix.POINTS) + 1
SIZES = (2, 3)
CHAINS = [(kind, workers) for workers in SIZES for kind in matrix.KINDS]
TITLE = "Every fault at every point of a run, and the end of the run with all faults of a kind"
COLUMNS = ("row", "as it should be", "exit codes", "cause")


def row_of(workers, what):
    """Returns a row's name: of a cell of the matrix, or of a kind of fault for the end of its run."""
    return f"{workers} workers: {what}" if isinstance(what, matrix.Cell) else f"{workers} workers: the end after {what}"


def rows():
    """Lists the names of the table's rows."""
    of_cells = [row_of(workers, cell) for kind, workers in CHAINS for cell in matrix.every_cell(kind, workers)]
    return [*of_cells, *(row_of(workers, kind) for kind, workers in CHAINS)]


@pytest.fixture(scope="module")
def table():
    """Collects the cells of each row; writes the page at the end, where every row was run."""
    found = {}
    yield found
    if set(found) == set(rows()):
        evidence.write("faults", TITLE, "make chaos", COLUMNS, [[name, *found[name]] for name in rows()])


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
                known[kind, workers] = chains.run_with_faults(place, cells, epochs=EPOCHS, workers=workers)
        return known[kind, workers]

    return run


@pytest.mark.parametrize("point", list(matrix.POINTS))
@pytest.mark.parametrize(("kind", "workers"), CHAINS)
def test_promise_20_promise_22_promise_23_a_fault_is_injected_there_and_the_run_starts_again(
    runs, table, kind, workers, point
):
    cells, number = matrix.every_cell(kind, workers), list(matrix.POINTS).index(point)
    name = row_of(workers, cells[number])
    table[name] = ["NO", "", ""]
    run = runs(kind, workers)
    # A run that ended too soon has no such start.
    entry = dict(enumerate(run.attempts)).get(number, {"exit_codes": [], "cause": "it was not reached"})
    seen = [" ".join(map(str, entry["exit_codes"])), entry["cause"]]
    table[name] = ["NO", *seen]
    chains.assert_handled(run, cells, number)
    table[name] = ["yes", *seen]


@pytest.mark.parametrize(("kind", "workers"), CHAINS)
def test_promise_29_promise_30_after_all_faults_of_a_kind_the_weights_are_the_undisturbed_runs(
    runs, table, kind, workers
):
    name = row_of(workers, kind)
    table[name] = ["NO", "", ""]
    run = runs(kind, workers)
    table[name] = ["NO", run.code, ""]
    chains.assert_nothing_lost(run, matrix.every_cell(kind, workers), runs(None, workers), epochs=EPOCHS)
    table[name] = ["yes", run.code, f"weights {run.summary['weights_sha256'][:12]}"]
