"""`python -m tfdist.train`: flags or a recipe in, a trained model and a run's folder out."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import threading
import time

from tfdist.assembly.names import check_names
from tfdist.cluster import preemption, rendezvous
from tfdist.cluster.fingerprint import fingerprint
from tfdist.cluster.gpus import check_logical_cpus, count_gpus
from tfdist.cluster.joining import join_cluster
from tfdist.options.loop import LoopOptions
from tfdist.options.run import check_profile, identity
from tfdist.process import faults
from tfdist.process.errors import TfdistError, UsageError
from tfdist.process.exits import INTERRUPTED, MISTAKE, STOPPED
from tfdist.process.heartbeat import make_heartbeat
from tfdist.process.log import is_terminal, quiet_loading, say, show, warn
from tfdist.process.same_run import changes
from tfdist.process.versions import check_tensorflow
from tfdist.run import rundir, xla_cache
from tfdist.train import flags


def main(arguments=None):
    """Runs the command line, and returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    run = None
    try:
        config = flags.read_config(arguments)
        cluster = None if config.alone else join_cluster(os.environ, timeout_seconds=config.start_seconds)
        check(config, cluster)
        heartbeat = make_heartbeat(os.environ, cluster.rank if cluster else 0)
        run = agree_on_run(config, cluster, flags.read_files(arguments))
        notice = preemption.NOTICES.get(config.preemption_notice)
        with sigterm_exits(), preemption.watched(notice), preemption.stopped_before_end(os.environ):
            return train(config, cluster, run, heartbeat)
    except TfdistError as error:
        print(f"tfdist.train: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # An error about any other file belongs to the user's own code, whose traceback must be shown.
        if run is None or not is_inside(error.filename, run.path):
            raise
        print(f"tfdist.train: run_dir {run.path}: {error}. Check the folder, and start again.", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt as interrupt:
        again = f" Go on with --run_dir={run.path}." if run and run.checkpoint_steps() else ""
        show(f"tfdist.train: {str(interrupt) or 'stopped'}.{again}")
        return INTERRUPTED


def is_inside(path, folder):
    """Returns whether `path` is a path within a folder; False if it is not a string."""
    return isinstance(path, str) and pathlib.Path(path).resolve().is_relative_to(folder.resolve())


def train(config, cluster, run, heartbeat):
    """Trains: config → cluster → strategy → sources → model → loop → results; returns the exit code."""
    if config.step.jit_compile is not False:
        os.environ.update(xla_cache.variables(run.logs / "xla", os.environ))
    # Errors of TensorFlow's C++ code reach Python as exceptions.
    with quiet_loading():
        from tfdist.assembly import assemble, averages, start
        from tfdist.training.loop import fit_with

    chosen, workers = assemble.make_strategy(config, cluster)
    writes = workers.is_chief
    config = config.for_replicas(chosen.num_replicas_in_sync)
    source, test_source = assemble.make_sources(config)
    with chosen.scope():
        model = assemble.make_model(config, source)
    steps = config.total_steps(source.cardinality)
    if config.profile_steps is not None:
        check_profile(config.profile_steps, steps)
    if writes:
        for line in config.likely_mistakes(source.cardinality):
            warn(line)
        rundir.make_folder(run.path)
    finished = rundir.finished_summary(run, steps)
    if finished:
        if writes:
            show(f"the run is finished; nothing to do.\n{assemble.last_lines(run, finished)}")
        return 0
    if writes:
        say(assemble.describe_source(source, chosen))
    pictures = assemble.make_pictures(run, config, test_source)
    thawing = start.prepare(model, config.start, source.element_spec, is_fresh=not run.checkpoint_steps())
    if writes:
        say(assemble.describe_start(run, model))
    files = assemble.make_files(run, config, source, model)
    fit_with(
        model,
        (source, None, None, test_source),
        LoopOptions(steps=steps, verbose=int(is_terminal())),
        config.step,
        # `choose_run` has chosen the folder and checked `resume`, which does not hold for a restart.
        dataclasses.replace(config.checkpoints, folder=run.path, resume="auto"),
        # Pictures come first: they are drawn before the averages of the weights are taken out again.
        [*pictures, *averages.make_swaps(model), *thawing, *assemble.make_callbacks(run, config, chosen)],
        files=files,
    )
    metrics = assemble.evaluate(model, test_source, heartbeat) if test_source else {}
    if writes:
        summary = files.finish(metrics, examples_seen=source.plan.rows_in(files.steps))
        show(assemble.last_lines(run, summary, files.report.line(), time.time() - files.began))
    workers.wait()
    heartbeat.beat("end")
    return 0


def check(config, cluster):
    """Raises ValueError, before TensorFlow is loaded, for a config that cannot be trained in this cluster."""
    if config.strategy == "multi_worker" and cluster is None:
        raise UsageError(
            "--strategy=multi_worker needs a cluster, and there is none in the environment. Set TF_CONFIG on each host "
            "(README, 'Several workers'), or start the job with srun or tfdist.launch."
        )
    if config.strategy in ("one_device", "mirrored") and cluster is not None and cluster.size > 1:
        raise UsageError(
            f"--strategy={config.strategy} in a cluster of {cluster.size} workers would train each of them alone, all "
            "into one folder. Use --strategy=multi_worker, or start without the cluster (unset TF_CONFIG)."
        )
    if config.replicas is not None and config.strategy in ("auto", "mirrored") and not count_gpus(os.environ):
        check_logical_cpus(config.replicas)
    check_names(config)
    check_tensorflow()


def agree_on_run(config, cluster, files):
    """Meets the other workers, if there are any; returns the run's folder, a `RunDir` that is the same on all of them.

    Args:
        config: the `RunConfig`.
        cluster: the `Cluster`, or None.
        files: the user's own files, which must be the same on all workers.
    """
    if cluster is None or cluster.size == 1:
        return choose_run(config)
    announcement = {"run_dir": str(choose_run(config).path.absolute())} if cluster.is_chief else None
    attempt = os.environ.get(faults.ATTEMPT, "0")
    hello = fingerprint(config.to_dict(), files, os.environ | cluster.environment())
    hello |= {"command": "tfdist.train", "attempt": attempt}
    announced = rendezvous.meet(cluster, hello, announcement=announcement, timeout_seconds=config.start_seconds)
    return rundir.RunDir(pathlib.Path(announced["run_dir"]))


def choose_run(config):
    """Returns the `RunDir` that the config names, or the next free one, after checking it against `resume`."""
    folder = config.checkpoints.folder
    run = rundir.RunDir(pathlib.Path(folder).expanduser()) if folder else rundir.next_free("runs", config.name)
    # An earlier start of the same launch may have written to the folder, so a restart always goes on from it.
    again = int(os.environ.get(faults.ATTEMPT, "0")) > 0
    rundir.find_resume_step(run, "auto" if again else config.checkpoints.resume)
    # A run of `fit` is compared with its checkpoint alone.
    is_of_command = run.config.is_file() and "made_by" not in rundir.read_json(run.config)
    if is_of_command and (run.checkpoint_steps() or run.summary.is_file()):
        # The rows that `replica_batch` makes are unknown until the strategy exists.
        here = identity(config.to_dict())
        names = [name for name in here if not (name == "global_batch" and config.replica_batch)]
        if found := changes(identity(rundir.read_json(run.config)), here, names):
            if config.checkpoints.resume_with_changes:
                changed = ", ".join(f"{one.name} was {one.there!r} and is now {one.here!r}" for one in found)
                say(f"run_dir {run.path}: {changed}. Going on, because of --resume_with_changes.")
                return run
            differing = "; ".join(f"{one.name} is {one.there!r} there, and {one.here!r} here" for one in found)
            free = "other devices" if "length" in here else "more epochs, other devices"
            raise UsageError(
                f"run_dir {run.path} holds another run: {differing}. Use the flags of that run ({free} and other "
                "workers are fine), or another run_dir. If you mean the change, use --resume_with_changes."
            )
    return run


@contextlib.contextmanager
def sigterm_exits():
    """Makes SIGTERM exit with the code that asks for another start, for phases in which nothing new is to be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(STOPPED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
