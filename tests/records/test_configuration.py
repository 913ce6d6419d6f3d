"""The description of a run in its folder, so that two runs can be compared."""

import json

import keras
from support import jobs

import tfdist


def config_of(strategy, folder, make_optimizer, **arguments):
    keras.utils.set_random_seed(11)
    with strategy.scope():
        model = keras.Sequential([keras.Input((jobs.WIDTH,)), keras.layers.Dense(jobs.CLASSES)], name="a_model")
        model.compile(make_optimizer(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = jobs.make_rows(40, "float32")
    tfdist.fit(model, x, y, batch_size=16, verbose=0, run_dir=folder, **arguments)
    return json.loads((folder / "config.json").read_text())


def test_a_run_is_described_by_what_was_given(make_strategy, tmp_path):
    config = config_of(make_strategy(2), tmp_path, lambda: keras.optimizers.SGD(0.1, momentum=0.9), epochs=2)
    assert config["made_by"] == "tfdist.fit"
    assert config["model"] == {
        "name": "a_model",
        "class": "Sequential",
        "parameters": (jobs.WIDTH + 1) * jobs.CLASSES,
        "trained_parameters": (jobs.WIDTH + 1) * jobs.CLASSES,
    }
    optimizer = config["optimizer"]
    assert (optimizer["class"], optimizer["learning_rate"], optimizer["momentum"]) == ("SGD", 0.1, 0.9)
    assert (config["loss"]["class"], config["loss"]["from_logits"]) == ("SparseCategoricalCrossentropy", True)
    assert (config["global_batch"], config["epochs"], config["steps"], config["steps_per_epoch"]) == (16, 2, None, 3)
    assert (config["seed"], config["precision"], config["replicas"], config["workers"]) == (11, "float32", 2, 1)
    assert (config["data"]["rows"], config["strategy"]) == (40, "MirroredStrategy")
    assert config["options"] == {}


def test_two_runs_differ_in_what_was_given_otherwise(make_strategy, tmp_path):
    first = config_of(make_strategy(1), tmp_path / "a", lambda: keras.optimizers.SGD(0.1))

    def scheduled():
        return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 30))

    more = {"compression": "bfloat16", "checkpoint_every_steps": 2, "validation_split": 0.1, "log_every_steps": 2}
    second = config_of(make_strategy(1), tmp_path / "b", scheduled, **more)
    assert {name for name in first if first[name] != second[name]} == {"optimizer", "data", "options"}
    assert second["optimizer"]["learning_rate"]["class"] == "CosineDecay"
    assert second["options"] == more
