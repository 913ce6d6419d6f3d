"""Calls that are wrong, in Python and in the shell, and what is said of each: data for tests and for `tests/full`."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

MISTAKE = 2


@dataclasses.dataclass(frozen=True)
class Command:
    """A wrong command line.

    Attributes:
        command: the command, such as "train".
        flags: what follows it.
        message: a part of the message.
        code: the exit code.
        loads: whether it can be found out only after TensorFlow is loaded.
        environ: environment variables.
    """

    command: str
    flags: tuple[str, ...]
    message: str
    code: int = MISTAKE
    loads: bool = False
    environ: tuple[tuple[str, str], ...] = ()

    def __str__(self):
        """Returns the command line."""
        names = [f"{name}={value}" for name, value in self.environ]
        return " ".join([*names, "python -m", f"tfdist.{self.command}", *self.flags])


def _train(flags, message, **more):
    return Command("train", tuple(flags.split()), message, **more)


def _launch(flags, message, **more):
    return Command("launch", tuple(flags.split()), message, **more)


def _bench(flags, message, **more):
    return Command("bench", tuple(flags.split()), message, **more)


def _cluster(value):
    return (("TF_CONFIG", value),)


_TWO = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}}
_COUNT = "Use a whole number from 1."
_WHOLE = "value should be a whole number"

COMMANDS = (
    # Values of another type, and out of range.
    _train("--epochs=0", f"epochs is 0. {_COUNT}"),
    _train("--epochs=-1", f"epochs is -1. {_COUNT}"),
    _train("--epochs=1.5", f"flag --epochs=1.5: {_WHOLE}"),
    _train("--epochs=three", f"flag --epochs=three: {_WHOLE}"),
    _train("--steps=0", f"steps is 0. {_COUNT}"),
    _train("--steps=-5", f"steps is -5. {_COUNT}"),
    _train("--global_batch=0", f"global_batch is 0. {_COUNT}"),
    _train("--global_batch=32.0", f"flag --global_batch=32.0: {_WHOLE}"),
    _train("--replica_batch=0", f"replica_batch is 0. {_COUNT}"),
    _train("--base_batch=0", f"base_batch is 0. {_COUNT}"),
    _train("--learning_rate=0", "learning_rate is 0.0. Use a number above 0."),
    _train("--learning_rate=-1", "learning_rate is -1.0. Use a number above 0."),
    _train("--learning_rate=fast", "flag --learning_rate=fast: value should be a number"),
    _train("--learning_rate=nan", "learning_rate is nan. Use a number above 0."),
    _train("--warmup_epochs=-1", "warmup_epochs is -1.0. Use a number from 0."),
    _train("--seed=-1", "seed is -1. Use a whole number from 0 to 4294967295."),
    _train("--replicas=0", f"replicas is 0. {_COUNT}"),
    _train("--replicas=two", f"flag --replicas=two: {_WHOLE}"),
    _train("--replicas=1000", "replicas is 1000, but this machine has no GPU", environ=(("CUDA_VISIBLE_DEVICES", ""),)),
    _train("--start_seconds=0", "start_seconds is 0.0. Use a number above 0."),
    _train("--steps_per_execution=0", "steps_per_execution is 0. Use a whole number from 1, 'auto'"),
    _train("--steps_per_execution=many", f"flag --steps_per_execution=many: {_WHOLE}, or auto"),
    _train("--jit_compile=perhaps", "flag --jit_compile=perhaps: value should be true, false, or auto"),
    _train("--deterministic=perhaps", "flag --deterministic=perhaps: "),
    _train("--checkpoint_every_steps=0", f"checkpoint_every_steps is 0. {_COUNT}"),
    _train("--log_every_steps=0", f"log_every_steps is 0. {_COUNT}"),
    _train("--keep_checkpoints=0", f"keep_checkpoints is 0. {_COUNT}"),
    _train("--profile_steps=5", "profile_steps is '5'. Use two steps, the first one below the other"),
    _train("--profile_steps=9:5", "profile_steps is '9:5'. Use two steps, the first one below the other"),
    # Names, with what was perhaps meant.
    _train("--strategy=mirror", "Did you mean 'mirrored'?"),
    _train("--strategy=gpus", "value should be one of <auto|one_device|mirrored|multi_worker|tpu>"),
    _train("--optimizer=adm", "Did you mean 'adam'?"),
    _train("--precision=mixed_bfloat", "Did you mean 'mixed_bfloat16'?"),
    _train("--exchange=factor", "Did you mean 'factors'?"),
    _train("--compression=float-16", "Did you mean 'float16'?"),
    _train("--scaling=square-root", "Did you mean 'square_root'?"),
    _train("--resume=foo", "value should be one of <auto|never|must>"),
    _train("--preemption_notice=azur", "Did you mean 'azure'?"),
    _train("--model=cnnn", "no model is called 'cnnn'. Did you mean 'cnn'? Known: mlp, cnn,"),
    _train("--model=mpl", "no model is called 'mpl'. Did you mean 'mlp'?"),
    _train("--model=?", "no model is called '?'. Known: mlp, cnn, resnet20"),
    _train("--dataset=digit", "Did you mean 'digits'?"),
    _train("--dataset=?", "Names that come with tfdist: digits, idx, images, records, synthetic."),
    _train("--recipe=digits_cnn", "--recipe=digits_cnn: there is no such file. Give the path of a Python file."),
    _train("--recipe=", "there is no such file. Give the path of a Python file."),
    # Flags that do not exist, of neighbours too.
    _train("--epoch=3", "Did you mean: epochs ?"),
    _train("--batch_size=32", "Unknown command line flag 'batch_size'. Did you mean --global_batch?"),
    _train("--lr=0.1", "Did you mean --learning_rate?"),
    _train("--num_epochs=3", "Did you mean --epochs?"),
    _train("--max_steps=3", "Did you mean --steps?"),
    _train("--output_dir=runs/a", "Did you mean --run_dir?"),
    _train("--run-dir=runs/a", "Did you mean --run_dir?"),
    _train("--gpus=2", "Did you mean --replicas?"),
    _train(
        "--workers=2", "--workers is a flag of tfdist.launch: python -m tfdist.launch --workers=… -- -m tfdist.train"
    ),
    _train("--nproc_per_node=2", "--workers is a flag of tfdist.launch"),
    _train("epochs=3", "'epochs=3' is not a flag. Write --name=value"),
    _train("--epochs", "Missing value for flag --epochs"),
    # Flags that contradict each other, or that lack another one.
    _train("--epochs=1 --steps=2", "epochs is 1 and steps is 2: both say how long to train. Give one of them."),
    _train("--global_batch=64 --replica_batch=16", "each says how many rows a step has. Give one of them."),
    _train("--resume=must", "resume is 'must', but there is no run_dir to resume."),
    _train("--resume_with_changes", "resume_with_changes is given, but there is no run_dir to resume."),
    _train("--rounds=3", "--rounds is a flag of tfdist.bench."),
    _train("--run_dir=", "run_dir is empty. Give a folder, or leave it out."),
    _train("--run_dir=s3://bucket/a", "Only folders of mounted file systems can be used"),
    _train("--strategy=multi_worker", "--strategy=multi_worker needs a cluster, and there is none in the environment."),
    _train(
        "--strategy=multi_worker --replicas=2", "replicas is 2, but multi_worker takes its number from the devices."
    ),
    _train("--download", "digits: download is for TFDS names. Leave it out."),
    _train("--data_dir=here", "data_dir is 'here', but digits needs none. Leave it out."),
    _train("--dataset=images", "images: there is no data_dir. Give the folder of images (--data_dir)."),
    _train("--profile_steps=100:110 --steps=3", "but the run has 3 steps, so nothing would be profiled."),
    _train("--profile_steps=5000:5010", "but the run has 900 steps, so nothing would be profiled.", loads=True),
    _train(
        "--optimizer=sgd --warmup_epochs=2",
        "base_batch, schedule and warmup_epochs change a learning_rate, but there is none.",
    ),
    # The environment.
    _train("", "TF_CONFIG: not JSON at line 1, column 2", environ=_cluster("{cluster: 1}")),
    _train("", "TF_CONFIG: task is missing", environ=_cluster(json.dumps(_TWO))),
    _train(
        "",
        "task.index is 2, but cluster.worker lists 2 addresses.",
        environ=_cluster(json.dumps(_TWO | {"task": {"type": "worker", "index": 2}})),
    ),
    _train(
        "--strategy=mirrored",
        "would train each of them alone",
        environ=_cluster(json.dumps(_TWO | {"task": {"type": "worker", "index": 0}})),
    ),
    _launch("", "there are no workers to start."),
    _launch("--workers=0 -- x.py", "--workers=0: use 1 or more."),
    _launch("--workers=two -- x.py", f"flag --workers=two: {_WHOLE}"),
    _launch("--workers=2", "nothing to run. Put `-m module …` or `script.py …` after ` -- `."),
    _launch("--workers=2 -m tfdist.train", "Put what is to run after ` -- `: … -- -m tfdist.train"),
    _launch("--workers=2 script.py --epochs=3", "Put what is to run after ` -- `: … -- script.py --epochs=3"),
    _launch("--workers=2 --epochs=3", "--epochs is a flag of tfdist.train. Put it after ` -- `"),
    _launch("--nproc_per_node=2 -- x.py", "Did you mean --workers?"),
    _launch("--nnodes=2 -- x.py", "Did you mean --hosts?"),
    _launch(
        "--workers=2 --hosts=a,b -- x.py", "--workers=2 counts processes on this machine, but --hosts names others."
    ),
    _launch("--workers=2 -- python x.py", "the launcher starts Python itself."),
    _launch("--workers=2 --max_restarts=-1 -- x.py", "--max_restarts=-1: use a number, 0 or more."),
    _launch("--workers=2 --min_workers=3 -- x.py", "--min_workers=3: use 1..2, the number of workers."),
    _launch("--workers=2 --tee=5 -- x.py", "--tee=5: use all, chief, none, or ranks of 0..1"),
    _launch("--workers=2 --env=A -- x.py", "--env=A: write --env=NAME=VALUE."),
    _launch("--workers=2 --chaos=boom -- x.py", "boom"),
    Command("verify", (), "there is nothing to verify. Write module:build_fn or file.py:build_fn."),
    Command("verify", ("build",), "'build' names no function. Write module:build_fn or file.py:build_fn."),
    Command("verify", ("no_such_module:f",), "there is no module 'no_such_module' here."),
    Command("verify", ("m:f", "--replicas=1"), "--replicas is 1. Use 2 or more."),
    Command("verify", ("m:f", "--replica=3"), "Did you mean: replicas ?"),
    Command("report", (), "there is no run. Give the folder of one, or of several: runs/digits_cnn-1."),
    Command("report", ("none",), "none: there is no such folder. Give the folder of a run"),
    Command("report", (".",), ". is not the folder of a run: it has no metrics.jsonl, summary.json or config.json."),
    Command("report", (".", "--text", "--live"), "--text does not go with --live. Leave one of them out."),
    Command("report", (".", "--out=a.html", "--text"), "--out does not go with --text. Leave one of them out."),
    Command("report", (".", "--port=8000"), "--port is the port of --live. Add --live, or leave it out."),
    Command("report", (".", "--live", "--port=70000"), "--port is 70000. Use a whole number in 0..65535."),
    Command("report", (".", "--output_dir=a"), "Unknown command line flag 'output_dir'. Did you mean --run_dir?"),
    Command("doctor", ("--global_batch=0",), "--global_batch is 0. Use 1 or more."),
    Command("doctor", ("--batch_size=3",), "Did you mean --global_batch?"),
    Command("doctor", ("--data_dir=here",), "--data_dir needs --dataset."),
    Command("doctor", ("--epochs=3",), "Unknown command line flag 'epochs'. --epochs is a flag of tfdist.train. See"),
    Command("verify", ("m:f", "--batch_size=8"), "--global_batch is a flag of tfdist.train and of tfdist.doctor."),
    Command("doctor", ("--timeout_seconds=0",), "--timeout_seconds is 0. Use a number above 0."),
    _bench("--optimizer=adm", "--optimizer is 'adm'. Use one of adadelta,"),
    _bench("--model=resnet21", "no model is called 'resnet21'. Did you mean"),
    _bench("--model=no_such_module:f", "there is no module 'no_such_module' here."),
    _bench("--dataset=digit", "Did you mean 'digits'?"),
    _bench("--versus=keras_fits", "Did you mean 'keras_fit'?"),
    _bench("--rounds=1", "--rounds is 1. Use 2 or more"),
    _bench("--against=none.json", "--against=none.json: there is no such file."),
)

# Words of a row → what a parametrized test passes to the functions below; a model, arrays, an optimizer, tfdist.
Call = Callable[[Any], object]
_EACH = "Use a whole number from 1."


def python_calls():
    """Returns name → (a function of the parts of a call, a part of the message)."""
    return {name: row for rows in (_fit(), _loops(), _configs(), _data(), _functions()) for name, row in rows.items()}


def _fit():
    def fit(message, **arguments):
        return (lambda c: c.tfdist.fit(c.model, c.x, c.y, **arguments)), message

    rows = {
        "epochs=0": fit(f"epochs is 0. {_EACH}", epochs=0),
        "epochs=-1": fit(f"epochs is -1. {_EACH}", epochs=-1),
        "epochs=1.5": fit(f"epochs is 1.5. {_EACH}", epochs=1.5),
        "epochs='3'": fit(f"epochs is '3'. {_EACH}", epochs="3"),
        "epochs=True": fit(f"epochs is True. {_EACH}", epochs=True),
        "epochs=None": fit(f"epochs is None. {_EACH}", epochs=None),
        "steps=0": fit(f"steps is 0. {_EACH}", steps=0),
        "steps=-3": fit(f"steps is -3. {_EACH}", steps=-3),
        "steps and epochs": fit("epochs is 2 and steps is 3: both say how long to train.", epochs=2, steps=3),
        "initial_epoch=-1": fit("initial_epoch is -1. Use a whole number from 0.", initial_epoch=-1),
        "steps_per_epoch=0": fit(f"steps_per_epoch is 0. {_EACH}", steps_per_epoch=0),
        "steps_per_epoch=2.0": fit(f"steps_per_epoch is 2.0. {_EACH}", steps_per_epoch=2.0),
        "batch_size=32.0": fit(f"batch_size is 32.0. {_EACH}", batch_size=32.0),
        "batch_size='32'": fit(f"batch_size is '32'. {_EACH}", batch_size="32"),
        "batch_size=0": fit(f"batch_size is 0. {_EACH}", batch_size=0),
        "validation_split=1.5": fit("validation_split is 1.5. Use a number from 0 below 1.", validation_split=1.5),
        "validation_split=-0.1": fit("validation_split is -0.1. Use a number from 0", validation_split=-0.1),
        "validation_split='0.1'": fit("validation_split is '0.1'. Use a number from 0", validation_split="0.1"),
        "validation_steps=0": fit(f"validation_steps is 0. {_EACH}", validation_steps=0),
        "validation_batch_size=0": fit(f"validation_batch_size is 0. {_EACH}", validation_batch_size=0),
        "validation_freq=0": fit("validation_freq is 0. Use a whole number from 1, or a list", validation_freq=0),
        "validation_freq='2'": fit("validation_freq is '2'. Use a whole number from 1, or", validation_freq="2"),
        "verbose='loud'": fit("verbose is 'loud'. Use 'auto', 0, 1 or 2.", verbose="loud"),
        "shuffle='yes'": fit("shuffle is 'yes'. Use True, False or 'batch'.", shuffle="yes"),
        "callbacks=3": fit("callbacks is 3. Use a list of keras.callbacks.Callback.", callbacks=3),
        "callbacks=['History']": fit("callbacks has 'History'. Use a list of", callbacks=["History"]),
        "a callback's class": (
            lambda c: c.tfdist.fit(c.model, c.x, c.y, callbacks=[c.keras.callbacks.History]),
            "Give a callback, not its class: History(…).",
        ),
        "class_weight=3": fit("class_weight is 3. Use a dict: the number of a class → its weight.", class_weight=3),
        "class_weight of a name": fit("class_weight is {'a': 1.0}. Use a dict:", class_weight={"a": 1.0}),
        "resume='foo'": fit("resume is 'foo'. Use one of auto, never, must.", resume="foo"),
        "resume='must' alone": fit("resume is 'must', but there is no run_dir to resume.", resume="must"),
        "resume_with_changes alone": fit(
            "resume_with_changes is given, but there is no run_dir to resume.", resume_with_changes=True
        ),
        "run_dir=''": fit("run_dir is empty. Give a folder, or leave it out.", run_dir=""),
        "run_dir=3": fit("run_dir is 3. Use a folder's path.", run_dir=3),
        "checkpoint_every_steps=0": fit(f"checkpoint_every_steps is 0. {_EACH}", checkpoint_every_steps=0),
        "log_every_steps=0": fit(f"log_every_steps is 0. {_EACH}", log_every_steps=0),
        "checkpoint_every_steps alone": fit("but there is no run_dir to write to.", checkpoint_every_steps=5),
        "keep_checkpoints=1.5": fit(f"keep_checkpoints is 1.5. {_EACH}", keep_checkpoints=1.5),
        "exchange='factor'": fit("Use one of auto, all_reduce, factors. Did you mean 'factors'?", exchange="factor"),
        "compression=True": fit("compression is True. Use one of none, bfloat16, float16.", compression=True),
        "jit_compile='yes'": fit("jit_compile is 'yes'. Use True, False, 'auto', or None", jit_compile="yes"),
        "steps_per_execution=0": fit("steps_per_execution is 0. Use a whole number from 1", steps_per_execution=0),
        "sync_batchnorm=1": fit("sync_batchnorm is 1. Use True or False.", sync_batchnorm=1),
        "a model's name": (lambda c: c.tfdist.fit("foo", c.x, c.y), "tfdist.fit: model is 'foo'. Give a keras.Model"),
        "a model's class": (lambda c: c.tfdist.fit(c.keras.Model, c.x), "Give a model, not its class: Model(…)."),
        "bach_size=3": fit("tfdist.fit: there is no argument 'bach_size'. Did you mean 'batch_size'?", bach_size=3),
        "learning=0.1": fit("tfdist.fit: there is no argument 'learning'. See help(tfdist.fit).", learning=0.1),
        "no targets": (lambda c: c.tfdist.fit(c.model, c.x), "x has no targets, but the loss that the model is"),
        "validation_data=x": (
            lambda c: c.tfdist.fit(c.model, c.x, c.y, validation_data=c.x),
            "validation_data has no targets, but the loss that the model is compiled with needs them. Give",
        ),
        "no data": (lambda c: c.tfdist.fit(c.model), "x is None. Give arrays, a tf.data.Dataset"),
        "x and y of other lengths": (
            lambda c: c.tfdist.fit(c.model, c.x, c.y[:5]),
            "x has 8 rows, y has 5 rows. Give as many rows of each",
        ),
    }
    return {f"fit: {name}": row for name, row in rows.items()}


def _loops():
    def open_run(message, *train, optimizer=None, **arguments):
        def call(c):
            data = train or (c.tfdist.data.from_arrays(c.x, c.y),)
            with c.tfdist.open_run(None, c.model, optimizer or c.optimizer, *data, **arguments):
                pass

        return call, message

    def batches(c, **length):
        source = c.tfdist.data.from_arrays(c.x, c.y)
        with c.tfdist.open_run(None, c.model, c.optimizer, source) as run:
            next(run.batches(**length))

    return {
        "evaluate: a name": (lambda c: c.tfdist.evaluate("foo", c.x), "tfdist.evaluate: model is 'foo'."),
        "evaluate: steps=0": (lambda c: c.tfdist.evaluate(c.model, c.x, c.y, steps=0), f"steps is 0. {_EACH}"),
        "evaluate: batch_size='8'": (
            lambda c: c.tfdist.evaluate(c.model, c.x, c.y, batch_size="8"),
            f"batch_size is '8'. {_EACH}",
        ),
        "evaluate: no targets": (lambda c: c.tfdist.evaluate(c.model, c.x), "x has no targets, but the loss"),
        "evaluate: bach_size=3": (
            lambda c: c.tfdist.evaluate(c.model, c.x, c.y, bach_size=3),
            "tfdist.evaluate: there is no argument 'bach_size'. Did you mean 'batch_size'?",
        ),
        "predict: bach_size=3": (
            lambda c: c.tfdist.predict(c.model, c.x, bach_size=3),
            "tfdist.predict: there is no argument 'bach_size'. Did you mean 'batch_size'?",
        ),
        "open_run: resum='must'": open_run(
            "tfdist.open_run: there is no argument 'resum'. Did you mean 'resume'?", resum="must"
        ),
        "evaluate: callbacks=3": (lambda c: c.tfdist.evaluate(c.model, c.x, c.y, callbacks=3), "callbacks is 3."),
        "predict: a name": (lambda c: c.tfdist.predict("foo", c.x), "tfdist.predict: model is 'foo'."),
        "predict: batch_size=-1": (lambda c: c.tfdist.predict(c.model, c.x, batch_size=-1), "batch_size is -1."),
        "predict: steps=1.5": (lambda c: c.tfdist.predict(c.model, c.x, steps=1.5), f"steps is 1.5. {_EACH}"),
        "predict: no data": (lambda c: c.tfdist.predict(c.model, None), "x is None. Give arrays"),
        "open_run: arrays": (
            lambda c: c.tfdist.open_run(None, c.model, c.optimizer, (c.x, c.y)).__enter__(),
            "train is a tuple, but a loop needs batches. Give tfdist.data.from_arrays(x, y, global_batch=…)",
        ),
        "open_run: an optimizer's name": open_run(
            "tfdist.open_run: optimizer is 'adam'. Give a Keras", optimizer="adam"
        ),
        "open_run: steps_per_epoch=0": open_run(f"steps_per_epoch is 0. {_EACH}", steps_per_epoch=0),
        "open_run: track=3": open_run("track is 3. Use a list.", track=3),
        "open_run: callbacks=3": open_run("tfdist.open_run: callbacks is 3.", callbacks=3),
        "open_run: resume='foo'": open_run("resume is 'foo'. Use one of auto, never, must.", resume="foo"),
        "batches: epochs=1.5": ((lambda c: batches(c, epochs=1.5)), f"epochs is 1.5. {_EACH}"),
        "batches: epochs and steps": (lambda c: batches(c, epochs=2, steps=3), "epochs is 2 and steps is 3: both"),
    }


def _configs():
    def config(message, **fields):
        return (lambda c: c.tfdist.RunConfig(**fields)), message

    rows = {
        "epochs='3'": config(f"epochs is '3'. {_EACH}", epochs="3"),
        "epochs and steps": config("epochs is 1 and steps is 2: both say how long to train.", epochs=1, steps=2),
        "learning_rate='0.1'": config("learning_rate is '0.1'. Use a number above 0.", learning_rate="0.1"),
        "global_batch=32.0": config(f"global_batch is 32.0. {_EACH}", global_batch=32.0),
        "replicas='2'": config(f"replicas is '2'. {_EACH}", replicas="2"),
        "schedule='cosine'": config("schedule is 'cosine'. Use tfdist.ScheduleOptions(…).", schedule="cosine"),
        "start_seconds=0": config("start_seconds is 0. Use a number above 0.", start_seconds=0),
        "seed=1.0": config("seed is 1.0. Use a whole number from 0 to 4294967295.", seed=1.0),
        "step=3": config("step is 3. Use tfdist.StepOptions(…).", step=3),
        "checkpoints='runs/a'": config(
            "checkpoints is 'runs/a'. Use tfdist.CheckpointOptions(…).", checkpoints="runs/a"
        ),
        "model=3": config("model is 3. Use a name, or a function.", model=3),
        "model_options=3": config("model_options is 3. Use a dict.", model_options=3),
        "dataset=3": config("dataset is 3. Use a name, or a function.", dataset=3),
        "optimizer='adm'": config("optimizer is 'adm'. Use one of adadelta,", optimizer="adm"),
        "strategy='mirror'": config("Did you mean 'mirrored'?", strategy="mirror"),
        "precision=16": config("precision is 16. Use one of float32, float64,", precision=16),
        "deterministic='no'": config("deterministic is 'no'. Use True or False.", deterministic="no"),
        "metrics='accuracy'": config(
            "metrics is 'accuracy'. Use a tuple of names and functions, or a function", metrics="accuracy"
        ),
        "profile_steps=5": config("profile_steps is 5. Use two steps,", profile_steps=5),
        "profile_steps beyond the run": config("but the run has 3 steps", profile_steps="5:9", steps=3),
        "loss=3": config("loss is 3. Use a name, or a function.", loss=3),
    }
    return {
        **{f"RunConfig: {name}": row for name, row in rows.items()},
        "the options of another model": (
            lambda c: c.check_names(c.tfdist.RunConfig(model="mlp", model_options={"batch_norm": True})),
            "models: mlp takes no option 'batch_norm'. It takes: hidden, dropout, weight_decay.",
        ),
    }


def _data():
    def arrays(message, **arguments):
        return (lambda c: c.tfdist.data.from_arrays(c.x, c.y, **arguments)), message

    return {
        "load: ?": (
            lambda c: c.tfdist.data.load("?"),
            "Names that come with tfdist: digits, idx, images, records, synthetic.",
        ),
        "load: 3": (lambda c: c.tfdist.data.load(3), "data: the name is 3. Use a name of TFDS, or one of digits"),
        "load: digit": (lambda c: c.tfdist.data.load("digit"), "Did you mean 'digits'?"),
        "load: a split": (lambda c: c.tfdist.data.load("digits", split="tran"), "Did you mean 'train'?"),
        "load: an option": (lambda c: c.tfdist.data.load("digits", shufle=True), "there is no option shufle."),
        "load: global_batch": (lambda c: c.tfdist.data.load("digits", global_batch="32"), "global_batch is '32'."),
        "from_arrays: global_batch=0": arrays("arrays: global_batch is 0. Use a whole number from 1.", global_batch=0),
        "from_arrays: global_batch=8.0": arrays(
            "arrays: global_batch is 8.0. Use a whole number from 1.", global_batch=8.0
        ),
        "from_arrays: seed='a'": arrays("arrays: seed is 'a'. Use a whole number in 0..4294967295.", seed="a"),
        "from_arrays: shuffle='no'": arrays("arrays: shuffle is 'no'. Use True or False.", shuffle="no"),
        "from_arrays: transform=3": arrays("arrays: transform is 3. Use a function", transform=3),
        "from_arrays: lengths": (
            lambda c: c.tfdist.data.from_arrays(c.x, c.y[:5]),
            "the numbers of rows differ: [5, 8]",
        ),
        "from_arrays: a number": (lambda c: c.tfdist.data.from_arrays(3), "arrays: 3 has no rows."),
        "make_source: no reader": (lambda c: c.tfdist.data.make_source("a", 3, global_batch=8), "a: reader is 3."),
    }


def _functions():
    def strategy(message, *name, **arguments):
        return (lambda c: c.tfdist.choose_strategy(*name, **arguments)), message

    def build(message, name="cnn", classes=10, input_shape=(8, 8, 1), **options):
        return (lambda c: c.tfdist.models.build(name, classes=classes, input_shape=input_shape, **options)), message

    def optimizer(message, name, *given, **options):
        return (lambda c: getattr(c.tfdist.optimizers, name)(*given, **options)), message

    return {
        "choose_strategy: a name": strategy("strategy: 'mirror' is not one of auto, one_device, mirrored", "mirror"),
        "choose_strategy: a number": strategy("strategy: 3 is not one of auto, one_device, mirrored", 3),
        "choose_strategy: replica=2": strategy("there is no argument 'replica'. Did you mean 'replicas'?", replica=2),
        "choose_strategy: replicas='2'": strategy(
            "strategy: replicas is '2'. Use a whole number from 1.", "mirrored", replicas="2"
        ),
        "choose_strategy: replicas=1000": strategy("replicas is 1000, but this machine has no GPU", replicas=1000),
        "choose_strategy: start_seconds": strategy("start_seconds is 'x'. Use a number from 0.", start_seconds="x"),
        "choose_strategy: cluster": strategy("strategy: cluster is 'a:1'. Use tfdist.read_cluster", cluster="a:1"),
        "choose_strategy: tpu": strategy("strategy: tpu is ''. Give the TPU's name or its addresses", tpu=""),
        "choose_strategy: communication": strategy("Did you mean 'nccl'?", "mirrored", communication="ncl", replicas=2),
        "build: ?": build("no model is called '?'. Known: mlp, cnn, resnet20", "?"),
        "build: mpl": build("no model is called 'mpl'. Did you mean 'mlp'?", "mpl"),
        "build: 3": build("no model is called 3. Known: mlp, cnn", 3),
        "build: an option": build("models: cnn takes no option 'filter'. Did you mean 'filters'?", filter=(3,)),
        "build: classes=1": build("classes is 1. Use a whole number of at least 2.", classes=1),
        "build: classes=10.0": build("classes is 10.0. Use a whole number of at least 2.", classes=10.0),
        "build: a shape": build("input_shape is 8.", input_shape=8),
        "WarmUp: after": optimizer("WarmUp: after is '0.1'. Use a finite number from 0", "WarmUp", "0.1", steps=3),
        "WarmUp: steps": optimizer("warm-up: steps is 1.5. Use a whole number from 0.", "WarmUp", 0.1, steps=1.5),
        "WarmUp: no length": optimizer(
            "no length is given. Give exactly one of steps, examples, epochs.", "WarmUp", 0.1
        ),
        "LARS: momentum": optimizer("momentum", "LARS", 0.1, momentum="0.9"),
        "LARS: weight_decay": optimizer("LARS: weight_decay is '1e-4'. Use a finite", "LARS", 0.1, weight_decay="1e-4"),
        "scale_learning_rate": optimizer(
            "learning_rate is '0.1'. Use a finite number above 0.", "scale_learning_rate", "0.1", global_batch=32
        ),
        "reduce_gradients: 3": (
            lambda c: c.tfdist.reduce_gradients(3),
            "reduce_gradients: gradients is 3. Give the list",
        ),
        "apply_gradients: a name": (
            lambda c: c.tfdist.apply_gradients("adam", [1.0], [1.0]),
            "optimizer is 'adam'. Give",
        ),
        "apply_gradients: numbers": (
            lambda c: c.tfdist.apply_gradients(c.optimizer, [1.0], [1.0]),
            "apply_gradients: variables has 1.0. Give variables.",
        ),
        "global_mean: a text": (lambda c: c.tfdist.global_mean("x"), "global_mean: the losses are of type string."),
        "global_mean: a scalar": (lambda c: c.tfdist.global_mean(1.0), "global_mean: one loss per row is needed"),
        "read_cluster: no JSON": (lambda c: c.tfdist.read_cluster({"TF_CONFIG": "{"}), "TF_CONFIG: not JSON"),
    }
