"""A checkpoint restores a run as it was, or an error names the reason why it cannot."""

import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess

import keras
import numpy as np
import pytest
from support.processes import run_python

from tfdist.checkpoints import checkpoint
from tfdist.checkpoints.checkpoint import CheckpointError, Saved, SaveError
from tfdist.process.faults import Fault, Faults, PlannedFaultError
from tfdist.run import manifest
from tfdist.run.rundir import RunDir

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]

OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "ema": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9, name="sgd"),
    "plain": lambda: keras.optimizers.SGD(0.01, name="SGD"),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, name="rmsprop"),
    "rmsprop_of_another_version": lambda: keras.optimizers.RMSprop(0.01, name="rm_sprop"),
    "schedule": lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 50)),
}
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).astype("float32"), RNG.normal(size=(12, 2)).astype("float32")


def make_model(optimizer="adam", units=4, layers=1, strategy=None):
    """Makes a model with weights, moving statistics and random state, compiled and built."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        hidden = [keras.layers.Dense(units, "tanh") for _ in range(layers)]
        model = keras.Sequential(
            [
                keras.Input((3,)),
                *hidden,
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(2),
            ]
        )
        model.compile(OPTIMIZERS[optimizer](), "mse", metrics=["mae"])
        model.optimizer.build(model.trainable_variables)
    return model


def all_variables(model):
    """Lists the variables that a later step depends on."""
    (dropout,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
    return [*model.weights, dropout.seed_generator.state, *model.optimizer.variables]


def state(model):
    """Lists the values of what a later step depends on."""
    return [np.asarray(variable) for variable in all_variables(model)]


def same(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def train(model, steps=3):
    """Trains as Keras does; tfdist's own loop has tests of its own."""
    return [float(model.train_on_batch(X, Y)[0]) for _ in range(steps)]


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cpus):
    """Trains a model once for all tests; returns (the model, its state, a run's folder with step 3)."""
    keras.utils.set_random_seed(1)
    model = make_model()
    train(model)
    folder = tmp_path_factory.mktemp("trained") / "run"
    checkpoint.save(RunDir(folder), model, 3)
    return model, state(model), folder


@pytest.fixture
def saved(run, trained):
    """Puts the trained model's checkpoint at step 3 into the run's folder; returns the model as it was then."""
    model, values, folder = trained
    shutil.copytree(folder, run.path)
    for variable, value in zip(all_variables(model), values, strict=True):
        variable.assign(value)
    model.reset_metrics()
    return model


def refusal(run, model, step=3):
    before = state(model)
    with pytest.raises(CheckpointError) as error:
        checkpoint.restore(run, model, step)
    assert same(before, state(model))
    return str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_model_goes_on_as_the_saved_one(run, optimizer):
    keras.utils.set_random_seed(1)
    model = make_model(optimizer)
    train(model)
    checkpoint.save(run, model, 3)
    at_save = state(model)
    keras.utils.set_random_seed(2)
    other = make_model(optimizer)
    train(other, 1)
    assert not same(at_save, state(other))
    checkpoint.restore(run, other, 3)
    assert same(at_save, state(other))
    # Dropout draws from the restored random state, so equal losses show that it is there too.
    model.reset_metrics()
    other.reset_metrics()
    assert train(model) == train(other)
    assert same(state(model), state(other))


def test_weights_optimizer_and_random_state_are_kept_but_not_metrics():
    model = make_model()
    model.of_my_own = keras.metrics.Mean(name="of_my_own")
    train(model)
    kept = [variable.path for variable in checkpoint.variables_of(model)]
    assert len(kept) == len(set(kept))
    # Dense and BatchNormalization have 2 and 4, Dense 2, Dropout its seed; Adam has its iteration,
    # learning rate, and two moments for each of 6 trainable weights.
    assert len(kept) == 2 + 4 + 2 + 1 + 2 + 2 * 6
    assert sum("seed_generator" in path for path in kept) == 1
    metrics = [variable.path for metric in model.metrics for variable in metric.variables]
    assert len(metrics) == 6
    assert not set(metrics) & set(kept)


def test_replicas_and_one_device_restore_each_others_checkpoints(run, make_strategy, saved):
    mirrored = make_model(strategy=make_strategy(2))
    checkpoint.restore(run, mirrored, 3)
    assert same(state(saved), state(mirrored))
    checkpoint.save(run, mirrored, 4)
    alone = make_model()
    checkpoint.restore(run, alone, 4)
    assert same(state(saved), state(alone))


def test_names_that_keras_made_up_make_no_difference(run):
    keras.backend.clear_session()
    model, other = make_model("rmsprop"), make_model("rmsprop_of_another_version")
    train(model)
    paths = [variable.path for variable in checkpoint.variables_of(model)]
    assert "sequential/dense/kernel" in paths
    assert "sequential_1/dense_2/kernel" in [v.path for v in checkpoint.variables_of(other)]
    checkpoint.save(run, model, 3)
    checkpoint.restore(run, other, 3)
    assert same(state(model), state(other))


def test_a_type_that_numpy_does_not_know_comes_back(run):
    keras.config.set_dtype_policy("bfloat16")
    try:
        model, other = make_model(), make_model()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.weights[0].dtype == "bfloat16"
    checkpoint.save(run, model, 1)
    checkpoint.restore(run, other, 1)
    assert same(state(model), state(other))


def test_going_on_is_logged(run, saved, caplog):
    with caplog.at_level(logging.INFO, logger="tfdist"):
        checkpoint.restore(run, make_model(), 3)
    assert caplog.messages == [f"going on from {run.checkpoint(3)}."]


def test_a_checkpoint_is_a_folder_with_its_manifest(run, saved):
    run.config.write_text('{"name": "mine"}')
    about = {"data": {"rows": 12}, "replicas": 2}
    checkpoint.save(run, saved, 3, Saved({"place": 7}, {"metric/0": np.ones(2, "float16")}, about))
    folder = run.checkpoint(3)
    files = ["config.json", "manifest.json", "state.json", "variables.npz"]
    assert sorted(path.name for path in folder.iterdir()) == files
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000003"]
    content = manifest.read_whole(folder)
    assert (content["step"], content["data"], content["replicas"]) == (3, {"rows": 12}, 2)
    assert content["numerics"].keys() > {"tensorflow", "keras", "tfdist", "intra_op_threads", "deterministic"}
    assert len(content["variables"]) == len(checkpoint.variables_of(saved))
    for name, described in content["files"].items():
        written = (folder / name).read_bytes()
        assert described == {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    assert (folder / "config.json").read_text() == run.config.read_text()
    back = checkpoint.restore(run, make_model(), 3, about)
    assert (back.state, back.about) == ({"place": 7}, about)
    np.testing.assert_array_equal(back.arrays["metric/0"], np.ones(2, "float16"))


def test_numpy_reads_the_variables_of_a_checkpoint(run, saved):
    with np.load(run.checkpoint(3) / "variables.npz") as values:
        assert same([values[str(index)] for index in range(len(values))], list(map(np.asarray, variables(saved))))


def variables(model):
    return checkpoint.variables_of(model)


def delete(path, _):
    path.unlink()


def truncate(path, part):
    os.truncate(path, int(part * path.stat().st_size))


def flip(path, part):
    content = bytearray(path.read_bytes())
    content[int(part * (len(content) - 1))] ^= 4
    path.write_bytes(content)


DAMAGES = [(delete, 0), *((truncate, part) for part in (0, 0.5, 0.999)), *((flip, part) for part in (0, 0.3, 0.7, 1))]


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "state.json", "variables.npz"])
def test_promise_29_any_damage_is_named_and_the_checkpoint_before_is_taken(run, saved, name, caplog):
    at_save = state(saved)
    run.config.write_text('{"name": "mine"}')
    for step in (4, 5):
        train(saved)
        checkpoint.save(run, saved, step)
    newest = run.checkpoint(5)
    whole = shutil.copytree(newest, run.path / "whole")
    for damage, part in DAMAGES:
        shutil.rmtree(newest)
        shutil.copytree(whole, newest)
        assert checkpoint.newest_whole(run) == (5, ())
        damage(newest / name, part)
        caplog.clear()
        assert checkpoint.newest_whole(run) == (4, (5,))
        (warning,) = caplog.messages
        assert warning.startswith(f"checkpoint {newest} is damaged: {name} ")
        assert warning.endswith(". Going on from step 4 instead.")
        refused = refusal(run, make_model(), 5)
        assert refused.startswith(f"checkpoint {newest}: {name} ")
    shutil.rmtree(run.checkpoint(4))
    assert checkpoint.newest_whole(run) == (3, (5,))
    other = make_model()
    checkpoint.restore(run, other, 3)
    assert same(at_save, state(other))


def test_promise_29_where_no_checkpoint_is_whole_each_is_named(run, saved):
    checkpoint.save(run, saved, 4)
    flip(run.checkpoint(3) / "variables.npz", 0.5)
    (run.checkpoint(4) / "manifest.json").unlink()
    with pytest.raises(CheckpointError) as error:
        checkpoint.newest_whole(run)
    assert str(error.value) == (
        f"checkpoints {run.checkpoints}: none of 2 is whole (step-00000004: manifest.json is missing; "
        "step-00000003: variables.npz does not match its checksum). Restore one from a copy, "
        "or delete the folder to start again."
    )
    assert checkpoint.newest_whole(RunDir(run.path / "none")) == (None, ())


def test_a_checkpoint_of_a_later_tfdist_is_refused_not_passed_over(run, saved, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT", 2)
    checkpoint.save(run, saved, 4)
    monkeypatch.undo()
    for call in (lambda: checkpoint.newest_whole(run), lambda: checkpoint.restore(run, make_model(), 4)):
        with pytest.raises(CheckpointError, match="its format is 2, and this tfdist knows no later one than 1"):
            call()


POINTS = ["save_begin", "save_files", "save_rename", "save_end"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("again", [False, True])
def test_promise_29_a_fault_while_saving_leaves_whole_checkpoints(run, saved, point, again):
    step = 3 if again else 6
    with pytest.raises(PlannedFaultError):
        checkpoint.save(run, saved, step, faults=Faults([Fault("exception", point=point, step=step)]))
    assert not list(run.checkpoints.glob(".*"))
    assert checkpoint.newest_whole(run) == (6 if point == "save_end" and not again else 3, ())


# One import of TensorFlow for all faults: each is injected in a child of its own, forked before any runtime starts.
SAVES = """
import os, pathlib, sys
import numpy as np
from tfdist.checkpoints import checkpoint
from tfdist.process import faults
from tfdist.run.rundir import RunDir

class Nothing:
    variables, metrics, optimizer = [], [], None

for number, fault in enumerate(sys.argv[2:]):
    child = os.fork()
    if child == 0:
        run = RunDir(pathlib.Path(sys.argv[1]) / str(number))
        for step in (1, 2):
            saved = checkpoint.Saved(arrays={"a": np.full(10_000, step)})
            checkpoint.save(run, Nothing, step, saved, faults=faults.Faults(faults.parse(fault)))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def faulty_runs(tmp_path_factory):
    """Returns fault → (the exit code of a process that saved twice with it, its run)."""
    folder = tmp_path_factory.mktemp("faulty")
    wanted = [*(f"kill:step=2,point={point}" for point in POINTS), "torn_checkpoint:step=2"]
    ended = run_python("-W", "ignore", "-c", SAVES, folder, *wanted, deadline_seconds=90)
    assert ended.code == 0, ended.err
    codes = map(int, ended.out.split())
    return {fault: (code, RunDir(folder / str(i))) for i, (fault, code) in enumerate(zip(wanted, codes, strict=True))}


@pytest.mark.parametrize("point", POINTS)
def test_promise_29_a_kill_while_saving_leaves_the_checkpoint_before(faulty_runs, point):
    code, run = faulty_runs[f"kill:step=2,point={point}"]
    assert code == -signal.SIGKILL
    assert checkpoint.newest_whole(run) == (2 if point == "save_end" else 1, ())
    run.clean_up()
    assert {path.name for path in run.checkpoints.iterdir()} <= {"step-00000001", "step-00000002"}


def test_promise_29_an_injected_torn_checkpoint_is_found(faulty_runs, caplog):
    code, run = faulty_runs["torn_checkpoint:step=2"]
    assert code == -signal.SIGKILL
    assert checkpoint.newest_whole(run) == (1, (2,))
    assert "variables.npz has " in caplog.text


def full_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    return folder


def unmount(folder):
    subprocess.run(["umount", str(folder)], check=True)


def test_promise_29_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, saved):
    folder = full_disk(tmp_path)
    try:
        run = RunDir(folder / "run")
        checkpoint.save(run, saved, 3)
        large = Saved(arrays={"large": np.ones(100_000)})
        with pytest.raises(SaveError) as error:
            checkpoint.save(run, saved, 4, large)
        assert str(error.value) == (
            f"checkpoint {run.checkpoint(4)} could not be written (No space left on device). Earlier checkpoints are "
            "unchanged. Free some space, or make the folder writable, and go on with the same run_dir."
        )
        assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000003"]
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(SaveError, match=r"could not be written \(Read-only file system\)"):
            checkpoint.save(run, saved, 5)
        assert checkpoint.newest_whole(run) == (3, ())
    finally:
        unmount(folder)


def test_a_file_in_the_place_of_the_folder_is_reported(run, saved):
    other = RunDir(run.path / "file")
    other.path.touch()
    with pytest.raises(SaveError, match=r"could not be written \(Not a directory\)"):
        checkpoint.save(other, saved, 3)


@pytest.mark.parametrize(
    ("there", "here", "difference"),
    [
        (
            {},
            {"units": 5},
            r"it holds sequential/dense/kernel float32(3, 4) where this run has sequential/dense/kernel float32(3, 5)",
        ),
        (
            {},
            {"layers": 2},
            "it holds sequential/batch_normalization/gamma float32(4,) where this run has "
            "sequential/dense_1/kernel float32(4, 4).",
        ),
        (
            {"optimizer": "momentum"},
            {"optimizer": "rmsprop"},
            "it holds sgd/iteration int64() where this run has rmsprop/iteration int64().",
        ),
        (
            {"optimizer": "adam"},
            {"optimizer": "momentum"},
            "it holds adam/iteration int64() where this run has sgd/iteration int64().",
        ),
        (
            {"optimizer": "adam"},
            {"optimizer": "ema"},
            "it holds adam/sequential_dense_kernel_momentum float32(3, 4) where this run has "
            "adam/sequential_dense_kernel_average float32(3, 4).",
        ),
        (
            {"optimizer": "plain"},
            {"optimizer": "momentum"},
            "it holds 11 variables, but the model, its optimizers and what else can be reached have 17; only this "
            "run has sgd/sequential_dense_kernel_momentum float32(3, 4).",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(run, there, here, difference):
    keras.backend.clear_session()
    checkpoint.save(run, make_model(**there), 3)
    keras.backend.clear_session()
    message = refusal(run, make_model(**here))
    assert message.startswith(f"checkpoint {run.checkpoint(3)}: {difference}")
    assert message.endswith("Use the model and the optimizer that wrote it, or another run_dir.")


def test_another_precision_is_refused(run, float64):
    keras.backend.clear_session()
    checkpoint.save(run, make_model(), 3)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    message = refusal(run, make_model())
    assert "sequential/dense/kernel float64(3, 4) where this run has sequential_1/dense_2/kernel float32" in message


def test_a_failure_while_saving_leaves_the_old_checkpoints_alone(run, saved, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(manifest, "write_manifest", fail)
    for step in (3, 6):
        with pytest.raises(SaveError, match="disk full"):
            checkpoint.save(run, saved, step)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000003"]
    checkpoint.restore(run, make_model(), 3)


def test_saving_a_step_again_replaces_its_checkpoint(run, saved):
    train(saved)
    checkpoint.save(run, saved, 3)
    other = make_model()
    checkpoint.restore(run, other, 3)
    assert same(state(saved), state(other))


def test_a_checkpoint_may_be_moved(run, saved, tmp_path):
    moved = RunDir(tmp_path / "elsewhere")
    shutil.move(run.path, moved.path)
    other = make_model()
    checkpoint.restore(moved, other, 3)
    assert same(state(saved), state(other))


def test_equal_weights_have_an_equal_checksum_and_others_another(run, saved):
    other = make_model()
    assert checkpoint.weights_sha256(other) != checkpoint.weights_sha256(saved)
    checkpoint.restore(run, other, 3)
    assert checkpoint.weights_sha256(other) == checkpoint.weights_sha256(saved)
    kernel = np.asarray(other.weights[-1])
    other.weights[-1].assign(np.nextafter(kernel, np.float32(9)))
    assert checkpoint.weights_sha256(other) != checkpoint.weights_sha256(saved)


def test_the_checksum_is_over_the_weights_bytes_in_order():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0]], "float32"), np.array([2.0], "float32")])
    # printf '\\x00\\x00\\x80\\x3f\\x00\\x00\\x00\\x40' | sha256sum
    assert checkpoint.weights_sha256(model) == ("b9c80b5adeca450753a16950c3cc655d271f7bef7a485bc83f112b72fef21d37")
