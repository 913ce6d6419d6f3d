"""A cloud's notice that it takes the machine away becomes a SIGTERM, and nothing else does."""

import contextlib
import http.server
import json
import signal
import threading
import time

import pytest

from tfdist.cluster.preemption import NOTICES, Notice, stopped_before_end, watched


@contextlib.contextmanager
def metadata_service(answers):
    """Runs a metadata service that gives one answer after the other, and repeats the last one; None is an error."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(dict(self.headers))
            answer = answers[min(len(asked), len(answers)) - 1]
            self.send_response(200 if answer is not None else 503)
            self.end_headers()
            self.wfile.write((answer or "").encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()


@pytest.fixture
def sigterms():
    """Counts the SIGTERMs that come."""
    came = []
    previous = signal.signal(signal.SIGTERM, lambda signum, frame: came.append(signum))
    yield came
    signal.signal(signal.SIGTERM, previous)


def watch(answers, is_given, until, headers=None):
    with metadata_service(answers) as (url, asked):
        with watched(Notice(url, headers or {}, is_given), every_seconds=0.02):
            deadline = time.monotonic() + 10
            while not until(asked) and time.monotonic() < deadline:
                time.sleep(0.01)
        return asked


def test_promise_22_a_notice_becomes_one_sigterm(sigterms, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    gce = NOTICES["gce"]
    asked = watch(["FALSE", None, "FALSE", "TRUE\n"], gce.is_given, lambda asked: sigterms, gce.headers)
    assert sigterms == [signal.SIGTERM]
    assert len(asked) == 4
    assert asked[0]["Metadata-Flavor"] == "Google"


def test_without_a_notice_nothing_happens(sigterms):
    watch(["FALSE"], NOTICES["gce"].is_given, lambda asked: len(asked) >= 5)
    watch(["not JSON"], NOTICES["azure"].is_given, lambda asked: len(asked) >= 3)
    with watched(None):
        pass
    assert sigterms == []


@pytest.mark.parametrize(
    "events, given",
    [([], False), ([{"EventType": "Reboot"}], False), ([{"EventType": "Freeze"}, {"EventType": "Preempt"}], True)],
)
def test_azures_events_are_distinguished(events, given):
    assert NOTICES["azure"].is_given(json.dumps({"DocumentIncarnation": 1, "Events": events})) is given


def test_a_service_that_does_not_answer_is_logged_once(caplog, sigterms):
    with caplog.at_level("WARNING", "tfdist"):
        watch([None], NOTICES["gce"].is_given, lambda asked: len(asked) >= 3)
    assert caplog.text.count("gives no answer") == 1
    assert sigterms == []


def test_promise_22_a_run_stops_before_slurm_ends_its_job(sigterms, caplog):
    with caplog.at_level("INFO", "tfdist"), stopped_before_end({"SLURM_JOB_END_TIME": str(int(time.time()) + 2)}):
        deadline = time.monotonic() + 10
        while not sigterms and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sigterms == [signal.SIGTERM]
    assert caplog.messages == ["Slurm will end this job soon: sending SIGTERM to this process."]


@pytest.mark.parametrize("end", [None, "", "0", "x", "1000000000", "4294967295", "9" * 30])
def test_an_end_that_is_unknown_past_or_far_stops_nothing(sigterms, end):
    before = threading.active_count()
    with stopped_before_end({} if end is None else {"SLURM_JOB_END_TIME": end}):
        assert threading.active_count() == before + (end == "4294967295")
        assert sigterms == []
