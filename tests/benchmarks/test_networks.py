"""Checks networks of a given rate: the commands that make and remove them, and a real network."""

import subprocess
import sys
import time

import pytest

from benchmarks import networks
from tfdist.bench.processes import WorkerPlace


def test_the_commands_make_a_link_a_worker_and_remove_what_they_made():
    up, down = networks.plan("n", 2, "1gbit")
    assert up[:3] == [("ip", "netns", "add", name) for name in ("n-switch", "n-0", "n-1")]
    assert down == [("ip", "netns", "delete", name) for name in ("n-0", "n-1", "n-switch")]
    lines = [" ".join(command) for command in up]
    assert "ip -n n-switch link add port1 type veth peer name eth0 netns n-1" in lines
    assert "ip -n n-1 address add 10.77.0.2/24 dev eth0" in lines
    limited = [line for line in lines if line.startswith("tc ")]
    # Both ends of both links: what leaves a worker, and what reaches it.
    assert [line.split()[2:7] for line in limited] == [
        [space, "qdisc", "add", "dev", device]
        for rank in (0, 1)
        for space, device in (("n-switch", f"port{rank}"), (f"n-{rank}", "eth0"))
    ]
    assert all(line.endswith("root tbf rate 1gbit burst 256kb latency 50ms") for line in limited)
    # No interface of the machine itself is used.
    assert all("-n" in command or command[1] == "netns" for command in up)


def test_loopback_needs_nothing():
    with networks.make(3, None) as places:
        assert places == [WorkerPlace()] * 3


def test_without_the_tools_or_the_rights_it_says_so(monkeypatch):
    monkeypatch.setattr(networks.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(networks.shutil, "which", lambda tool: None if tool == "tc" else tool)
    assert networks.missing() == "`tc` is not installed: it comes with iproute2."
    monkeypatch.setattr(networks.shutil, "which", lambda tool: tool)
    with (
        pytest.raises(ValueError, match=r"No network of 1gbit: Only root may make network namespaces\."),
        networks.make(2, "1gbit"),
    ):
        pass


SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 7000)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    while connection.recv(2**16):
        pass
"""
CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 7000), timeout=20)
connection.sendall(bytes(int(sys.argv[2])))
"""
SENT_BYTES = 3_000_000


def seconds_to_send(places):
    """Returns the seconds until the second worker has read all that the first sent."""
    receiver = [*places[1].prefix, sys.executable, "-c", SERVER, places[1].host]
    with subprocess.Popen(receiver, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            begin = time.monotonic()
            sender = [*places[0].prefix, sys.executable, "-c", CLIENT, places[1].host, str(SENT_BYTES)]
            subprocess.run(sender, check=True, timeout=30)
            assert server.wait(timeout=30) == 0
            return time.monotonic() - begin
        finally:
            server.kill()


def left_over():
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True, timeout=30).stdout
    return [line for line in listed.splitlines() if line.startswith(f"tfdist-{networks.os.getpid()}-")]


@pytest.mark.skipif(networks.missing() is not None, reason=f"{networks.missing()}")
def test_a_network_is_as_slow_as_asked_for_and_leaves_nothing_behind():
    with pytest.raises(KeyboardInterrupt), networks.make(2, "20mbit") as places:
        assert len(left_over()) == 3
        seconds = seconds_to_send(places)
        # Two full buckets of 256 KiB pass at once; nothing makes the rest faster than 20 Mbit/s.
        assert seconds >= 8 * (SENT_BYTES - 2 * 256 * 1024) / 20e6
        raise KeyboardInterrupt
    assert left_over() == []


@pytest.mark.skipif(networks.missing() is not None, reason=f"{networks.missing()}")
def test_a_network_that_cannot_be_finished_is_removed():
    message = r"^tc -n tfdist-\d+-switch qdisc add dev port0 .*rate fast"
    with pytest.raises(ValueError, match=message), networks.make(2, "fast"):
        pass
    assert left_over() == []
