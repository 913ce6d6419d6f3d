"""Heartbeats can be read by another process, even after the worker has ended."""

import os

from support.processes import run_python

from tfdist.process.heartbeat import FOLDER, Beat, make_heartbeat, read_beats


def test_a_beat_outlives_the_worker_that_wrote_it(tmp_path):
    script = """
import os, signal
from tfdist.process.heartbeat import make_heartbeat
heartbeat = make_heartbeat(os.environ, 3)
heartbeat.beat("steps", step=17)
heartbeat.beat("vote")
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = run_python("-c", script, environ={FOLDER: str(tmp_path)}, deadline_seconds=30)
    beat = read_beats(tmp_path)[3]
    assert (ended.code, beat) == (-9, Beat(3, int(ended.out), 17, "vote", beat.time))
    assert abs(beat.time - tmp_path.stat().st_mtime) < 10


def test_a_worker_that_is_started_again_begins_at_step_0(tmp_path):
    make_heartbeat({FOLDER: str(tmp_path)}, 0).beat("steps", step=9)
    make_heartbeat({FOLDER: str(tmp_path)}, 0)
    beat = read_beats(tmp_path)[0]
    assert (beat.step, beat.phase, beat.pid) == (0, "start", os.getpid())


def test_without_the_launcher_nothing_is_written(tmp_path):
    make_heartbeat({}, 0).beat("steps", step=1)
    (tmp_path / "worker-0.beat").write_bytes(b"torn")
    assert read_beats(tmp_path) == {}
