"""A checkpoint holds every variable that can be reached, so a killed run ends as the undisturbed one."""

import logging
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.processes import REPOSITORY, run_python

from tfdist.checkpoints import checkpoint
from tfdist.checkpoints.checkpoint import CheckpointError
from tfdist.checkpoints.contents import contents_of, variables_of
from tfdist.run import manifest
from tfdist.run.rundir import RunDir

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


@pytest.mark.slow
def test_a_killed_run_with_two_optimizers_states_and_a_shuffled_stream_ends_with_the_very_values(tmp_path):
    ended = run_python(REPOSITORY / "tests/support/killed_run.py", tmp_path, deadline_seconds=150)
    assert ended.out.split() == ["undisturbed", "0", "killed", str(-signal.SIGKILL), "resumed", "0"], ended.err
    with np.load(tmp_path / "undisturbed.npz") as whole, np.load(tmp_path / "resumed.npz") as resumed:
        assert len(whole.files) == 7 + 2 * 6 + 1 + 2 + 1 + 2
        for name in whole.files:
            np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)
        # What each replica keeps differs between the two, so that one value for both would be seen.
        assert (whole[whole.files[-1]] != whole[whole.files[-2]]).any()


class Two(keras.Model):
    """A model with an optimizer of its own, perhaps unbuilt, and variables in a list and a plain object."""

    def __init__(self, optimizer=keras.optimizers.Adam, *, built=True):
        super().__init__()
        self.dense = keras.layers.Dense(2)
        self.dense.build((None, 3))
        self.mine = {"second": optimizer(0.1)}
        self.kept = [tf.Variable([1.0, 2.0])]
        self.words = tf.Variable("text")
        self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        self.noise = np.random.default_rng(0)
        if built:
            self.mine["second"].build(self.dense.trainable_variables)

    def build(self, shape):
        """Does nothing, because the layer is built."""

    def call(self, x):
        return self.dense(x)


def two(*arguments, **options):
    model = Two(*arguments, **options)
    model.compile("sgd", "mse")
    model.build((None, 3))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


def test_all_that_a_model_leads_to_is_found_once_and_named():
    contents = contents_of(two())
    paths = [name.split("[", 1)[0] for name in contents.others]
    assert set(paths) == {"model.mine", "model.kept"}
    # Two counters, and two moments for each of two weights; and the variable.
    assert len(contents.others) == 2 + 2 * 2 + 1
    assert len({id(variable) for variable in contents.variables.values()}) == len(contents.variables)
    assert sorted(contents.unsavable.values()) == [
        "a NumPy random generator",
        "a lookup table",
        "a variable of strings",
    ]


def test_an_optimizer_that_the_run_builds_in_its_first_step_is_built_before_it_is_restored(run):
    saved = two()
    for place, variable in enumerate(variables_of(saved)):
        variable.assign(np.full(variable.shape, place + 1))
    checkpoint.save(run, saved, 1)
    late = two(built=False)
    checkpoint.restore(run, late, 1)
    assert late.mine["second"].built
    for mine, theirs in zip(variables_of(late), variables_of(saved), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_another_second_optimizer_is_refused_by_name(run):
    checkpoint.save(run, two(), 1)
    there, here = r"model.mine\['second'\].adam\w*/iteration", r"model.mine\['second'\].rm_?sprop\w*/iteration"
    with pytest.raises(CheckpointError, match=rf"it holds {there} int64\(\) where this run has {here}"):
        checkpoint.restore(run, two(keras.optimizers.RMSprop), 1)


def test_a_checkpoint_that_knows_one_optimizer_is_read_and_what_it_lacks_is_named(run, monkeypatch, caplog):
    saved, later = two(), two()
    without = contents_of(saved)
    names = [name for name in without.variables if name not in without.others]
    old = without._replace(variables={name: without.variables[name] for name in names}, others=[])
    write = manifest.write_manifest

    def write_as_before(folder, content):
        write(folder, {name: value for name, value in content.items() if name != "optimizers"})

    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoint, "contents_of", lambda model: old)
        earlier.setattr(manifest, "write_manifest", write_as_before)
        saved.dense.bias.assign([3.0, 4.0])
        checkpoint.save(run, saved, 1)
    with caplog.at_level(logging.WARNING, logger="tfdist"):
        checkpoint.restore(run, later, 1)
    np.testing.assert_array_equal(later.dense.bias, [3.0, 4.0])
    (line,) = caplog.messages
    assert "an earlier tfdist wrote it" in line
    assert "model.kept[0]" in line
