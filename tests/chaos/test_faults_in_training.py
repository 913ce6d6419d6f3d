"""Every fault and every point of a run, injected once: the run ends as if nothing had been."""

import json
import time

import numpy as np
import pytest
from chaos import chains, launched
from chaos.matrix import KINDS, POINTS, Cell

from tfdist.cluster.ports import free_ports

pytestmark = pytest.mark.multi_worker

# The whole matrix is in every_fault.py.
CELLS = [
    Cell("kill", "start", 1),
    Cell("term", "step", 1),
    Cell("hang", "call", 1),
    Cell("exception", "save_begin", 0),
    Cell("kill", "save_files", 0),
    Cell("kill", "save_rename", 0),
    Cell("exit", "epoch_end", 0),
    Cell("term", "validation", 0),
]
EPOCHS = len(CELLS) + 1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run without a fault."""
    return chains.undisturbed(tmp_path_factory.mktemp("undisturbed") / "run", epochs=EPOCHS, workers=2)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The run with all of them, one a start."""
    return chains.run_with_faults(tmp_path_factory.mktemp("chain") / "run", CELLS, epochs=EPOCHS, workers=2)


def test_every_fault_and_every_point_are_among_the_cells():
    assert {cell.kind for cell in CELLS} == set(KINDS)
    assert {cell.point for cell in CELLS} == set(POINTS)
    assert {cell.worker for cell in CELLS} == {0, 1}


@pytest.mark.parametrize("number", range(len(CELLS)), ids=list(map(str, CELLS)))
def test_promise_20_promise_22_promise_23_a_fault_is_injected_there_is_named_and_the_run_starts_again(chain, number):
    chains.assert_handled(chain, CELLS, number)


def test_promise_29_promise_30_after_all_faults_the_weights_are_those_of_the_undisturbed_run(chain, undisturbed):
    chains.assert_nothing_lost(chain, CELLS, undisturbed, epochs=EPOCHS)


def test_no_process_of_a_run_outlives_it(chain, undisturbed):
    # Each start of each worker has said who it is.
    assert len(launched.processes_of(chain.folder)) == 2 * (len(CELLS) + 1)
    assert chain.left_alive() == undisturbed.left_alive() == []


@pytest.mark.parametrize("victim", [0, 1])
def test_promise_20_without_a_launcher_too_the_death_of_a_worker_is_told_in_time(tmp_path, victim):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    fault = f"slow:worker={victim},step=3,point=call;kill:worker={victim},step=3,point=call"
    workers = [
        launched.Started(
            (launched.JOB, f"--run_dir={tmp_path}", "--epochs=9"),
            tmp_path,
            name=f"worker-{rank}",
            deadline_seconds=90,
            environ={
                "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}),
                "TFDIST_FAULTS": fault,
            },
        )
        for rank in range(2)
    ]
    try:
        assert workers[victim].end() == -9
        died = time.monotonic()
        survivor = workers[1 - victim]
        assert survivor.end() == 76, survivor.said
        assert time.monotonic() - died < 30
        assert "tfdist: another worker was lost: it ended, or the network to it broke" in survivor.said
    finally:
        for worker in workers:
            worker.close()


def test_promise_30_three_workers_become_two_then_one_and_lose_nothing(tmp_path):
    for name in ("elastic", "whole"):
        (tmp_path / name).mkdir()
    elastic = launched.launch(
        tmp_path / "elastic",
        "--min_workers=1",
        # The second time it is the chief: another worker takes its place.
        "--chaos=lose:worker=2,step=9,point=call;lose:worker=0,step=14,attempt=1",
        epochs=4,
        workers=3,
        restarts=2,
        job=["--dtype=float64"],
    )
    assert elastic.code == 0, elastic.said
    assert [(entry["workers"], entry["slots"], entry["kind"]) for entry in elastic.attempts] == [
        (3, ["slot 0", "slot 1", "slot 2"], "failure"),
        (2, ["slot 0", "slot 1"], "failure"),
        (1, ["slot 1"], "done"),
    ], elastic.said
    whole = launched.alone(tmp_path / "whole", epochs=4, job=["--dtype=float64"])
    for one, other in zip(elastic.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    assert set(elastic.summary["uses"]) == set(whole.summary["uses"]) == {4.0}
    assert elastic.left_alive() == []
