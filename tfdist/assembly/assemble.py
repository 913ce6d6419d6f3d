"""The parts of a run, made from its `RunConfig`."""

import functools

import keras

from tfdist import data, models, training
from tfdist.assembly import user_parts
from tfdist.assembly.learning_rate import make_learning_rate
from tfdist.callbacks.prediction_sheet import PredictionSheet
from tfdist.callbacks.profile import Profile
from tfdist.callbacks.screen import EpochLines, ProgressLines
from tfdist.callbacks.throughput import Throughput
from tfdist.callbacks.watch import HeartbeatCallback
from tfdist.internals.access.rates import current_learning_rate
from tfdist.optimizers import LARS
from tfdist.options.run import read_steps
from tfdist.process.errors import UsageError, user_code
from tfdist.process.log import is_terminal, say
from tfdist.records.configuration import count_parameters
from tfdist.records.files import RunFiles
from tfdist.strategy import hardware
from tfdist.strategy.choose import choose_strategy
from tfdist.strategy.workers import Workers

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


def make_callbacks(run, config, strategy):
    """Makes the config's own callbacks, and its profile.

    Args:
        run: a `RunDir`.
        config: the `RunConfig`.
        strategy: the `tf.distribute.Strategy`.
    """
    with strategy.scope():
        # They come first, because they may add to the logs.
        callbacks = list(user_parts.make_own_callbacks(config))
    if config.profile_steps:
        writes = Workers.of(strategy).is_chief
        callbacks.append(Profile(run.tensorboard if writes else None, read_steps(config.profile_steps)))
    return callbacks


def make_files(run, config, source, model):
    """Makes the `RunFiles` of a run; on the chief they also show progress: a bar on a terminal, else lines.

    Args:
        run: a `RunDir`.
        config: the `RunConfig`.
        source: the training source.
        model: the compiled `keras.Model`.
    """
    every_steps = config.checkpoints.log_every_steps
    throughput = Throughput(source.plan.rows_of_steps)
    screen = ()
    if Workers.of(model.distribute_strategy).is_chief:
        lines = (ProgressLines(every_steps=every_steps, more=throughput.of_epoch), EpochLines())
        screen = (keras.callbacks.ProgbarLogger(),) if is_terminal() else lines
    return RunFiles(
        run,
        model,
        name=config.name,
        config=config.to_dict(),
        throughput=throughput,
        global_batch=source.global_batch,
        log_every_steps=every_steps,
        screen=screen,
    )


def describe_start(run, model):
    """Returns what is about to be trained, in one line: the folder, the model, the optimizer and its rate, the devices.

    Args:
        run: a `RunDir`.
        model: the compiled `keras.Model`.
    """
    strategy, optimizer = model.distribute_strategy, model.optimizer
    numbers = count_parameters(model)
    rate = f"{current_learning_rate(optimizer):g}{_schedule(optimizer)}"
    parts = [
        f"model {model.name}, {numbers['parameters']:,} parameters, {numbers['trained_parameters']:,} of them trained",
        f"{type(optimizer).__name__} with a learning rate of {rate}",
        f"{_replicas(strategy.num_replicas_in_sync)} of {type(strategy).__name__}",
    ]
    return f"run_dir {run.path}: {'; '.join(parts)}."


def make_pictures(run, config, test_source):
    """Makes the callback that draws predictions: a list of one, or of none without `prediction_rows`."""
    if not config.prediction_rows:
        return []
    return [PredictionSheet(run.predictions, test_source, config.prediction_rows)]


def evaluate(model, source, heartbeat):
    """Evaluates a trained model, and returns the metrics by name."""
    return training.evaluate(model, source, verbose=0, return_dict=True, callbacks=[HeartbeatCallback(heartbeat)])


def last_lines(run, summary, report="", seconds=None):
    """Returns the last lines of a run on the screen.

    Args:
        run: a `RunDir`.
        summary: the summary as a dict.
        report: the measurements of the workers in one line, or "".
        seconds: the time since the command began; None to leave it out.
    """
    metrics = "  ".join(f"test {name} {value:.4g}" for name, value in summary["metrics"].items())
    # The folder may be that of another loop, which knows less.
    known = [
        f"{summary['steps']} steps",
        *([f"{summary['examples_seen']} examples"] if "examples_seen" in summary else []),
        *([f"{summary['examples_per_second']:.0f}/s"] if "examples_per_second" in summary else []),
        _replicas(summary["replicas"]),
        *([] if seconds is None else [f"{seconds:.0f} s in all"]),
    ]
    result = f"{metrics}  ({', '.join(known)})"
    return "\n".join([*([report] if report else []), result.lstrip(), str(run.path)])


def _schedule(optimizer):
    """Returns what follows the first learning rate in words."""
    given = getattr(optimizer, "inner_optimizer", optimizer).get_config()["learning_rate"]
    return f" at first, then by {given['class_name']}" if isinstance(given, dict) else ""


def _replicas(count):
    return f"{count} replica{'s' if count > 1 else ''}"
