"""Runs every flag of every command in a real process, alone and beside its neighbour, and writes the table of it.

Usage: python tests/full/every_flag.py [--missing] [part of a row's name ...], as in `evidence.measure`; exit
code 1 where a row is not as it should be.
"""

import dataclasses
import itertools
import os
import pathlib
import shutil
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

from full import evidence  # noqa: E402
from support.processes import REPOSITORY, run_python  # noqa: E402
from support.small_files import write_images  # noqa: E402

from tfdist.options.run import OPTIMIZERS, PRECISIONS, PREEMPTION_NOTICES  # noqa: E402
from tfdist.options.schedule import SCHEDULES  # noqa: E402
from tfdist.options.step import COMPRESSIONS, EXCHANGES, ON_NAN  # noqa: E402
from tfdist.process.exits import INTERRUPTED  # noqa: E402

COMMAND = "python tests/full/every_flag.py"
COLUMNS = ("row", "exit code", "seconds", "as it should be", "last line")
DEADLINE_SECONDS = 120
PLACES = {
    "one_device": ("-m", "tfdist.train", "--strategy=one_device"),
    "mirrored": ("-m", "tfdist.train", "--strategy=mirrored"),
    "two workers": ("-m", "tfdist.launch", "--workers=2", "--", "-m", "tfdist.train"),
}
# In this order, each beside the next one; a tuple has flags that need each other.
TRAIN = (
    ("--recipe=recipes/classification/digits_cnn.py",),
    ("--strategy=auto",),
    ("--model=mlp",),
    ("--dataset=digits",),
    ("--dataset=images", "--data_dir=images", "--model=cnn", "--global_batch=4"),
    ("--global_batch=32",),
    ("--replica_batch=16",),
    ("--epochs=1",),
    ("--steps=3",),
    *((f"--optimizer={name}", "--learning_rate=0.001") for name in OPTIMIZERS),
    ("--base_batch=32",),
    ("--base_batch=32", "--scaling=square_root"),
    ("--warmup_epochs=0.5",),
    ("--ema_momentum=0.9",),
    *((f"--schedule={name}",) for name in SCHEDULES),
    *((f"--precision={name}",) for name in PRECISIONS),
    ("--seed=3",),
    ("--steps_per_execution=5",),
    ("--steps_per_execution=auto",),
    *((f"--compression={name}",) for name in COMPRESSIONS),
    *((f"--exchange={name}",) for name in EXCHANGES),
    ("--jit_compile=auto",),
    ("--jit_compile=false",),
    ("--jit_compile=true", "--nosync_batchnorm"),
    ("--nosync_batchnorm",),
    ("--checkpoint_every_steps=2",),
    ("--keep_checkpoints=1",),
    ("--log_every_steps=2",),
    ("--resume=auto",),
    ("--resume=never",),
    ("--resume_with_changes", "--run_dir=again"),
    *((f"--on_nan={name}",) for name in ON_NAN),
    ("--alone",),
    ("--init_from=start",),
    ("--freeze=^conv",),
    # Two steps an epoch, so that the last two of four are of thawed layers.
    ("--freeze=^conv", "--thaw_epoch=1", "--global_batch=720"),
    ("--lora_rank=2",),
    ("--lora_rank=2", "--lora_layers=^dense"),
    ("--prediction_rows=4",),
    ("--profile_steps=1:3",),
    ("--start_seconds=60",),
    *((f"--preemption_notice={name}",) for name in PREEMPTION_NOTICES),
    ("--deterministic",),
)
LAUNCH = (
    ("--workers=2",),
    ("--port=12400", "--hosts=127.0.0.1", "--dry_run"),
    ("--processes_per_host=2", "--hosts=a,b", "--dry_run"),
    ("--nodivide_cores",),
    ("--max_restarts=1",),
    ("--min_workers=1", "--max_restarts=1"),
    ("--backoff_seconds=0",),
    ("--grace=5",),
    ("--hang_seconds=5",),
    ("--first_step_seconds=5",),
    ("--chaos=kill:worker=1,step=5", "--max_restarts=1", "--backoff_seconds=0"),
    ("--log_dir=logs",),
    ("--tee=all",),
    ("--quiet",),
    (f"--python={sys.executable}",),
    ("--env=A=1", "--env=B=2"),
    ("--dry_run",),
    ("--tf_config_only",),
)
DOCTOR = (
    (),
    ("--dataset=digits",),
    ("--dataset=digits", "--split=test"),
    ("--dataset=images", "--data_dir=images", "--global_batch=4"),
    ("--global_batch=32",),
    ("--timeout_seconds=60",),
    ("--json",),
    ("--environment",),
    ("--acceptance", "--only=mlp,gather_rows"),
)
VERIFY = (("--replicas=3",), ("--steps=2",), ("--seed=1",), ("--nosync_batchnorm",))
BENCH = (
    ("--model=cnn", "--dataset=digits"),
    ("--dataset=images", "--data_dir=images", "--model=cnn", "--replica_batch=4"),
    ("--input_shape=8",),
    ("--classes=3",),
    ("--rows=320",),
    ("--replica_batch=16",),
    ("--optimizer=sgd",),
    ("--versus=keras_fit",),
    ("--scale=1,2",),
    ("--replicas=1,2",),
    ("--steps_per_execution=4",),
    ("--jit_compile=true",),
    ("--nosync_batchnorm",),
    ("--least_steps=4",),
    ("--seed=3",),
    ("--out_dir=out",),
    ("--profile_steps=2:4",),
    ("--timeout_seconds=60",),
)
# Of the run that is there before all rows.
REPORT = (("start",), ("--run_dir=start",), ("start", "--out=page.html"), ("start", "--text"), ("start", "./start"))
LIVE = """import _thread, sys, threading
from tfdist.report.command import main
threading.Timer(2, _thread.interrupt_main).start()
sys.exit(main(sys.argv[1:]))
"""
JOBS = (
    ("slurm", "--node_count=2"),
    ("slurm", "--process_count_per_node=2"),
    ("slurm", "--gpus_per_node=2"),
    ("slurm", "--cpus_per_node=2"),
    ("slurm", "--memory_gib_per_node=2"),
    ("slurm", "--name=a"),
    ("slurm", "--queue=a"),
    ("slurm", "--identity=a"),
    ("slurm", "--python=a"),
    ("slurm", "--source_directory=a"),
    ("slurm", "--pip_packages=a,b"),
    ("slurm", "--conda_packages=a,b"),
    ("slurm", "--run_dir=a"),
    ("slurm", "--data_dir=a"),
    ("slurm", "--network=tcp"),
    ("slurm", "--port=3000"),
    ("slurm", "--timeout_seconds=600"),
    ("slurm", "--grace_seconds=30"),
    ("slurm", "--max_restarts=1"),
    ("--target=tfjob", "--image=a", "--volumes=a:/a,b:/b"),
    ("tfjob", "--image=a", "--secrets=a,b"),
    ("kubernetes", "--image=a", "--kind=job"),
    ("azureml", "--image=a", "--queue=a", "--distribution=mpi"),
)
VERIFIED = """import keras, numpy as np
def build():
    norm = keras.layers.BatchNormalization(synchronized=True)
    model = keras.Sequential([keras.Input((4,)), norm, keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, (np.random.RandomState(0).randn(12, 4), np.arange(12) % 2)
"""
WORKER = """import os
from tfdist.process.faults import make_faults
from tfdist.cluster.environments.readers import read_cluster
make_faults(os.environ)(read_cluster(os.environ).rank).inject("step", 5)
print("done")
"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        command: what follows `python`.
        flags: the flags that are tried.
        codes: exit codes that are right.
        then: what follows the flags.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    codes: tuple[int, ...] = (0,)
    then: tuple[str, ...] = ()

    def __str__(self):
        """Returns the row's name: the command line."""
        return " ".join([*self.command, *self.flags, *self.then]).replace(sys.executable, "python")

    def run(self, folder):
        """Runs it; returns its cells."""
        began = time.monotonic()
        ended = run_python(*self.command, *self.flags, *self.then, folder=folder, deadline_seconds=DEADLINE_SECONDS)
        seconds = time.monotonic() - began
        text = f"{ended.out}\n{ended.err}"
        right = ended.code in self.codes and "Traceback" not in text
        lines = [line for line in (ended.out if ended.code == 0 else ended.err).splitlines() if line.strip()]
        return [
            str(self),
            ended.code,
            f"{seconds:.1f}",
            "yes" if right else "NO",
            (lines or [""])[-1].replace(f"{folder}/", "")[:100],
        ]


def rows():
    """Lists every row of the table."""
    return [*_train_rows(), *_launch_rows(), *_other_rows()]


def _train_rows():
    for command in PLACES.values():
        for flags in TRAIN:
            yield Row(command, _with_steps(flags), _codes(command, flags))
    # A name that has to come over the network: there, or refused in one line.
    yield Row(PLACES["one_device"], ("--dataset=mnist", "--model=mlp", "--download", "--steps=3"), (0, 2))
    for flags in (("--resume=must",), ("--strategy=multi_worker",), ("--strategy=tpu",)):
        yield Row(("-m", "tfdist.train"), (*flags, "--steps=3"), (2,))
    yield Row(("-m", "tfdist.train", "--strategy=mirrored"), ("--replicas=2", "--steps=3"))
    for first, second in itertools.pairwise(TRAIN):
        pair = (*first, *second)
        names = [flag.partition("=")[0] for flag in pair]
        if len(set(names)) == len(names):
            command = PLACES["mirrored"]
            yield Row(command, _with_steps(pair), _codes(command, pair))


def _with_steps(flags):
    long = ("--epochs=1", "--steps=3")
    return flags if any(flag in long for flag in flags) else (*flags, "--steps=4")


def _codes(command, flags):
    if "--alone" in flags and "tfdist.launch" in command:
        # Two workers that train alone: one of them has the folder.
        return (0, 2)
    # They contradict each other; the last two, because rows before have trained in the folder.
    contradictions = (
        {"--epochs=1", "--steps=3"},
        {"--global_batch=32", "--replica_batch=16"},
        {"--resume=never", "--run_dir=again"},
    )
    return (2,) if any(pair <= set(flags) for pair in contradictions) else (0,)


def _launch_rows():
    def row(*flags):
        count = () if any(flag.startswith(("--workers", "--hosts")) for flag in flags) else ("--workers=2",)
        # They contradict each other.
        codes = (2,) if {"--dry_run", "--tf_config_only"} <= set(flags) else (0,)
        return Row(("-m", "tfdist.launch"), (*count, *flags), codes, then=("--", "worker.py"))

    yield from (row(*flags) for flags in LAUNCH)
    for first, second in itertools.pairwise(LAUNCH):
        names = [flag.partition("=")[0] for flag in (*first, *second)]
        if len(set(names)) == len(names) and not {"--hosts", "--workers"} <= set(names):
            yield row(*first, *second)


def _other_rows():
    yield from (Row(("-m", "tfdist.doctor"), flags) for flags in DOCTOR)
    yield from (Row(("-m", "tfdist.report"), flags) for flags in REPORT)
    yield Row(("live.py",), ("start", "--live", "--port=0"), (INTERRUPTED,))
    for flags in VERIFY:
        # Statistics of each replica's rows are not those of one device, and verify says so.
        yield Row(("-m", "tfdist.verify", "verified:build"), flags, (1,) if flags == ("--nosync_batchnorm",) else (0,))
    quick = ("-m", "tfdist.bench", "--rounds=2", "--seconds=0.01", "--versus=plain_loop")
    for flags in BENCH:
        command = quick[:-1] if any(flag.startswith("--versus") for flag in flags) else quick
        yield Row(command, flags)
    yield from (Row(("-m", "tfdist.jobs"), flags, then=("--", "worker.py")) for flags in JOBS)
    script = ("--entry_script=worker.py", '--script_params={"--epochs": 5}')
    yield Row(("-m", "tfdist.jobs"), ("slurm", *script))
    yield Row(quick, ("--out_dir=older",))
    yield Row(quick, ("--against=older/bench.json",), (0, 1))


def main(arguments):
    """Runs the rows; returns the exit code."""
    page = {"name": "flags", "title": "Every flag of every command, in a process of its own"}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_images(folder / "images")
        shutil.copytree(folder / "images" / "train", folder / "images" / "test")
        (folder / "recipes").symlink_to(REPOSITORY / "recipes")
        run_python(
            "-m", "tfdist.train", "--steps=1", "--run_dir=start", folder=folder, deadline_seconds=DEADLINE_SECONDS
        )
        (folder / "verified.py").write_text(VERIFIED)
        (folder / "worker.py").write_text(WORKER)
        (folder / "live.py").write_text(LIVE)
        return evidence.measure(
            rows(), lambda row: row.run(folder), arguments, **page, command=COMMAND, columns=COLUMNS
        )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
