"""The page that is served while a run goes on."""

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from support.made_runs import killed_run, write_run
from support.processes import REPOSITORY, run_python


@pytest.fixture
def served(tmp_path):
    """Serves a folder in a process; yields (the folder, the process, the page's address)."""
    folder = write_run(tmp_path / "run", killed_run())
    command = [sys.executable, "-m", "tfdist.report", str(folder), "--live", "--port=0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        try:
            yield folder, process, re.search(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.kill()


def read(address):
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return answer.read().decode()


@pytest.mark.slow
def test_each_request_has_the_page_of_now_and_ctrl_c_ends_it(served):
    folder, process, address = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    assert "the run stopped here" not in read(address)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "end", "time": 1764556999.0, "step": 30, "reason": "the run stopped here"}\n')
    page = read(address)
    assert "the run stopped here" in page and 'http-equiv="refresh"' in page
    for path, code in (("favicon.ico", 404), ("../run/config.json", 404)):
        with pytest.raises(urllib.error.HTTPError) as error:
            read(address + path)
        assert error.value.code == code
        error.value.close()
    # Gone for a while, as when a folder is moved.
    folder.rename(folder.with_name("away"))
    with pytest.raises(urllib.error.HTTPError) as error:
        read(address)
    assert (error.value.code, error.value.read().decode().partition(": ")[2]) == (
        503,
        "there is no such folder. Give the folder of a run, as runs/digits_cnn-1.",
    )
    error.value.close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_port_that_is_taken_is_one_line(served):
    folder, _, address = served
    port = re.search(r":(\d+)/", address)[1]
    ended = run_python("-m", "tfdist.report", folder, "--live", f"--port={port}", deadline_seconds=60)
    message = f"--port: 127.0.0.1:{port} cannot be used (Address already in use). Use another, or --port=0."
    assert (ended.code, ended.out, ended.err) == (2, "", f"tfdist.report: {message}\n")
