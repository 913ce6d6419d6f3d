"""Measures the exchange between workers of tfdist, plain MultiWorkerMirrored, stock Keras and Horovod on the same step.

  python -m benchmarks.exchange --models=dense,transformer
  python -m benchmarks.exchange --horovod=VENV                       an environment of benchmarks/peers/make_horovod.sh
  sudo python -m benchmarks.exchange --network=1gbit --workers=2     each worker behind a link of 1 Gbit/s; root only

Run it from the repository's root. It measures one model after the other: all contenders in interleaved rounds, then the
table, its goals, and a report below benchmarks/results. Exit code 1: a goal is not met; 2: it could not be measured.
"""

import argparse
import dataclasses
import functools
import pathlib
import signal
import sys

from benchmarks import exchange_table, networks
from benchmarks.peers import horovod_group
from tfdist.bench import report, session
from tfdist.bench.config import BenchConfig
from tfdist.bench.processes import ContenderGroup, Ended, WorkerPlace, child_starts, pin, pinned_shares
from tfdist.process.exits import INTERRUPTED, MISTAKE
from tfdist.run import rundir

RESULTS = pathlib.Path(__file__).parent / "results"
NOT_MET = 1
# The memory of a worker of the largest model, with a margin.
PROCESS_GIB = 2.2
# Measured on one worker too, so that a difference of TensorFlow versions is not taken for one of the exchange.
ALONE = ("tfdist_fit", "plain_multi_worker", "keras_fit", "horovod")
# The contenders that the goals name come first, because the last are not started if memory is short.
CONTENDERS = (
    *("tfdist_fit", "plain_multi_worker", *horovod_group.CONTENDERS),
    *("tfdist_bfloat16", "tfdist_all_reduce", "keras_fit"),
)


@dataclasses.dataclass(frozen=True)
class Model:
    """The rows and steps of a model that is trained.

    Attributes:
        shape: the shape of one row.
        batch: rows of a worker's step.
        least_steps: the steps of the shortest measurement and of a call of tfdist; few if a step takes seconds.
    """

    shape: tuple[int, ...]
    batch: int
    least_steps: int


MODELS = {
    "dense": Model((1024,), 64, 4),
    "vgg16": Model((64, 64, 3), 16, 2),
    "resnet50": Model((64, 64, 3), 16, 2),
    "mobilenet": Model((96, 96, 3), 32, 2),
    "transformer": Model((64 * 512,), 8, 4),
}


def main(arguments=None):
    """Measures, prints and writes; returns the exit code."""
    # Handled as Ctrl-C is, so that processes and networks are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        given = read_flags(sys.argv[1:] if arguments is None else arguments)
        met = [measure(model, given) for model in given.models]
    except (ValueError, OSError) as error:
        print(f"benchmarks.exchange: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if all(met) else NOT_MET


def read_flags(arguments):
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.exchange", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ",".join
    parser.add_argument("--models", type=_some_of(MODELS), default=(*MODELS,), help=f"some of {names(MODELS)}")
    parser.add_argument("--network", choices=networks.RATES, default="loopback", help="the network between the workers")
    parser.add_argument("--workers", type=_whole, default=2, help="the number of workers, from 2")
    parser.add_argument("--horovod", metavar="VENV", help="the environment with Horovod; by default it is left out")
    more = {"type": _some_of(CONTENDERS), "default": CONTENDERS}
    parser.add_argument("--contenders", help=f"some of {names(CONTENDERS)}", **more)
    parser.add_argument("--parts", action="store_true", help="also measure the parts of tfdist's steps")
    parser.add_argument("--rounds", type=_whole, default=3, help="how often each contender is measured, from 2")
    parser.add_argument("--seconds", type=float, default=2.0, help="the minimum time of each measurement")
    parser.add_argument("--timeout_seconds", type=float, default=900.0, help="the limit of a start or a measurement")
    parser.add_argument("--out_dir", type=pathlib.Path, default=RESULTS, help="the folder for the reports' folders")
    return parser.parse_args(arguments)


def _some_of(known):
    def read(text):
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown. Use some of {','.join(known)}.")
        return tuple(text.split(","))

    return read


def _whole(text):
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 2.")
    return int(text)


def measure(name, given):
    """Measures one model; returns whether every measured goal is met."""
    config = make_config(name, given)
    python = horovod_group.read_python(given.horovod) if given.horovod else None
    with networks.make(given.workers, networks.RATES[given.network]) as places:
        interface = "lo" if given.network == "loopback" else networks.INTERFACE
        lines = make_lines(given, pin(places), python, interface)
        several = [line for line in lines if given.parts and line.workers > 1]
        results, devices, notes = session.measure(
            lines, config, lambda samples: session.take_apart(several, given.rounds)
        )
    new = report.make_report(config, results, devices)
    new["place"] = describe(given)
    folder = given.out_dir / exchange_table.report_name(name, given.network, given.workers)
    folder.mkdir(parents=True, exist_ok=True)
    rundir.write_json(folder / "bench.json", new)
    where = f"{name}, {config.replica_batch} rows per worker, {given.workers} workers on {given.network}"
    print(f"\n{where}\n\n{exchange_table.render(new, notes)}\n")
    print(f"report: {folder / 'bench.json'}\n{report.draw(new, folder / 'bench.png')}\n")
    goals = exchange_table.goals(name, given.network, given.workers)
    found = [(goal, goal.figure(new)) for goal in goals]
    print(*(goal.line(value) for goal, value in found), sep="\n", flush=True)
    return all(goal.is_met(value) for goal, value in found)


def make_config(name, given):
    """Returns the `BenchConfig` of a model: the same batches and optimizer for all, without a contender's extras."""
    model = MODELS[name]
    return BenchConfig(
        model=f"benchmarks.exchange_models:{name}",
        input_shape=model.shape,
        replica_batch=model.batch,
        rows=4 * given.workers * model.batch,
        optimizer="sgd",
        scale=(given.workers,),
        steps_per_execution=model.least_steps,
        least_steps=model.least_steps,
        # The other contenders take the statistics of each worker's rows.
        sync_batchnorm=False,
        rounds=given.rounds,
        seconds=given.seconds,
        timeout_seconds=given.timeout_seconds,
    )


def make_lines(given, places, python, interface):
    """Returns the `session.Contender`s of a run: one worker first, then all.

    Args:
        given: the flags.
        places: a `WorkerPlace` per worker.
        python: the Python of Horovod's environment, or None.
        interface: the network interface between the workers.
    """

    def group_of(name, where):
        if name in horovod_group.CONTENDERS:
            return ranks[len(where)].make
        return functools.partial(start_children, where)

    # A single worker has the cores of the first worker, and no network.
    alone = [WorkerPlace(prefix=_pinning(places[0].prefix))]
    ranks = {len(where): horovod_group.SharedGroup(python, where, interface, check_memory) for where in (alone, places)}
    taking_part = [name for name in given.contenders if python or name not in horovod_group.CONTENDERS]
    return [
        session.Contender(name, len(where), 1, group_of(name, where))
        for where, names in ((alone, ALONE), (places, CONTENDERS))
        for name in taking_part
        if name in names
    ]


def start_children(places, *about):
    """Starts a `ContenderGroup` of tfdist's children on these places."""
    check_memory(len(places))
    return ContenderGroup(*about, starts=child_starts(places))


def check_memory(processes):
    """Refuses to start if memory is short, because a process would be killed, perhaps another contender's.

    Raises:
        Ended: the message says how much memory is free.
    """
    free, needed = read_free_bytes() / 2**30, processes * PROCESS_GIB
    if free < needed:
        raise Ended(f"{free:.1f} GiB of memory are free, and {needed:.1f} are needed. Use fewer --contenders.")


def read_free_bytes():
    """Returns the bytes of memory that are free or can be freed."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kib) * 1024


def _pinning(prefix):
    return prefix[prefix.index("taskset") :] if "taskset" in prefix else ()


def describe(given):
    """Returns, as JSON types, where the workers ran."""
    cores = pinned_shares(given.workers)
    is_pinned = cores is not None
    pinning = "Too few cores, or no `taskset`: no worker is pinned to a core, and a single worker has all."
    if is_pinned:
        pinning = f"Each worker is pinned to {len(cores[0])} of the cores, also a single worker."
    without = "" if given.horovod else "Horovod was not measured: --horovod=VENV, see benchmarks/peers/make_horovod.sh."
    fields = {"network": given.network, "rate": networks.RATES[given.network], "workers": given.workers}
    return fields | {"is_pinned": is_pinned, "cores": pinning, "horovod": without}


if __name__ == "__main__":
    raise SystemExit(main())
