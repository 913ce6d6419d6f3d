"""A run of minutes, with faults from outside: SIGKILL to a worker, by chance, at times by chance (`make chaos`)."""

import os
import random
import signal
import statistics
import time

from chaos import chains, launched
from full import evidence

KILLS = int(os.environ.get("KILLS", "50"))
WORKERS = 2
# Three calls an epoch: undisturbed, the run lasts nine seconds a kill.
EPOCHS = 12 * KILLS
PAUSE_SECONDS = 0.2
# A start takes six seconds of it, or 15 on a busy machine: some kills come before the first step.
LONGEST_WAIT_SECONDS = 20
TITLE = "SIGKILL to a worker, by chance, at times by chance: the run ends with the weights of the undisturbed one"
COLUMNS = (
    "row",
    "as it should be",
    "minutes",
    "weights of both runs",
    "uses of each row",
    "seconds from a kill to the next start: median",
    "longest",
)


def test_promise_30_random_kills_of_a_run_of_minutes_lose_nothing(tmp_path):
    chance = random.Random(20)
    undisturbed = chains.undisturbed(tmp_path / "undisturbed", epochs=EPOCHS, workers=WORKERS)
    folder = tmp_path / "faulty"
    folder.mkdir()
    began = time.monotonic()
    job = [f"--pause={PAUSE_SECONDS}"]
    arguments = launched.command(folder, epochs=EPOCHS, workers=WORKERS, restarts=2 * KILLS, job=job)
    launcher = launched.Started(arguments, folder, name="launcher", deadline_seconds=300 + 60 * KILLS)
    try:
        pauses = [kill_worker(launcher, folder, number, chance) for number in range(KILLS)]
        code = launcher.end()
    finally:
        launcher.close()
    run = launched.Run(code, launcher.said, folder)
    assert code == 0, run.said[-3000:]
    assert [entry["kind"] for entry in run.attempts] == ["failure"] * KILLS + ["done"], run.said[-3000:]
    assert all("was killed by SIGKILL" in entry["cause"] for entry in run.attempts[:-1])
    assert run.summary["weights_sha256"] == undisturbed.summary["weights_sha256"]
    assert set(run.summary["uses"]) == {float(EPOCHS)}
    assert run.left_alive() == undisturbed.left_alive() == []
    evidence.write(
        "random_kills",
        TITLE,
        "make chaos",
        COLUMNS,
        [
            [
                f"{KILLS} kills of {WORKERS} workers",
                "yes",
                f"{(time.monotonic() - began) / 60:.1f}",
                run.summary["weights_sha256"][:12],
                EPOCHS,
                f"{statistics.median(pauses):.1f}",
                f"{max(pauses):.1f}",
            ]
        ],
    )


def kill_worker(launcher, folder, attempt, chance):
    """Kills one worker of an attempt; returns the seconds until all workers of the next one have started."""
    workers = wait_for(launcher, folder, attempt)
    time.sleep(chance.uniform(0, LONGEST_WAIT_SECONDS))
    pid, start = chance.choice(sorted(workers))
    assert launched.runs(pid, start), f"no worker to kill at attempt {attempt}: {launcher.said[-3000:]}"
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_for(launcher, folder, attempt + 1)
    return time.monotonic() - killed


def wait_for(launcher, folder, attempt):
    """Waits until all workers of an attempt have started; returns (process id, start) of each."""
    while True:
        lines = [line for line in launched.processes_of(folder) if line["attempt"] == attempt]
        if len(lines) == WORKERS:
            return [tuple(line["processes"][0]) for line in lines]
        assert launcher.process.poll() is None, launcher.said[-3000:]
        time.sleep(0.05)
