"""A worker's bytes on their way to the terminal."""

import fcntl
import json
import os
import queue
import sys

import pytest

from tfdist.launch.agents import AgentLink
from tfdist.launch.lines import SHOWN_BYTES, LineSplitter
from tfdist.launch.wire import Outbox, read_messages


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"one\ntwo\nthree", ["one", "two"]),
        (b"windows\r\n", ["windows"]),
        (b"\n\n", ["", ""]),
        (b" 1/9\r 5/9\r 9/9\ndone\n", [" 9/9", "done"]),
        (b" 1/9\r 9/9\r\n", [" 9/9"]),
        ("ü".encode() + b"\xff\x00\n", ["ü\ufffd\x00"]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_lines_are_those_of_a_terminal_however_the_bytes_come(content, shown, chunk):
    lines = LineSplitter()
    found = [line for start in range(0, len(content), chunk) for line in lines.feed(content[start : start + chunk])]
    assert found == shown


@pytest.mark.parametrize("chunk", [7, 1000, 10**7])
def test_a_huge_line_is_cut_and_the_next_is_whole(chunk):
    content = b"x" * 300_000 + b"\nnext\n"
    lines, found = LineSplitter(), []
    for start in range(0, len(content), chunk):
        found += lines.feed(content[start : start + chunk])
    assert found == ["x" * SHOWN_BYTES + " … (the log has the rest)", "next"]


def test_a_progress_bar_of_megabytes_shows_its_last_state():
    lines = LineSplitter()
    for step in range(50_000):
        assert lines.feed(b"%d/50000 [=====>.....] \r" % step) == []
    assert lines.feed(b"done\n") == ["done"]


def test_messages_come_whole():
    assert read_messages(b'{"do": 1}\n\n{"do"') == ([{"do": 1}], b'{"do"')


def test_noise_before_the_events_of_an_agent_is_shown_only_if_it_ends():
    events = queue.SimpleQueue()
    noise = r"""Welcome!\n3\n{"a": 1}\n\xff\n{"event": "hello"}\n"""
    link = AgentLink("far", (sys.executable, "-c", f"import os; os.write(1, b'{noise}'); os._exit(255)"), events)
    assert events.get(timeout=30) == (link, {"event": "hello"})
    gone = {"event": "gone", "code": 255, "tail": ["Welcome!", "3", "\ufffd"]}
    assert events.get(timeout=30) == (link, gone)
    link.end()


def test_an_unread_outbox_never_waits_and_reports_what_it_left_out():
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        box = Outbox(writer)
        for number in range(20_000):
            box.put_lines(1, [f"{number} " + "x" * 100])
        box.put(event="exit", rank=1)
        assert not box.flush()
        content = b""
        while True:
            content += os.read(reader, 1 << 20)
            if box.flush():
                break
        content += os.read(reader, 1 << 20)
        box.put_lines(1, ["after"])
        content += os.read(reader, 1 << 20)
    finally:
        os.close(reader)
        os.close(writer)
    messages = [json.loads(line) for line in content.splitlines()]
    texts = [message.get("text", message["event"]) for message in messages]
    shown = texts.index("exit")
    assert texts[shown:] == ["exit", f"… {20_000 - shown} lines are in the log only", "after"]
    assert len(content) < 2_000_000


def test_an_outbox_whose_reader_is_gone_is_broken_and_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    box = Outbox(writer)
    box.put(event="hello")
    assert box.broken and box.flush()
    os.close(writer)
