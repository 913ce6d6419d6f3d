"""Chains of faults, run and looked at."""

import re

from chaos import launched, matrix


def run_with_faults(folder, cells, *, epochs, workers):
    """Launches one run with the faults of a chain, one per start; returns a `Run`."""
    folder.mkdir()
    # One restart is to spare, which nobody should need.
    restarts = len(cells) + 1
    return launched.launch(
        folder, f"--chaos={matrix.chaos_of(cells)}", epochs=epochs, workers=workers, restarts=restarts
    )


def undisturbed(folder, *, epochs, workers):
    """Returns the `Run` without a fault."""
    folder.mkdir()
    run = launched.launch(folder, epochs=epochs, workers=workers)
    assert (run.code, [entry["kind"] for entry in run.attempts]) == (0, ["done"]), run.said
    return run


def assert_handled(run, cells, number):
    """Holds one start of a run against its cell: the fault was injected, its cause was found, and a restart came."""
    cell, fault = cells[number], matrix.faults_of(cells)[number]
    step = fault.step if cell.point != "start" else resumed_at(run, cell.worker, number)
    log = run.log(cell.worker, number)
    assert f"tfdist: injected fault after step {step}: {fault}\n" in log, run.said
    kind, code = matrix.VERDICTS[cell.kind]
    entry = run.attempts[number]
    assert (entry["kind"], entry["exit_codes"][cell.worker]) == (kind, code), entry
    if cell.kind == "term":
        # It was the same step for all: each has saved with the others, and left with them.
        assert set(entry["exit_codes"]) == {75}, entry
        assert re.search(r"SIGTERM: stopped after step \d+, which is saved\.", log)
    else:
        phase = matrix.POINTS[cell.point][1]
        assert entry["roots"] == [cell.worker], entry
        assert f' in phase "{phase}"' in entry["cause"], entry
    assert re.match(r"restart \d+ of|start again in", entry["then"]), entry
    assert run.attempts[number + 1]["attempt"] == number + 1


def resumed_at(run, rank, attempt):
    """Returns the step that a worker has gone on from at a start; 0 where it began anew."""
    found = re.search(r"going on from \S+/step-(\d+)\.", run.log(rank, attempt))
    return int(found[1]) if found else 0


def assert_nothing_lost(run, cells, undisturbed, *, epochs):
    """Holds the end of a chain against the undisturbed run's."""
    assert run.code == 0, run.said
    # No other restart than those that were meant.
    assert [entry["kind"] for entry in run.attempts] == [
        *(matrix.VERDICTS[cell.kind][0] for cell in cells),
        "done",
    ], run.said
    assert run.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]
    assert set(run.summary["uses"]) == {float(epochs)}
    assert set(undisturbed.summary["uses"]) == {float(epochs)}
    assert not list((run.folder / "checkpoints").glob(".*"))
