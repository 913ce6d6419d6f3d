"""`python -m tfdist.doctor`: checks this machine, and the ways between the workers, before a run."""

import os
import pathlib
import platform
import sys

from tfdist import data
from tfdist.cluster.addresses import is_own, split_address
from tfdist.cluster.fingerprint import fingerprint
from tfdist.cluster.gpus import VARIABLE, count_gpus
from tfdist.cluster.joining import join_cluster
from tfdist.cluster.rendezvous import RendezvousError, meet
from tfdist.cluster.rendezvous.proxies import plan_bypass
from tfdist.doctor import environment, facts, machine, network, trials
from tfdist.doctor.acceptance import examine as acceptance
from tfdist.doctor.config import read_config
from tfdist.doctor.lines import FAIL, OK, Line, fail_with, is_well, render, to_json
from tfdist.options.neighbours import FLAGS
from tfdist.process.child import ChildGroup, Start
from tfdist.process.errors import TfdistError
from tfdist.process.exits import INTERRUPTED, MISTAKE
from tfdist.process.log import is_terminal
from tfdist.process.versions import TENSORFLOW, read_versions, version_of
from tfdist.run import manifest
from tfdist.run.rundir import RunDir


def main(arguments=None):
    """Runs the command line, and returns the exit code."""
    found = []
    try:
        options = read_config(sys.argv[1:] if arguments is None else arguments)
        if options.acceptance:
            return acceptance.run(options)
        for line in examine(options):
            found.append(line)
            if not options.json:
                print(render(line, colours=is_terminal() and not os.environ.get("NO_COLOR")), flush=True)
    except TfdistError as error:
        print(f"tfdist.doctor: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    if options.json:
        print(to_json(found))
    return 0 if is_well(found) else 1


def examine(options):
    """Yields the `Line`s one by one; those that need no TensorFlow come first."""
    if options.environment:
        yield from environment.describe(os.environ)
        return
    versions = read_versions() | {"python": platform.python_version()}
    yield from _check_machine(versions, options.run_dir)
    environ = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    try:
        cluster = join_cluster(os.environ, timeout_seconds=options.timeout_seconds)
    except TfdistError as error:
        yield fail_with("cluster", error)
        # The checks that need no cluster still run.
        cluster, environ["TF_CONFIG"] = None, "{}"
    else:
        yield network.check_cluster(cluster)
    if cluster:
        yield from _check_network(cluster)
        environ |= cluster.environment() | plan_bypass(os.environ, cluster.workers)
    yield network.check_proxies(os.environ, cluster.workers if cluster else ())
    if options.run_dir:
        yield from _check_run(options.run_dir)
    installed = bool(versions["tensorflow"] and versions["keras"])
    with ChildGroup([Start((sys.executable, "-m", "tfdist.doctor.child"), environ)]) as child:
        yield from _check_tensorflow(options, cluster, environ, child if installed else None)


def _check_machine(versions, run_dir):
    for name in machine.FLOORS:
        yield machine.check_version(name, versions[name])
    yield from machine.check_distributions([name for name in TENSORFLOW if version_of(name)])
    yield from machine.check_backend(facts.read_keras_backend())
    yield machine.check_memory(facts.read_memory())
    yield machine.check_processors(facts.read_processors())
    yield machine.check_disk(facts.read_disk(run_dir or "."))


def _check_network(cluster):
    hosts = network.read_hosts(cluster.workers)
    own_host, _ = split_address(cluster.address)
    own = not isinstance(hosts[own_host], str) and is_own(hosts[own_host])
    yield network.check_hosts(hosts, own_host, own)
    yield network.check_port(cluster)


def _check_run(run_dir):
    if not os.path.isdir(run_dir):
        # A flag without its dashes is taken for a folder.
        meant = f", or did you mean --{run_dir}?" if run_dir in FLAGS["tfdist.doctor"] else "."
        cure = f"Give the folder of a run, as runs/name-1{meant}"
        return [Line(FAIL, "checkpoints", f"there is no folder {run_dir}", cure)]
    return trials.checkpoint_lines(manifest.inspect(RunDir(pathlib.Path(run_dir))))


def _check_tensorflow(options, cluster, environ, child):
    seconds = options.timeout_seconds
    loaded = {"error": "not installed"}
    if child:
        loaded = child.ask("load", deadline_seconds=seconds)
        yield machine.check_loading(loaded, seconds)
    loads, gpus = "error" not in loaded, len(loaded.get("gpus", ()))
    in_cluster = cluster is not None and cluster.size > 1
    if loads:
        # Several workers train without a TPU.
        tpu = [] if in_cluster else machine.check_tpu(environ)
        yield from tpu
        shown = loaded | {"tpu_signs": []} if tpu else loaded
        yield machine.check_devices(shown, count_gpus(environ), environ.get(VARIABLE))
    several = gpus > 1
    if in_cluster:
        # Also where TensorFlow does not load, because the others wait for this worker and must learn of it.
        line = _meet(options, cluster, environ, loads)
        yield line
        several = line.level == OK
    if several and loads:
        yield trials.check_all_reduce(child.ask("all_reduce", deadline_seconds=seconds, pieces=16, repeats=5))
    if options.dataset and loads:
        yield from _check_dataset(options, cluster, gpus, child)


def _meet(options, cluster, environ, loads):
    """Meets the other workers, and returns the `Line` about them."""
    config = {"dataset": options.dataset, "split": options.split, "global_batch": options.global_batch}
    hello = {"command": "tfdist.doctor", "tensorflow": "loads" if loads else "does not load"}
    hello |= fingerprint(config, environ=environ)
    try:
        meet(cluster, hello, timeout_seconds=options.timeout_seconds, environ=environ)
    except RendezvousError as error:
        return fail_with("workers", error)
    return Line(OK, "workers", f"all {cluster.size} are here, with the same versions, code and devices")


def _check_dataset(options, cluster, gpus, child):
    workers = cluster.size if cluster else 1
    replicas = workers * max(1, gpus)
    try:
        data.check_name(options.dataset, data_dir=options.data_dir)
    except TfdistError as error:
        return [fail_with("data", error)]
    answer = child.ask(
        "dataset",
        deadline_seconds=options.timeout_seconds,
        name=options.dataset,
        split=options.split,
        data_dir=options.data_dir,
        global_batch=options.global_batch,
        replicas=replicas,
        workers=workers,
    )
    return trials.check_dataset(answer, global_batch=options.global_batch, replicas=replicas, workers=workers)
