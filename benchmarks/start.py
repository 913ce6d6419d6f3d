"""Measures how long `python -m tfdist.train` on the digits takes to its first step, and from its last line to its end.

It also measures importing TensorFlow alone, and the help of two commands.

Usage: python benchmarks/start.py [--rounds=N] [--out_dir=FOLDER]
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tfdist.bench import script
from tfdist.process import heartbeat

IMPORT, TRAIN = "import tensorflow", "tfdist.train"
HELP, LAUNCH_HELP = "tfdist.train --help", "tfdist.launch --help"
FIRST_STEP, EXIT, LEAVE = "s to the first step", "s to the end", "s from the last line to the end"
TIMEOUT_SECONDS = 300


def main(arguments):
    """Measures, prints and writes."""
    out_dir = pathlib.Path(__file__).parent / "results" / "start"
    given = script.read_flags(arguments, text=__doc__, out_dir=out_dir, default_rounds=9)
    measures = {
        IMPORT: lambda: {EXIT: seconds_to_exit("-c", "import tensorflow")},
        TRAIN: first_step,
        HELP: lambda: {EXIT: seconds_to_exit("-m", "tfdist.train", "--help")},
        LAUNCH_HELP: lambda: {EXIT: seconds_to_exit("-m", "tfdist.launch", "--help")},
    }
    for measure in measures.values():
        # The first start reads files that the later ones find in memory.
        measure()
    script.run(measures, given, measured={"command": "python -m tfdist.train --dataset=digits --steps=1"})


def seconds_to_exit(*arguments):
    """Runs `python *arguments`; returns the seconds until it has ended."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
    return time.perf_counter() - begin


def first_step():
    """Runs a training of one step in a new folder; returns the seconds until that step and until the end."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--dataset=digits", "--steps=1", f"--run_dir={folder}/run")
        environ = os.environ | {heartbeat.FOLDER: f"{folder}/beats"}
        begin = time.time()
        with subprocess.Popen(
            [sys.executable, "-m", "tfdist.train", *flags],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                step = wait_for_step(process, f"{folder}/beats", begin + TIMEOUT_SECONDS)
                for _ in process.stdout:
                    line = time.time()
                code = process.wait(TIMEOUT_SECONDS)
                end = time.time()
            finally:
                process.kill()
        if code:
            raise RuntimeError(f"tfdist.train ended with code {code}. Run it by hand: {' '.join(flags)}")
        return {FIRST_STEP: step - begin, EXIT: end - begin, LEAVE: end - line}


def wait_for_step(process, folder, deadline):
    """Returns the time at which the run reported its first step as done."""
    while time.time() < deadline and process.poll() is None:
        for beat in heartbeat.read_beats(folder).values():
            if beat.step >= 1:
                return beat.time
        time.sleep(0.002)
    raise RuntimeError("tfdist.train ended or made no progress before its first step was done.")


if __name__ == "__main__":
    main(sys.argv[1:])
