"""Children that answer lines of JSON: their answers, their ends, and what they print beside them."""

import pathlib
import queue
import signal
import sys
import threading
import time

import pytest
from support.processes import REPOSITORY, run_python

from tfdist.process.child import ChildGroup, JsonLinesChild, Start

ANSWERING = """
import json, os, signal, subprocess, sys, time
from tfdist.process.child import serve

def answer(request):
    do = request.pop("do")
    if do == "fail":
        raise ValueError(*request["text"])
    if do == "die" and sys.argv[1] == request["rank"]:
        sys.exit("no such rank\\n\\n")
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if do in ("die", "sleep"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if do == "print":
        print('{"error": "not an answer"}', flush=True)
        subprocess.run(["echo", "{}"], check=True)
    if do == "read":
        return {"read": sys.stdin.read() + subprocess.run(["cat"], stdout=subprocess.PIPE, text=True).stdout}
    if do == "start":
        return {"pid": os.getpid(), "child": subprocess.Popen(["sleep", "60"]).pid}
    if do == "odd":
        return {"odd": object()}
    return request | {"rank": sys.argv[1], "pid": os.getpid()}

serve(answer)
"""
ENVIRON = {"PYTHONPATH": str(REPOSITORY)}
DEADLINE = 30


def start(script, rank=0):
    return Start((sys.executable, "-c", script, str(rank)), ENVIRON)


@pytest.fixture
def make_group():
    """Returns a function (number, script) → a `ChildGroup` of so many children."""
    groups = []

    def make(number=1, script=ANSWERING):
        groups.append(ChildGroup([start(script, rank) for rank in range(number)]))
        return groups[-1]

    yield make
    for group in groups:
        group.end()


def ask(group, do, deadline_seconds=DEADLINE, **values):
    return group.ask(do, deadline_seconds=deadline_seconds, **values)


def has_ended(pid):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        state = pathlib.Path(f"/proc/{pid}/stat")
        # "Z": it has ended, but this container's first process has not noticed.
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


def test_the_first_child_answers_with_the_values_that_it_got(make_group):
    group = make_group(2)
    first = ask(group, "repeat", numbers=[1, 2.5], text="é\n")
    assert first == {"numbers": [1, 2.5], "text": "é\n", "rank": "0", "pid": first["pid"]}
    assert ask(group, "repeat")["pid"] == first["pid"]


def test_large_messages_pass_both_ways(make_group):
    text = "x" * 5_000_000
    assert ask(make_group(2), "repeat", text=text)["text"] == text


def test_a_late_child_is_killed_though_it_ignores_other_signals_and_another_one_can_be_asked(make_group):
    group = make_group()
    pid = ask(group, "repeat")["pid"]
    begin = time.monotonic()
    assert ask(group, "sleep", deadline_seconds=0.5) == {"error": "no answer within 0.5 s", "deadline": True}
    assert time.monotonic() - begin < 5
    assert has_ended(pid)
    assert ask(group, "repeat")["pid"] != pid


def test_a_child_that_does_not_read_a_large_request_is_killed_at_the_deadline(make_group):
    group = make_group(1, "import time; time.sleep(60)")
    begin = time.monotonic()
    assert ask(group, "repeat", 0.5, text="x" * 1_000_000)["deadline"]
    assert time.monotonic() - begin < 5


def test_a_child_that_dies_is_an_answer_with_its_code_and_its_last_line_though_another_one_waits(make_group):
    answer = ask(make_group(2), "die", rank="1")
    assert answer == {"error": "its process ended with code 1: no such rank", "code": 1}


def test_a_child_that_was_killed_is_an_answer_with_the_signal(make_group):
    assert ask(make_group(), "kill") == {"error": f"its process ended with code {-signal.SIGKILL}", "code": -9}


@pytest.mark.parametrize(
    ("do", "values", "expected"),
    [
        ("fail", {"text": ["wrong\nhere"]}, "ValueError: wrong\nhere"),
        ("fail", {"text": []}, "ValueError: no message"),
        ("odd", {}, "TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_an_exception_is_an_answer(make_group, do, values, expected):
    assert ask(make_group(2), do, **values) == {"error": expected}


def test_what_other_code_prints_is_no_answer(make_group):
    assert ask(make_group(), "print", more=1)["more"] == 1


def test_other_code_cannot_read_the_requests(make_group):
    assert ask(make_group(), "read") == {"read": ""}


def test_text_before_the_first_answer_is_ignored_and_shown_if_the_child_ends(make_group):
    noise = r"import os; os.write(1, b'Welcome!\n3\n\xff\n[]\n')"
    assert ask(make_group(1, f"{noise}\n{ANSWERING}"), "repeat")["rank"] == "0"
    assert ask(make_group(1, f"{noise}\nos._exit(4)"), "repeat") == {
        "error": "its process ended with code 4: []",
        "code": 4,
    }


def test_the_end_of_a_group_ends_what_its_children_have_started(make_group):
    group = make_group()
    started = ask(group, "start")
    group.end()
    assert has_ended(started["pid"]) and has_ended(started["child"])


def test_a_command_that_does_not_exist_leaves_no_child(make_group, tmp_path):
    group = ChildGroup([start(f"open({str(tmp_path / 'pid')!r}, 'w').write('x')"), Start((str(tmp_path / "no"),), {})])
    with pytest.raises(FileNotFoundError):
        ask(group, "repeat")
    assert group._children == []


def test_a_child_whose_parent_was_killed_ends_by_itself():
    script = f"""
import os, signal, sys
from tfdist.process.child import ChildGroup, Start
group = ChildGroup([Start((sys.executable, "-c", {ANSWERING!r}, "0"), os.environ)])
print(group.ask("repeat", deadline_seconds=30)["pid"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = run_python("-c", script, deadline_seconds=60)
    assert ended.code == -signal.SIGKILL
    assert has_ended(int(ended.out))


def test_messages_come_in_their_order_then_the_end_with_code_and_last_lines():
    received = queue.SimpleQueue()
    script = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"got": json.loads(line)}), flush=True)
print("last words", file=sys.stderr)
sys.exit(7)
"""
    child = JsonLinesChild((sys.executable, "-c", script), receive=received.put)
    for number in range(3):
        child.send({"number": number})
    child.close()
    messages = [received.get(timeout=DEADLINE) for _ in range(4)]
    assert messages == [*({"got": {"number": number}} for number in range(3)), None]
    assert (child.code, list(child.tail)) == (7, ["last words"])
    assert child.wait(5)
    child.end()
    assert not any(thread.is_alive() for thread in child._threads)


def test_only_the_last_lines_of_a_child_are_kept():
    ended = threading.Event()
    script = "import sys; [print(n, file=sys.stderr) for n in range(1000)]"
    child = JsonLinesChild((sys.executable, "-c", script), receive=lambda message: message is None and ended.set())
    assert ended.wait(DEADLINE)
    assert list(child.tail) == [str(number) for number in range(980, 1000)]
    child.end()
