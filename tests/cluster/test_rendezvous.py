"""Workers meet before TensorFlow is loaded: missing and different workers and busy ports are named; none hangs."""

import contextlib
import json
import logging
import socket
import threading
import time

import pytest
from support.processes import REPOSITORY, run_python, run_workers

from tfdist.cluster.members import Cluster, Task
from tfdist.cluster.ports import free_ports
from tfdist.cluster.rendezvous import RendezvousError, door, guest, host, meet
from tfdist.cluster.rendezvous.door import open_port
from tfdist.cluster.rendezvous.messages import LIMIT_BYTES, encode, take_line
from tfdist.cluster.rendezvous.proxies import bypass, plan_bypass

HELLO = {"versions": {"keras": "3.13.0"}, "code": {"tfdist": "ab"}, "config": {"global_batch": 64}, "devices": 1}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(host, "FAREWELL_SECONDS", 0.3)
    monkeypatch.setattr(guest, "FAREWELL_SECONDS", 0.3)
    monkeypatch.setattr(door, "PATIENCE_SECONDS", 0.1)


def make_clusters(size, hosts="127.0.0.1"):
    addresses = tuple(f"{hosts}:{port}" for port in free_ports(size))
    return [Cluster({"worker": addresses}, Task("worker", rank)) for rank in range(size)]


class Workers:
    """Workers as threads, with the answer or the error message of each."""

    def __init__(self):
        self.answers, self.seconds, self._threads = {}, {}, []

    def start(self, cluster, hello=HELLO, key=None, **options):
        def run():
            start = time.monotonic()
            key_ = cluster.rank if key is None else key
            try:
                self.answers[key_] = meet(cluster, hello, **{"timeout_seconds": 10.0, "environ": {}, **options})
            except Exception as error:
                self.answers[key_] = f"{type(error).__name__}: {error}"
            self.seconds[key_] = time.monotonic() - start

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def ends(self, within=15.0):
        """Waits for all workers; returns their answers by rank."""
        end = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), "a worker hangs"
        return self.answers


@pytest.fixture
def workers():
    return Workers()


def all_start(workers, clusters, **options):
    for cluster in clusters:
        workers.start(cluster, **options)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_workers_get_what_the_chief_announces(workers, size):
    announcement = {"run_dir": "runs/digits-3", "numbers": [1, 2.5, None]}
    for cluster in make_clusters(size):
        workers.start(cluster, announcement=announcement if cluster.is_chief else None)
    assert workers.ends() == dict.fromkeys(range(size), announcement)


def test_without_an_announcement_all_get_an_empty_one(workers):
    all_start(workers, make_clusters(2))
    assert workers.ends() == {0: {}, 1: {}}


@pytest.mark.parametrize("first", [0, 1])
def test_workers_may_come_in_any_order(workers, first):
    clusters = make_clusters(2)
    workers.start(clusters[first])
    time.sleep(0.5)
    workers.start(clusters[1 - first])
    assert workers.ends() == {0: {}, 1: {}}


def test_a_chief_beside_the_workers_is_the_one_that_receives(workers):
    ports = free_ports(3)
    jobs = {"chief": (f"127.0.0.1:{ports[0]}",), "worker": tuple(f"127.0.0.1:{port}" for port in ports[1:])}
    for task in (Task("worker", 1), Task("worker", 0), Task("chief", 0)):
        workers.start(Cluster(jobs, task), announcement={"by": task.type})
    assert workers.ends() == {rank: {"by": "chief"} for rank in range(3)}


def test_workers_meet_by_host_name(workers):
    all_start(workers, make_clusters(2, "localhost"))
    assert workers.ends() == {0: {}, 1: {}}


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_workers_meet_over_ipv6(workers):
    all_start(workers, make_clusters(2, "[::1]"))
    assert workers.ends() == {0: {}, 1: {}}


def test_the_ports_are_free_again_afterwards(workers):
    clusters = make_clusters(2)
    for _ in range(2):
        all_start(workers, clusters)
        assert workers.ends() == {0: {}, 1: {}}
    for cluster in clusters:
        open_port(cluster.address, cluster.rank).close()


def test_promise_17_every_present_worker_names_the_missing_ones(workers):
    clusters = make_clusters(4)
    for cluster in (clusters[0], clusters[2]):
        workers.start(cluster, timeout_seconds=1.0)
    message = (
        "RendezvousError: rendezvous: 2 of 4 workers missing 1 s after the first one started: worker 1 "
        f"({clusters[1].address}), worker 3 ({clusters[3].address}). Start them, or see there why they do not start; "
        f"every worker needs the same list of workers, and a way to worker 0 at {clusters[0].address} (host name, "
        "firewall)."
    )
    assert workers.ends() == {0: message, 2: message}
    assert max(workers.seconds.values()) < 5


def test_promise_17_the_others_say_that_worker_0_is_missing(workers):
    clusters = make_clusters(3)
    for cluster in clusters[1:]:
        workers.start(cluster, timeout_seconds=0.8)
    answers = workers.ends()
    for rank in (1, 2):
        assert answers[rank].startswith(
            f"RendezvousError: rendezvous: worker 0 ({clusters[0].address}) is missing 0.8 s after this worker "
            f"({clusters[rank].address}) started: nothing listens there."
        )
    assert max(workers.seconds.values()) < 4


def test_promise_17_the_first_deadline_counts_for_all(workers):
    clusters = make_clusters(3)
    workers.start(clusters[1], timeout_seconds=1.0)
    workers.start(clusters[0], timeout_seconds=60.0)
    answers = workers.ends(8)
    assert all(f"worker 2 ({clusters[2].address}). Start it, or see" in answers[rank] for rank in (0, 1))


def test_promise_17_a_late_worker_gets_the_result(workers, monkeypatch):
    monkeypatch.setattr(host, "FAREWELL_SECONDS", 3.0)
    clusters = make_clusters(3)
    all_start(workers, clusters[:2], timeout_seconds=0.6)
    time.sleep(1.1)
    workers.start(clusters[2])
    answers = workers.ends(6)
    assert "1 of 3 workers missing" in answers[2]
    assert answers[2] == answers[0] == answers[1]


def test_promise_17_a_worker_that_dies_on_the_way_is_missing(workers):
    clusters = make_clusters(3)
    workers.start(clusters[0], timeout_seconds=1.0)
    with calling(clusters[0]) as connection:
        connection.sendall(hello_line(clusters[0], 1))
        assert b"welcome" in connection.recv(1000)
    assert f"worker 1 ({clusters[1].address}, came and left), worker 2" in workers.ends()[0]


def test_a_worker_that_dies_may_come_again(workers):
    clusters = make_clusters(3)
    workers.start(clusters[0])
    with calling(clusters[0]) as connection:
        connection.sendall(hello_line(clusters[0], 1))
        assert b"welcome" in connection.recv(1000)
    all_start(workers, clusters[1:])
    assert workers.ends() == {0: {}, 1: {}, 2: {}}


def test_promise_17_an_unknown_host_is_named(workers):
    ports = free_ports(2)
    jobs = {"worker": (f"nobody.invalid:{ports[0]}", f"127.0.0.1:{ports[1]}")}
    workers.start(Cluster(jobs, Task("worker", 1)), timeout_seconds=0.5)
    assert "the name nobody.invalid is unknown here" in workers.ends()[1]


def test_promise_17_waiting_is_logged_while_it_lasts(workers, monkeypatch, caplog):
    monkeypatch.setattr(host, "_FIRST_LOG_SECONDS", 0.2)
    monkeypatch.setattr(guest, "_FIRST_LOG_SECONDS", 0.2)
    clusters = make_clusters(3)
    with caplog.at_level(logging.INFO, "tfdist"):
        workers.start(clusters[1], timeout_seconds=1.5)
        time.sleep(0.6)
        workers.start(clusters[0], timeout_seconds=1.5)
        workers.ends()
    assert f"waiting for worker 0 at {clusters[0].address} (nothing listens there)" in caplog.text
    assert f"waiting for worker 2 ({clusters[2].address})" in caplog.text


@pytest.mark.parametrize("rank", [0, 1])
def test_promise_16_a_busy_port_is_named_before_anything_starts(workers, rank):
    clusters = make_clusters(2)
    host_, port = clusters[rank].address.split(":")
    with socket.create_server((host_, int(port))):
        all_start(workers, clusters, timeout_seconds=1.5)
        answers = workers.ends()
    busy = f"port {port} of this worker (worker {rank}, {clusters[rank].address}) is in use: another process has it."
    assert answers[rank].startswith(f"RendezvousError: rendezvous: {busy} End that process (`ss -ltnp 'sport = :{port}")
    if rank == 1:
        # Worker 1 itself reports it to worker 0, long before the deadline.
        assert answers[0].startswith(f"RendezvousError: rendezvous: worker 1 ({clusters[1].address}) cannot take part:")
        assert busy in answers[0]
        assert workers.seconds[0] < 1.4
    else:
        assert "worker 0" in answers[1]
        assert "it accepts a connection, but does not answer" in answers[1]


def test_promise_16_a_port_that_frees_itself_in_a_moment_is_waited_for(monkeypatch):
    monkeypatch.setattr(door, "PATIENCE_SECONDS", 3.0)
    (port,) = free_ports(1)
    busy = socket.create_server(("127.0.0.1", port))
    threading.Timer(0.3, busy.close).start()
    open_port(f"127.0.0.1:{port}", 0).close()


def test_promise_16_a_port_that_needs_rights_is_named(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(
        RendezvousError, match=r"port 80 of this worker \(worker 0, a:80\) may not be opened by this user"
    ):
        open_port("a:80", 0)


def test_promise_19_every_worker_reports_the_first_difference(workers):
    for cluster in make_clusters(3):
        other = {**HELLO, "config": {"global_batch": 128}, "devices": 2}
        workers.start(cluster, other if cluster.rank == 2 else HELLO)
    message = (
        "MismatchError: rendezvous: the workers do not run the same: config.global_batch: 64 on workers 0, 1, 128 on "
        "worker 2. 1 more differ, such as devices: 1 on workers 0, 1, 2 on worker 2. Make them equal on every worker."
    )
    assert workers.ends() == dict.fromkeys(range(3), message)
    assert max(workers.seconds.values()) < 5


def test_promise_19_a_tuple_here_is_a_list_there(workers):
    all_start(workers, make_clusters(2), hello={"config": {"metrics": ("accuracy",), "filters": {1: 2}}})
    assert workers.ends() == {0: {}, 1: {}}


def test_promise_19_another_list_of_workers_is_reported_at_once(workers):
    clusters = make_clusters(2)
    jobs = {"worker": (*clusters[1].workers, f"127.0.0.1:{free_ports(1)[0]}")}
    workers.start(clusters[0], timeout_seconds=1.0)
    workers.start(Cluster(jobs, Task("worker", 1)))
    answers = workers.ends()
    listed, other = (f"[{', '.join(addresses)}]" for addresses in (clusters[0].workers, jobs["worker"]))
    assert (
        f"worker 0 at {clusters[0].address} has another list of workers, {listed}, than this one, {other}" in answers[1]
    )
    assert workers.seconds[1] < 0.9
    assert f"A process at 127.0.0.1 has another list of workers: {other}." in answers[0]


def test_a_second_process_with_the_same_index_is_refused(workers):
    clusters = make_clusters(3)
    workers.start(clusters[0], timeout_seconds=1.0)
    with calling(clusters[0]) as first, calling(clusters[0]) as second:
        first.sendall(hello_line(clusters[0], 1))
        assert b"welcome" in first.recv(1000)
        second.sendall(hello_line(clusters[0], 1))
        told = json.loads(second.recv(5000))
        assert told["error"].startswith("rendezvous: worker 1 is here already, from 127.0.0.1.")
    assert "Worker 1 came twice, from 127.0.0.1 and 127.0.0.1." in workers.ends()[0]


def test_another_version_of_tfdist_is_reported(workers):
    clusters = make_clusters(2)
    workers.start(clusters[0], timeout_seconds=1.0)
    with calling(clusters[0]) as connection:
        connection.sendall(b'{"tfdist": 99}\n')
        assert b"worker 0 runs another version of tfdist" in connection.recv(1000)
    assert "A process at 127.0.0.1 runs another version of tfdist." in workers.ends()[0]


def hello_line(cluster, worker, **changes):
    message = {"workers": cluster.workers, "rank": worker, "hello": HELLO, "trouble": None, "seconds_left": 9.0}
    return encode(**message | changes)


@contextlib.contextmanager
def calling(cluster):
    """Connects to worker 0, once it is there."""
    name, port = cluster.workers[0].split(":")
    end = time.monotonic() + 5
    while True:
        try:
            connection = socket.create_connection((name, int(port)), timeout=5)
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)
    with connection:
        yield connection


STRAY = {
    "nothing": b"",
    "another protocol": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes": bytes(range(256)) + b"\n",
    "no object": b"[1, 2]\n",
    "deep JSON": b"[" * 100_000 + b"\n",
    "a long number": b'{"tfdist": ' + b"9" * 6000 + b"}\n",
    "no end": b"x" * (2 * LIMIT_BYTES),
    "no rank": b"{RANK null}",
    "a rank too high": b"{RANK 7}",
    "a true rank": b"{RANK true}",
    "the rank of worker 0": b"{RANK 0}",
    "no time": b"{SECONDS NaN}",
    "a hello that is none": b"{HELLO 3}",
}


def make_stray(cluster, text):
    field = {b"{RANK": "rank", b"{SECONDS": "seconds_left", b"{HELLO": "hello"}.get(text.split(b" ")[0])
    if field is None:
        return text
    return hello_line(cluster, 1, **{field: json.loads(text.split(b" ")[1][:-1])})


def test_other_programs_do_no_harm_whatever_they_send(workers):
    clusters = make_clusters(3)
    all_start(workers, clusters[:2])
    for text in STRAY.values():
        with contextlib.suppress(ConnectionError), calling(clusters[0]) as connection:
            connection.sendall(make_stray(clusters[0], text))
    with contextlib.ExitStack() as silent:
        for _ in range(100):
            silent.enter_context(calling(clusters[0]))
        workers.start(clusters[2])
        assert workers.ends() == {0: {}, 1: {}, 2: {}}


def test_a_hello_may_come_in_pieces(workers):
    clusters = make_clusters(2)
    workers.start(clusters[0], announcement={"a": "b" * 100_000})
    with calling(clusters[0]) as connection:
        line = hello_line(clusters[0], 1)
        for part in (line[:10], line[10:-1], line[-1:]):
            connection.sendall(part)
            time.sleep(0.05)
        received = bytearray()
        while data := connection.recv(1000):
            received += data
            if received.endswith(b"}}\n"):
                break
    assert take_line(received) == encode(welcome=True)[:-1]
    assert json.loads(received)["announcement"] == {"a": "b" * 100_000}
    assert "a" in workers.ends()[0]


@pytest.mark.parametrize(
    ("banner", "problem"),
    [
        (b"SSH-2.0-OpenSSH\r\n", r"another program answers there: 'SSH-2.0-OpenSSH\r'"),
        (b"", "it closed the connection; it may have ended, or another program has its port"),
    ],
)
def test_another_program_in_the_place_of_worker_0_is_reported(workers, banner, problem):
    clusters = make_clusters(2)
    name, port = clusters[0].address.split(":")
    with socket.create_server((name, int(port))) as server:
        server.settimeout(0.1)
        workers.start(clusters[1], timeout_seconds=1.0)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(banner)
                    connection.recv(1000)
    assert problem in workers.ends()[1]


@pytest.mark.parametrize("values", [{"hello": {"a": {1, 2}}}, {"announcement": {"a": object()}}])
def test_what_is_not_json_is_refused_on_the_spot(values):
    (cluster,) = make_clusters(1)
    with pytest.raises(ValueError, match="rendezvous: what a worker sends must be JSON"):
        meet(cluster, values.get("hello", {}), announcement=values.get("announcement"), environ={})


def test_too_much_to_send_is_refused_on_the_spot():
    (cluster,) = make_clusters(1)
    with pytest.raises(ValueError, match=r"rendezvous: \d+ bytes are too much to send"):
        meet(cluster, {"a": "x" * LIMIT_BYTES}, environ={})


@pytest.mark.parametrize(
    ("environ", "changes"),
    [
        ({}, {}),
        ({"no_proxy": "x"}, {}),
        ({"http_proxy": ""}, {}),
        ({"http_proxy": "p:1"}, {"no_proxy": "a,::1", "NO_PROXY": "a,::1"}),
        ({"HTTPS_PROXY": "p:1", "NO_PROXY": "x, a"}, {"no_proxy": "x,a,::1", "NO_PROXY": "x,a,::1"}),
        ({"http_proxy": "p:1", "no_proxy": "a,::1", "NO_PROXY": "::1,a"}, {}),
        ({"grpc_proxy": "p:1", "no_proxy": "*", "NO_PROXY": "*"}, {"no_grpc_proxy": "a,::1"}),
        (
            {"http_proxy": "p:1", "no_grpc_proxy": "x"},
            {"no_proxy": "a,::1", "NO_PROXY": "a,::1", "no_grpc_proxy": "x,a,::1"},
        ),
    ],
)
def test_promise_18_the_workers_hosts_are_taken_out_of_the_proxies_way(environ, changes):
    assert plan_bypass(environ, ["a:1", "[::1]:1", "a:2"]) == changes
    assert plan_bypass(environ | changes, ["a:1", "[::1]:1"]) == {}


def test_promise_18_the_bypass_is_logged_in_one_line(caplog):
    environ = {"http_proxy": "p:1"}
    with caplog.at_level(logging.INFO, "tfdist"):
        bypass(environ, ["a:1", "b:1"])
        bypass(environ, ["a:1", "b:1"])
    assert environ == {"http_proxy": "p:1", "no_proxy": "a,b", "NO_PROXY": "a,b"}
    assert [record.message for record in caplog.records] == [
        "http_proxy is set: the workers' hosts are now in no_proxy, NO_PROXY, because gRPC would go through the proxy."
    ]


def test_promise_18_the_rendezvous_bypasses_the_proxies(workers):
    environs = [{"http_proxy": "p:1"} for _ in range(2)]
    for cluster, environ in zip(make_clusters(2), environs, strict=True):
        workers.start(cluster, environ=environ)
    assert workers.ends() == {0: {}, 1: {}}
    assert [environ["no_proxy"] for environ in environs] == ["127.0.0.1"] * 2


SCRIPT = """
import os, sys
from tfdist.cluster.environments.readers import read_cluster
from tfdist.cluster.rendezvous import meet
cluster = read_cluster(os.environ)
print(meet(cluster, {"a": 1}, announcement={"run_dir": "runs/a-1"}, timeout_seconds=20))
print(sorted({"tensorflow", "numpy"} & set(sys.modules)), flush=True)
from tfdist import choose_strategy
print(choose_strategy("multi_worker").num_replicas_in_sync)
"""


@pytest.mark.multi_worker
def test_promise_18_tensorflow_takes_the_ports_right_after_the_rendezvous_also_beside_a_proxy():
    # Without the rendezvous, this proxy, which does not run, makes both wait without a message.
    environ = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "http_proxy": "http://127.0.0.1:9"}
    ended = run_workers("-c", SCRIPT, environ=environ, deadline_seconds=90)
    assert [worker.out for worker in ended] == ["{'run_dir': 'runs/a-1'}\n[]\n2\n"] * 2, ended[0].err[-3000:]
    assert [worker.code for worker in ended] == [0, 0]
    assert ended[0].err.count("gRPC would go through the proxy") == 1


def test_a_process_that_fails_at_the_rendezvous_ends_at_once():
    (cluster, _) = make_clusters(2)
    quick = "import tfdist.cluster.rendezvous.host\ntfdist.cluster.rendezvous.host.FAREWELL_SECONDS = 0.2\n"
    script = quick + SCRIPT.replace("timeout_seconds=20", "timeout_seconds=0.5")
    start = time.monotonic()
    ended = run_python("-c", script, environ={"TF_CONFIG": cluster.to_tf_config()}, folder=REPOSITORY)
    assert ended.code == 1
    assert "1 of 2 workers missing 0.5 s after the first one started" in ended.err.splitlines()[-1]
    assert time.monotonic() - start < 10
