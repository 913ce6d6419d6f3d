"""`--deterministic` on the command line: it runs on every strategy, and two runs end with the same bits."""

import json

import pytest
from support.processes import run_python

pytestmark = pytest.mark.multi_worker

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}
RUN = ("-m", "tfdist.train", "--deterministic", "--epochs=2", "--checkpoint_every_steps=10")


def digest_of(folder, *before, flags=()):
    """Runs the command to its end, and returns the digest of its weights."""
    ended = run_python(*before, *RUN, *flags, f"--run_dir={folder}", environ=QUIET, deadline_seconds=180)
    assert ended.code == 0, ended.err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 90
    # A deterministic step may not read a clock, so its measurements are left out.
    assert all(set(worker) == {"worker", "step_seconds", "step_spread"} for worker in summary["workers"])
    return summary["weights_sha256"]


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_two_runs_on_one_machine_end_with_the_same_bits(strategy, tmp_path):
    first, second = (digest_of(tmp_path / name, flags=[f"--strategy={strategy}"]) for name in ("first", "second"))
    assert first == second


def test_promise_30_of_two_runs_on_two_workers_one_killed_and_resumed_the_bits_are_the_same(tmp_path):
    launch = ("-m", "tfdist.launch", "--workers=2", "--backoff_seconds=0", "--max_restarts=1")
    flags = ["--strategy=multi_worker"]
    undisturbed = digest_of(tmp_path / "undisturbed", *launch, "--", flags=flags)
    killed = digest_of(tmp_path / "killed", *launch, "--chaos=kill:worker=1,step=25", "--", flags=flags)
    attempts = json.loads((tmp_path / "killed" / "logs" / "launch.json").read_text())
    assert [attempt["kind"] for attempt in attempts] == ["failure", "done"]
    assert killed == undisturbed
    lines = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    first, again = (line for line in lines if line.get("event") == "start")
    assert (first["step"], first["attempt"], "cause" in first) == (0, 0, False)
    assert (again["step"], again["attempt"], again["workers"]) == (20, 1, 2)
    assert {name: again[name] for name in ("kind", "cause", "failed")} == {
        name: attempts[0][name] for name in ("kind", "cause", "failed")
    }
    assert first["began"] < first["time"] < again["failed"] < again["began"] < again["time"]
