"""The cluster and the network between its workers: each red and yellow line, and its remedy."""

import socket

import pytest

from tfdist.cluster.members import Cluster, Task
from tfdist.cluster.ports import free_ports
from tfdist.cluster.rendezvous import door
from tfdist.doctor import network


def make_cluster(*workers, index=0):
    return Cluster({"worker": workers}, Task("worker", index))


def test_the_cluster_is_told():
    assert network.check_cluster(None).text.startswith("none: this process trains alone")
    assert network.check_cluster(make_cluster("a:1", "b:2")).text == "TF_CONFIG: worker 0 of 2 at a:1, the chief"
    line = network.check_cluster(make_cluster("a:1", "b:2", index=1))
    assert (line.level, line.text) == ("ok", "TF_CONFIG: worker 1 of 2 at b:2, not the chief")


@pytest.mark.parametrize(
    ("hosts", "own_host", "own", "level", "text"),
    [
        ({"a": ["10.0.0.1"], "b": ["10.0.0.2"]}, "a", True, "ok", "2 known: a, b"),
        ({"localhost": ["127.0.0.1", "::1"]}, "localhost", True, "ok", "1 known: localhost"),
        # As Debian writes the machine's own name into /etc/hosts.
        ({"a": ["127.0.1.1"], "b": ["10.0.0.2"]}, "a", True, "ok", "2 known: a, b"),
        ({"a": ["10.0.0.1"], "b": "the name b is unknown"}, "a", True, "FAIL", "the name b is unknown"),
        (
            {"::1": ["::1"], "b": ["10.0.0.2"]},
            "b",
            True,
            "FAIL",
            "::1 means this machine itself, but the list has other machines too",
        ),
        ({"a": ["10.0.0.1"], "b": ["fe80::1%eth0"]}, "a", False, "warn", "a is no address of this machine (10.0.0.1)"),
    ],
)
def test_unknown_and_impossible_hosts_are_red(hosts, own_host, own, level, text):
    line = network.check_hosts(hosts, own_host, own)
    assert (line.level, line.text) == (level, text)
    assert bool(line.cure) == (level != "ok")


def test_hosts_are_looked_up():
    hosts = network.read_hosts(["127.0.0.1:1", "[::1]:1", "nobody.invalid:1", "127.0.0.1:2"], 5)
    assert hosts["127.0.0.1"] == ["127.0.0.1"]
    assert hosts["::1"] == ["::1"]
    assert hosts["nobody.invalid"].startswith("the name nobody.invalid is unknown here")


def test_promise_16_a_busy_port_is_red(monkeypatch):
    monkeypatch.setattr(door, "PATIENCE_SECONDS", 0.0)
    (port,) = free_ports(1)
    cluster = make_cluster(f"127.0.0.1:{port}", "b:1")
    assert network.check_port(cluster).text == f"{port} is free"
    with socket.create_server(("127.0.0.1", port)):
        line = network.check_port(cluster)
    assert line.level == "FAIL"
    assert line.text.startswith(f"port {port} of this worker (worker 0, 127.0.0.1:{port}) is in use")
    assert line.cure.startswith("End that process (`ss -ltnp")


@pytest.mark.parametrize(
    ("environ", "workers", "level", "text"),
    [
        ({}, ["a:1"], "ok", "none"),
        ({"http_proxy": "p"}, [], "ok", "http_proxy; no worker is reached through them"),
        ({"http_proxy": "p", "no_proxy": "a", "NO_PROXY": "a"}, ["a:1"], "ok", "http_proxy; no worker is reached"),
        ({"http_proxy": "p"}, ["a:1"], "warn", "http_proxy would stand between the workers; tfdist bypasses them"),
    ],
)
def test_promise_18_proxies_between_the_workers_are_yellow(environ, workers, level, text):
    line = network.check_proxies(environ, workers)
    assert line.level == level
    assert line.text.startswith(text)
    assert line.cure == ("For other programs: export no_proxy=a NO_PROXY=a" if level == "warn" else "")
