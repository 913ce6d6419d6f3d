"""Runs the checks, each in a child process with a time limit, and writes the page line by line."""

import datetime
import os
import pathlib
import platform
import sys
import tempfile
import time

from tfdist.cluster.environments.readers import read_cluster
from tfdist.doctor import facts
from tfdist.doctor.acceptance import page
from tfdist.doctor.acceptance.checks import CHECKS, MACHINE, ORACLE, SPLIT
from tfdist.doctor.acceptance.page import DIFFERS, FAILED, MEASURED, NOT_HERE, RIGHT, Outcome
from tfdist.doctor.acceptance.runs import RunFailedError, Runs
from tfdist.process.child import ChildGroup, Start
from tfdist.process.errors import UsageError
from tfdist.process.log import show
from tfdist.process.versions import check_tensorflow, read_versions

PAGE = "tfdist-acceptance.txt"


def run(options):
    """Runs the chosen checks; prints the page, writes it to PAGE, and returns the exit code.

    Args:
        options: a `DoctorConfig`.

    Raises:
        TfdistError: PAGE cannot be written, TensorFlow is not installed, or the cluster's description is wrong.
    """
    check_tensorflow()
    cluster, begin = read_cluster(os.environ), time.monotonic()
    write, outcomes, head = _open_page(), [], []

    def end(*, interrupted=False):
        write(page.end(outcomes, len(head), seconds=time.monotonic() - begin, interrupted=interrupted))

    print("tfdist acceptance: starting TensorFlow; all checks take some minutes.", file=sys.stderr, flush=True)
    with _open_place(MACHINE) as machine:
        try:
            about = machine.ask("about", deadline_seconds=options.timeout_seconds)
            head = page.head(about, read_versions(), _describe_machine(), _now(), cluster)
            write(head)
            for outcome in examine(machine, about, options.only, options.timeout_seconds):
                outcomes.append(outcome)
                write([page.row(outcome)])
        except KeyboardInterrupt:
            end(interrupted=True)
            raise
        end()
    return 0 if page.is_right(outcomes) else 1


def examine(machine, about, only, seconds):
    """Yields an `Outcome` for each check in each place.

    Args:
        machine: the `ChildGroup` of this machine; it is ended before another process needs its devices.
        about: its answer to "about".
        only: the names of the checks; empty for all.
        seconds: the time limit of each check.
    """
    chosen = [check for check in CHECKS if not only or check.name in only]
    in_places = [check for check in chosen if check.do in ("train", "speed")]
    with _open_place(ORACLE) as oracle:
        expect = _Expected(oracle, seconds)
        yield from _examine_place(MACHINE, machine, about, in_places, expect, seconds)
        machine.end()
        if halves := [check for check in in_places if SPLIT in check.places]:
            with _open_place(SPLIT) as split:
                about_split = split.ask("about", deadline_seconds=seconds)
                yield from _examine_place(SPLIT, split, about_split, halves, expect, seconds)
    with tempfile.TemporaryDirectory(prefix="tfdist-acceptance-") as folder:
        runs = Runs(pathlib.Path(folder), _environ(), seconds)
        for check in chosen:
            if check not in in_places:
                yield _examine_run(check, runs.by_name()[check.do])


class _Expected:
    """What plain Keras on one CPU device ends with, computed once for each training."""

    def __init__(self, oracle, seconds):
        self._oracle, self._seconds = oracle, seconds
        self._answers = {}

    def of(self, check):
        """Returns name → numbers, or the error of the child."""
        key = (check.what, *check.settings.items())
        if key not in self._answers:
            request = {"kind": check.what, **check.settings}
            self._answers[key] = self._oracle.ask("train", deadline_seconds=self._seconds, **request)
        return self._answers[key]


def _examine_place(name, child, about, checks, expect, seconds):
    if "error" in about:
        # Without a strategy, no check can tell more.
        yield Outcome(name, "strategy", FAILED, page.describe_error(about))
        return
    for check in checks:
        if check.needs == "replicas" and about["replicas"] == 1:
            yield Outcome(name, check.name, NOT_HERE, "one replica exchanges nothing")
        elif check.needs == "TF32" and not about["tf32"]:
            yield Outcome(name, check.name, NOT_HERE, "no GPU with TF32")
        elif check.do == "speed":
            yield _measure(name, child, check, seconds)
        else:
            yield _compare(name, child, about, check, expect.of(check), seconds)


def _compare(name, child, about, check, expected, seconds):
    if "error" in expected:
        return Outcome(name, check.name, FAILED, f"plain Keras on one CPU device: {page.describe_error(expected)}")
    begin = time.monotonic()
    request = {"kind": check.what, **check.settings, **check.here}
    found = child.ask("train", deadline_seconds=seconds, **request)
    took = time.monotonic() - begin
    if "error" in found:
        return Outcome(name, check.name, FAILED, page.describe_error(found), took)
    dtype = "bfloat16" if about["tpu"] and check.dtype == "float32" else check.dtype
    return Outcome(name, check.name, *page.compare(expected, found, dtype), took)


def _measure(name, child, check, seconds):
    begin, loops = time.monotonic(), check.what.split("/")
    speeds = child.ask("speed", deadline_seconds=seconds, loops=loops)
    took = time.monotonic() - begin
    if "error" in speeds:
        return Outcome(name, check.name, FAILED, page.describe_error(speeds), took)
    return Outcome(name, check.name, MEASURED, page.describe_speed(loops, speeds), took)


def _examine_run(check, digests_of):
    begin = time.monotonic()
    try:
        digest, wanted = digests_of()
        result, detail = (RIGHT if digest == wanted else DIFFERS), f"weights_sha256 {digest[:8]}, {wanted[:8]}"
    except RunFailedError as error:
        result, detail = FAILED, str(error)
    return Outcome(MACHINE, check.name, result, detail, time.monotonic() - begin)


def _open_place(name):
    command = (sys.executable, "-m", "tfdist.doctor.acceptance.place", name)
    return ChildGroup([Start(command, _environ())])


def _environ():
    return {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}


def _open_page():
    """Returns a function that prints lines, and writes them to PAGE; a page that is there stays until then."""
    path, modes = pathlib.Path(PAGE), iter("w")
    try:
        path.open("a").close()
    except OSError as error:
        text = f"--acceptance writes {PAGE} into this folder: {error}. Start in a folder that can be written."
        raise UsageError(text) from None

    def write(lines):
        show("\n".join(lines))
        with path.open(next(modes, "a"), encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    return write


def _describe_machine():
    memory = facts.read_memory()
    size = f", {memory.total / 2**30:.1f} GiB" if memory else ""
    return f"{platform.platform()}, {facts.read_processors().allowed} processors{size}"


def _now():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
