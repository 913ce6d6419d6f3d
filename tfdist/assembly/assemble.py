"""The parts of a run, made from its `RunConfig`."""

import functools

import keras

from tfdist import data, models, training
from tfdist.assembly import user_parts
from tfdist.assembly.learning_rate import make_learning_rate
from tfdist.callbacks.prediction_sheet import PredictionSheet
from tfdist.callbacks.profile import Profile
from tfdist.callbacks.report import Report
from tfdist.callbacks.throughput import Throughput
from tfdist.callbacks.watch import HeartbeatCallback
from tfdist.callbacks.writers import EpochLines, MetricsFile
from tfdist.optimizers import LARS
from tfdist.options.run import read_steps
from tfdist.process.errors import UsageError, user_code
from tfdist.process.log import is_terminal, say
from tfdist.run import rundir
from tfdist.strategy import hardware
from tfdist.strategy.choose import choose_strategy
from tfdist.strategy.workers import Workers
from tfdist.training.summary import summarize

# A table of its own, because Keras' look-up by name does not know Lamb.
_OPTIMIZERS = {
    kind.__name__.lower(): kind
    for kind in (
        keras.optimizers.Adadelta,
        keras.optimizers.Adafactor,
        keras.optimizers.Adagrad,
        keras.optimizers.Adam,
        keras.optimizers.Adamax,
        keras.optimizers.AdamW,
        keras.optimizers.Ftrl,
        keras.optimizers.Lamb,
        LARS,
        keras.optimizers.Lion,
        keras.optimizers.Nadam,
        keras.optimizers.RMSprop,
        keras.optimizers.SGD,
    )
}


def make_strategy(config, cluster):
    """Chooses the strategy, and sets the number types and the seeds.

    Args:
        config: the `RunConfig`.
        cluster: the `Cluster`, whose workers have met; None without one.

    Returns:
        (the `tf.distribute.Strategy`, its `Workers`).
    """
    strategy = choose_strategy(
        config.strategy, cluster=cluster, replicas=config.replicas, start_seconds=0, alone=config.alone
    )
    hardware.set_precision(config.precision)
    hardware.set_seeds(config.seed, deterministic=config.deterministic)
    return strategy, Workers.of(strategy)


def describe_source(source, strategy):
    """Returns which rows and steps each worker gets, in lines."""
    return data.describe(source, replicas=strategy.num_replicas_in_sync, workers=Workers.of(strategy).count)


def make_sources(config):
    """Returns the training source, and the test source or None if the config has no test split."""

    def load(split):
        if callable(config.dataset):
            with user_code(config.dataset):
                source = config.dataset(split, config.global_batch, config.seed)
            if not isinstance(source, data.Source):
                raise UsageError(f"dataset returned {source!r} for {split!r}. Return a tfdist.data.Source.")
            return source
        return data.load(
            config.dataset,
            split=split,
            global_batch=config.global_batch,
            seed=config.seed,
            data_dir=config.data_dir,
            download=config.download,
            **config.dataset_options,
        )

    training_transforms, other_transforms = user_parts.make_transforms(config)
    source = functools.reduce(data.Source.map, training_transforms, load("train"))
    if not config.test_split:
        return source, None
    return source, functools.reduce(data.Source.map, other_transforms, load(config.test_split))


def make_model(config, source):
    """Builds and compiles the model for the rows of a source; must be called in the strategy's scope."""
    if callable(config.model):
        with user_code(config.model):
            model = config.model()
    else:
        images, *_ = source.element_spec
        if source.classes is None:
            raise UsageError(
                f"{source.name}: the number of classes is unknown, and --model={config.model} needs it. Give the "
                "source its classes, or a recipe whose model is a function."
            )
        model = models.build(
            config.model,
            classes=source.classes,
            input_shape=tuple(images.shape[1:]),
            **config.model_options,
        )
    model.compile(
        make_optimizer(config, source),
        loss=user_parts.make_loss(config),
        metrics=user_parts.make_metrics(config),
        # `fit` alone sets the number of steps for "auto".
        steps_per_execution=1 if config.step.steps_per_execution in ("auto", None) else config.step.steps_per_execution,
    )
    return model


def make_optimizer(config, source):
    """Makes the Keras optimizer, with the learning rate scaled for the global batch."""
    if callable(config.optimizer):
        with user_code(config.optimizer):
            return config.optimizer()
    options = dict(config.optimizer_options)
    if config.ema_momentum:
        options |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    if config.learning_rate is not None:
        options["learning_rate"] = _learning_rate(config, source)
    try:
        return _OPTIMIZERS[config.optimizer](**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer {config.optimizer} with {options}: {error}") from None


def _learning_rate(config, source):
    """Returns the learning rate or its schedule, and logs how it was derived."""
    rate, line = make_learning_rate(config, rows=source.rows, steps_per_epoch=source.cardinality)
    if line:
        say(f"{line}.")
    return rate


def make_callbacks(run, config, source, strategy):
    """Makes the callbacks: the config's own, and those that report.

    All workers measure; the chief also writes a progress bar or lines, and files.

    Args:
        run: a `RunDir`.
        config: the `RunConfig`.
        source: the training source.
        strategy: the `tf.distribute.Strategy`.

    Returns:
        (callbacks, the `Throughput` among them, the `Report` among them, `verbose` for `fit`).
    """

    throughput = Throughput(source.plan.rows_of_steps)
    report = Report(strategy, source.global_batch)
    writes = Workers.of(strategy).is_chief
    with strategy.scope():
        # They come first, because they may add to the logs.
        measuring = [*user_parts.make_own_callbacks(config), throughput]
    if config.profile_steps:
        measuring.append(Profile(run.tensorboard if writes else None, read_steps(config.profile_steps)))
    if not writes:
        return [*measuring, report], throughput, report, 0
    on_terminal = is_terminal()
    # These come before the report, because they have no room for its numbers, which the run's last lines show.
    screen = keras.callbacks.ProgbarLogger() if on_terminal else EpochLines()
    files = [
        _at_the_beginning(lambda: rundir.write_json(run.config, config.to_dict())),
        MetricsFile(run.metrics, report.epoch),
        keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False),
    ]
    return [*measuring, screen, report, *files], throughput, report, int(on_terminal)


def make_pictures(run, config, test_source):
    """Makes the callback that draws predictions: a list of one, or of none without `prediction_rows`."""
    if not config.prediction_rows:
        return []
    return [PredictionSheet(run.predictions, test_source, config.prediction_rows)]


def _at_the_beginning(write):
    """Returns a callback that calls `write` when training begins: a checkpoint that does not fit changes no file."""
    callback = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: write())
    callback.every_worker = False
    return callback


def evaluate(model, source, heartbeat):
    """Evaluates a trained model, and returns the metrics by name."""
    return training.evaluate(model, source, verbose=0, return_dict=True, callbacks=[HeartbeatCallback(heartbeat)])


def write_results(run, model, config, *, steps, source, metrics, throughput, report):
    """Writes the model and the summary at the end of a run; only the chief calls it.

    Returns:
        The summary as a dict.
    """
    with rundir.written_aside(run.model) as aside:
        model.save(aside)
    measured = {
        "examples_seen": source.plan.rows_in(steps),
        "examples_per_second": round(throughput.examples_per_second, 1),
        **report.summary(),
    }
    summary = {"name": config.name, **summarize(model, metrics=metrics, steps=steps, **measured)}
    rundir.write_json(run.summary, summary)
    return summary


def last_lines(run, summary, report=""):
    """Returns the last lines of a run on the screen.

    Args:
        run: a `RunDir`.
        summary: the dict that `write_results` returned.
        report: the measurements of the workers in one line, or "".
    """
    metrics = "  ".join(f"test {name} {value:.4g}" for name, value in summary["metrics"].items())
    replicas = summary["replicas"]
    result = (
        f"{metrics}  ({summary['steps']} steps, {summary['examples_seen']} examples, "
        f"{summary['examples_per_second']:.0f}/s, {replicas} replica{'s' if replicas > 1 else ''})"
    )
    return "\n".join([*([report] if report else []), result.lstrip(), str(run.path)])
