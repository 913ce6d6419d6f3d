"""Commands end at once, but finish first what is pending."""

import os
import subprocess
import sys

import pytest
from support.processes import REPOSITORY, run_python

COMMAND = """
import atexit, sys, threading, time
from tfdist.process.exits import run_and_leave
atexit.register(print, "handler")
class Slow:
    def __del__(self):
        print("torn down")
kept = Slow()
def late():
    time.sleep(0.2)
    print("thread")
def main():
    threading.Thread(target=late).start()
    sys.stdout.write("main ")
    {ending}
if __name__ == "__main__":
    run_and_leave(main)
"""
ENDINGS = {
    "return 7": 7,
    "return None": 0,
    "sys.exit(3)": 3,
    "sys.exit()": 0,
    "sys.exit('no such flag')": 1,
    "raise LookupError('lost')": 1,
}


def write(folder, ending):
    path = folder / "command.py"
    path.write_text(COMMAND.format(ending=ending))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_command_ends_with_its_code_after_threads_and_handlers(ending, tmp_path):
    ended = run_python(write(tmp_path, ending))
    assert ended.code == ENDINGS[ending]
    assert ended.out.startswith("main thread\nhandler\n")
    assert ("Traceback" in ended.err) == ("LookupError" in ending)
    assert ("no such flag" in ended.err) == ("no such flag" in ending)
    # Python's own teardown runs where there is an error to print.
    assert ("torn down" in ended.out) == (ENDINGS[ending] == 1)


def test_files_that_are_still_open_have_what_was_written(tmp_path):
    text, binary = (
        f"a = open(r'{tmp_path}/a', 'w'); a.write('text')",
        f"b = open(r'{tmp_path}/b', 'wb'); b.write(b'bytes')",
    )
    ended = run_python(write(tmp_path, f"global a, b; {text}; {binary}"))
    assert (ended.code, (tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == (0, "text", "bytes")


def test_under_a_profiler_a_command_ends_as_usual(tmp_path):
    ended = run_python("-m", "cProfile", write(tmp_path, "return 7"))
    assert "function calls" in ended.out and "torn down" in ended.out


def test_a_command_ends_without_a_reader_of_its_output(tmp_path):
    with subprocess.Popen(
        [sys.executable, write(tmp_path, "return 7")],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.wait(60) == 7
