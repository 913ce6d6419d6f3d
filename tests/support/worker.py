"""A worker of a `WorkerGroup`: runs one job after the other, and writes down what each came to.

Usage: python worker.py FOLDER, with TF_CONFIG set; each line of the standard input has the number of a job.
"""

import os
import pathlib
import pickle
import queue
import sys
import threading
import traceback

import tfdist


def main(folder):
    numbers = queue.SimpleQueue()
    threading.Thread(target=read_numbers, args=(numbers,), daemon=True).start()
    cluster = tfdist.read_cluster(os.environ)
    strategy = tfdist.choose_strategy("multi_worker", cluster=cluster)
    while True:
        number = numbers.get()
        answer = run((folder / f"job-{number}.pickle").read_bytes(), strategy)
        path = folder / f"job-{number}-of-{cluster.rank}.pickle"
        aside = path.with_suffix(".part")
        aside.write_bytes(answer)
        aside.rename(path)


def read_numbers(numbers):
    """Passes the numbers on; ends the process after the last one."""
    for line in sys.stdin:
        numbers.put(int(line))
    # The tests are over, or were killed, and a job may wait in a collective for ever.
    os._exit(0)


def run(job, strategy):
    """Returns (value, None) of a job, or (None, traceback), pickled."""
    try:
        function, arguments = pickle.loads(job)
        return pickle.dumps((function(strategy, *arguments), None))
    except BaseException:
        return pickle.dumps((None, traceback.format_exc()))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
