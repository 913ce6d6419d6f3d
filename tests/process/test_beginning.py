"""When a run's process began, against what a process says of itself."""

import json

from support.processes import run_python

SCRIPT = """
import json, time
first = time.time()
time.sleep(0.3)
from tfdist.process.beginning import process_began, run_began
print(json.dumps([first, run_began(), process_began(), run_began(), time.time()]))
"""


def test_the_first_run_of_a_process_begins_with_it_and_a_later_one_when_it_is_made():
    ended = run_python("-c", SCRIPT, deadline_seconds=60)
    assert ended.code == 0, ended.err
    first, began, process, later, last = json.loads(ended.out)
    # The kernel counts hundredths of a second.
    assert began <= first + 0.02
    assert abs(began - process) < 0.02
    assert first + 0.3 <= later <= last


def test_in_a_notebook_a_run_begins_when_it_is_made():
    ended = run_python("-c", f"import builtins; builtins.__IPYTHON__ = True\n{SCRIPT}", deadline_seconds=60)
    assert ended.code == 0, ended.err
    first, began, *_ = json.loads(ended.out)
    assert began >= first + 0.3
