"""The process that loads TensorFlow for the doctor: whatever happens to it, the doctor goes on."""

import json
import os
import signal
import sys
import time

import pytest
from support.processes import REPOSITORY

from tfdist.cluster.ports import free_ports
from tfdist.process.child import ChildGroup, Start


def make_environ(folder, tensorflow):
    """Returns an environment in which TensorFlow is a module of our own."""
    (folder / "tensorflow.py").write_text(tensorflow)
    return {**os.environ, "PYTHONPATH": f"{folder}:{REPOSITORY}"}


def make_child(environ):
    """Returns the doctor's child."""
    return ChildGroup([Start((sys.executable, "-m", "tfdist.doctor.child"), environ)])


@pytest.mark.parametrize(
    ("tensorflow", "expected"),
    [
        ("raise ImportError('libcudart is missing')", {"error": "ImportError: libcudart is missing"}),
        (
            "import os\nos.kill(os.getpid(), 4)",
            {"error": f"its process ended with code {-signal.SIGILL}", "code": -signal.SIGILL},
        ),
        (
            "import os, sys\nprint('bad news', file=sys.stderr, flush=True)\nos._exit(3)",
            {"error": "its process ended with code 3: bad news", "code": 3},
        ),
    ],
    ids=["an exception", "a signal", "an exit"],
)
def test_a_broken_tensorflow_is_an_answer(tmp_path, tensorflow, expected):
    with make_child(make_environ(tmp_path, tensorflow)) as child:
        answer = child.ask("load", deadline_seconds=30)
    # Python itself may print more about a signal.
    assert answer["error"].startswith(expected.pop("error"))
    assert {key: answer[key] for key in expected} == expected


def test_a_hanging_tensorflow_is_killed_at_the_deadline_and_another_one_can_be_asked(tmp_path):
    environ = make_environ(tmp_path, "import time\ntime.sleep(60)")
    start = time.monotonic()
    with make_child(environ) as child:
        for _ in range(2):
            answer = child.ask("load", deadline_seconds=1)
            assert answer == {"error": "no answer within 1 s", "deadline": True}
    assert time.monotonic() - start < 6


def test_what_libraries_print_is_no_answer(tmp_path):
    environ = make_environ(tmp_path, "print('{}', flush=True)\nraise ImportError('x')")
    with make_child(environ) as child:
        assert child.ask("load", deadline_seconds=30) == {"error": "ImportError: x"}


def test_promise_17_an_all_reduce_without_the_other_worker_is_killed_at_the_deadline():
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    config = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}})
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "TF_CONFIG": config}
    with make_child(environ) as child:
        loaded = child.ask("load", deadline_seconds=90)
        assert loaded["gpus"] == []
        start = time.monotonic()
        answer = child.ask("all_reduce", deadline_seconds=3, pieces=1, repeats=1)
        assert answer == {"error": "no answer within 3 s", "deadline": True}
        assert time.monotonic() - start < 6
