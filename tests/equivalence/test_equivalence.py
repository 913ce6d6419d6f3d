"""N replicas give what one device gives: the table of cases.py, row by row, against plain Keras on one device."""

import logging
import re

import numpy as np
import pytest
from equivalence.plants import PLANTS, Plant, departure
from equivalence.runner import CASES, distance, moved, run_on_workers, run_plain, run_tfdist

from tfdist.internals.access import replica
from tfdist.internals.patches import optimizers, tapes

ROWS = list(CASES)
ON_WORKERS = [name for name, case in CASES.items() if case.workers]
OPTIMIZERS = [name for name in ROWS if CASES[name].family == "optimizer"]
# The ways to clip and to accumulate of each optimizer, in the order of OPTIMIZERS.
WAYS = 8


def parts_of(name):
    """Returns the kind of a row and then its variants, each with the family: "loss: sum, mask" has one variant."""
    family, _, rest = name.rpartition(": ")
    return [(family, part) for part in re.split(r", | [+] ", rest)]


def optimizers_in_turns(names, turns):
    """Returns the rows of optimizers in which each optimizer is tried in one of so many ways, another for the next."""
    optimizers = [name for name in names if name in OPTIMIZERS]
    return [name for i, name in enumerate(optimizers) if sum(divmod(i, WAYS)) % turns == 0]


def tried():
    """Returns the rows that are tried for each change: each kind and each variant of a family is in one of them.

    The other rows have the mark `full`. EQUIVALENCE.md has all, and `tests/full/test_evidence.py` holds it against the
    table.
    """
    rows, seen = optimizers_in_turns(ROWS, 6), set()
    for name in ROWS:
        if name not in OPTIMIZERS and not seen.issuperset(parts_of(name)):
            rows.append(name)
            seen.update(parts_of(name))
    return rows


def tried_on_workers():
    """Returns the rows that are tried on two workers for each change: of every second kind, the first one."""
    kinds = {parts_of(name)[0]: name for name in reversed(ON_WORKERS) if name not in OPTIMIZERS}
    return optimizers_in_turns(ON_WORKERS, 2) + list(kinds.values())[::-2]


TRIED, TRIED_ON_WORKERS = tried(), tried_on_workers()
# With gradients exchanged by their factors.
BY_FACTORS, BY_FACTORS_ON_WORKERS = TRIED[::14], TRIED_ON_WORKERS[::7]


def parameters(names, some):
    """Returns pytest parameters whose ids say the promise: all rows, of which only some are tried for each change.

    The first of each family is also tried by `make test-fast` and on the oldest versions; these try every fourth row in
    `make test-oldest-all`.
    """
    firsts = {CASES[name].family: name for name in reversed(some)}.values()
    marks = {
        "full": set(names).difference(some),
        "slow": set(names).difference(firsts),
        "core": {*names[::4], *firsts},
    }
    return [
        pytest.param(
            name,
            id=" ".join(filter(None, [CASES[name].promise, name])),
            marks=[getattr(pytest.mark, mark) for mark, marked in marks.items() if name in marked],
        )
        for name in names
    ]


# Keras warns of what the rows do on purpose.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Gradients do not exist:UserWarning",
    "ignore:.*gradients? .*idle:UserWarning",
    "ignore:Converting sparse IndexedSlices:UserWarning",
    "ignore:.*ran out of data:UserWarning",
)


@pytest.fixture(scope="module")
def strategies(cpus):
    import tensorflow as tf

    reduction = tf.distribute.ReductionToOneDevice
    return {n: tf.distribute.MirroredStrategy(cpus[:n], cross_device_ops=reduction()) for n in (2, 3, 4)}


def test_the_table_is_long_enough():
    assert len(ROWS) >= 150
    assert len(ON_WORKERS) >= 50


def test_each_kind_is_tried_and_each_variant_and_each_optimizer_and_each_way_to_clip_and_accumulate():
    assert {part for name in TRIED for part in parts_of(name)} == {part for name in ROWS for part in parts_of(name)}
    assert {CASES[name].family for name in TRIED_ON_WORKERS} == {CASES[name].family for name in ON_WORKERS}
    ways = {tuple(parts_of(name)[1:]) for name in OPTIMIZERS}
    assert len(OPTIMIZERS) == len({parts_of(name)[0] for name in OPTIMIZERS}) * len(ways)
    assert len(ways) == WAYS
    for some in (TRIED, TRIED_ON_WORKERS):
        assert {tuple(parts_of(name)[1:]) for name in some if name in OPTIMIZERS} == ways
        assert {CASES[name].replicas for name in some if name in OPTIMIZERS} == {2, 3, 4}


@pytest.mark.parametrize("name", parameters(ROWS, TRIED))
def test_replicas_give_what_one_device_gives(strategies, name, caplog):
    case = CASES[name]
    caplog.set_level(logging.INFO)
    assert moved(name) > 1e-2, "a row that hardly trains shows nothing"
    assert distance(name, run_tfdist(name, strategies[case.replicas])) < case.tolerance
    assert "combines rows" not in caplog.text, "what is exact is not named"


@pytest.mark.slow
@pytest.mark.parametrize("name", parameters(ROWS, BY_FACTORS))
def test_factors_give_what_one_device_gives(strategies, name):
    case = CASES[name]
    assert distance(name, run_tfdist(name, strategies[case.replicas], exchange="factors")) < case.tolerance


@pytest.mark.parametrize("name", parameters(ON_WORKERS, TRIED_ON_WORKERS))
def test_two_workers_give_what_one_device_gives(two_workers, name):
    for done in two_workers(run_on_workers, name, "auto"):
        assert distance(name, done.value) < CASES[name].tolerance


@pytest.mark.slow
@pytest.mark.parametrize("name", parameters(ON_WORKERS, BY_FACTORS_ON_WORKERS))
def test_two_workers_that_exchange_factors_give_what_one_device_gives(two_workers, name):
    for done in two_workers(run_on_workers, name, "factors"):
        assert distance(name, done.value) < CASES[name].tolerance


# Each fault, planted, is to be found in these rows by ten times the tolerance.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch: 5 rows", "loss: sample_weight", "float32, batch: 5 rows"])
def test_a_mean_over_each_replica_would_be_found(strategies, monkeypatch, name):
    import tensorflow as tf

    replicas = CASES[name].replicas
    monkeypatch.setattr(replica.Rows, "share", lambda self, dtype: tf.constant(1 / replicas, dtype))
    _, planted, _ = run_tfdist(name, strategies[replicas])
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping_before_the_reduction_would_be_found(strategies, monkeypatch, clip):
    import keras

    from tfdist.synchronous.exchange import exchange

    name = f"optimizer: SGD + {clip}"
    reduce = exchange.sum_gradients
    clipper = keras.optimizers.SGD(**{clip: {"clipnorm": 0.1, "global_clipnorm": 0.1, "clipvalue": 0.02}[clip]})
    monkeypatch.setattr(exchange, "sum_gradients", lambda mine, *more, **wire: reduce(clipper._clip_gradients(mine)))
    _, planted, _ = run_tfdist(name, strategies[CASES[name].replicas])
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


@pytest.mark.slow
def test_updating_without_the_other_replicas_would_be_found(strategies, monkeypatch):
    from tfdist.synchronous.exchange import exchange

    name = "optimizer: SGD + accumulation"
    monkeypatch.setattr(exchange, "sum_gradients", lambda gradients, *more, **wire: gradients)
    with pytest.raises(RuntimeError, match="weights: replica 1 differs from replica 0"):
        run_tfdist(name, strategies[CASES[name].replicas])


@pytest.mark.slow
def test_a_branch_forgotten_would_be_found(strategies, monkeypatch):
    import tensorflow as tf

    name = "optimizer option: ema_overwrite_frequency"
    monkeypatch.setattr(optimizers, "overwrite_is_due", lambda optimizer: tf.constant(False))
    _, planted, _ = run_tfdist(name, strategies[CASES[name].replicas])
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "model: train step set on the model",
        "layer: BatchNormalization + add_loss",
        "own step: train step of a tutorial, 8 rows",
        "own step: an optimizer not built",
        "own step: noise on the gradients",
        "own step: learning rate from a mean of rows",
        "own loss: mean squared error of each row",
        "own step: sum of the rows' losses",
        "own step: Keras' loss over the weights",
        "own step: clipped gradients",
        "coupled: a layer with gather_rows",
        "coupled: add_loss",
    ],
)
def test_a_piece_of_code_that_is_taken_out_would_be_found(strategies, name):
    plant = next(plant for plant in PLANTS if plant.fits(name))
    with plant.planted():
        _, times = departure(name, strategies[CASES[name].replicas])
    assert times >= 10


def test_each_piece_of_code_that_is_taken_out_is_there():
    for plant in PLANTS:
        places = [(owner, attribute) for owner, attribute, _ in plant.replacements]
        originals = [getattr(*place) for place in places]
        with plant.planted():
            assert [getattr(*place) for place in places] == [replacement for _, _, replacement in plant.replacements]
        assert [getattr(*place) for place in places] == originals
        assert all(getattr(owner, attribute) is not new for owner, attribute, new in plant.replacements)


def test_a_piece_of_code_that_has_moved_is_an_error():
    with (
        pytest.raises(AttributeError, match="does not have the attribute 'gone'"),
        Plant("a", (), ((tapes, "gone", 1),)).planted(),
    ):
        pass
