"""What other tools call the flags of tfdist's commands, and which command has a flag that another one lacks."""

from collections.abc import Collection

from tfdist.options.fields import flags_of
from tfdist.options.run import RunConfig
from tfdist.process.nearest import did_you_mean

# A name of another tool → the flags of tfdist for it, of which a command has one or none.
_NAMES = {
    "account": ("identity",),
    "batch": ("global_batch", "replica_batch"),
    "batch_size": ("global_batch", "replica_batch"),
    "bf16": ("precision",),
    "checkpoint_dir": ("run_dir",),
    "ckpt_dir": ("run_dir",),
    "compute": ("queue",),
    "compute_target": ("queue",),
    "config": ("recipe",),
    "config_file": ("recipe",),
    "data_path": ("data_dir",),
    "devices": ("replicas",),
    "dtype": ("precision",),
    "fp16": ("precision",),
    "gpus": ("replicas", "gpus_per_node"),
    "gradient_compression": ("compression",),
    "host": ("hosts",),
    "hostfile": ("hosts",),
    "jit": ("jit_compile",),
    "init_checkpoint": ("init_from",),
    "load_weights": ("init_from",),
    "log_dir": ("run_dir",),
    "logdir": ("run_dir",),
    "lora_r": ("lora_rank",),
    "lr": ("learning_rate",),
    "lr_schedule": ("schedule",),
    "lr_scheduler": ("schedule",),
    "lr_scheduler_type": ("schedule",),
    "main_process_port": ("port",),
    "master_addr": ("hosts",),
    "master_port": ("port",),
    "max_steps": ("steps",),
    "micro_batch_size": ("replica_batch",),
    "mixed_precision": ("precision",),
    "model_dir": ("run_dir",),
    "nnodes": ("hosts", "node_count"),
    "nodes": ("hosts", "node_count"),
    "np": ("workers",),
    "nproc": ("workers",),
    "nproc_per_node": ("workers", "processes_per_host", "process_count_per_node"),
    "ntasks_per_node": ("processes_per_host", "process_count_per_node"),
    "num_epochs": ("epochs",),
    "num_gpus": ("replicas",),
    "num_machines": ("hosts",),
    "num_processes": ("workers",),
    "num_replicas": ("replicas",),
    "num_steps": ("steps",),
    "num_train_epochs": ("epochs",),
    "num_workers": ("workers",),
    "partition": ("queue",),
    "output_dir": ("run_dir", "out_dir"),
    "per_device_batch_size": ("replica_batch",),
    "per_device_train_batch_size": ("replica_batch",),
    "pretrained": ("init_from",),
    "random_seed": ("seed",),
    "save_dir": ("run_dir",),
    "save_freq": ("checkpoint_every_steps",),
    "save_steps": ("checkpoint_every_steps",),
    "service_account": ("identity",),
    "sync_bn": ("sync_batchnorm",),
    "train_batch_size": ("global_batch",),
    "train_steps": ("steps",),
    "warmup": ("warmup_epochs",),
    "warmup_steps": ("warmup_epochs",),
    "world_size": ("workers",),
    "xla": ("jit_compile",),
}
# What a strategy is called elsewhere → its name here.
_CHOICES = {
    "gpu": "mirrored",
    "gpus": "mirrored",
    "multi_gpu": "mirrored",
    "cpu": "one_device",
    "multi_node": "multi_worker",
}
_LAUNCH, _TRAIN = "tfdist.launch", "tfdist.train"
# Command → its flags, for the commands above this package; a test compares them.
FLAGS = {
    _TRAIN: ("recipe", *(flag.name for flag in flags_of(RunConfig))),
    _LAUNCH: (
        *("workers", "hosts", "port", "processes_per_host", "divide_cores", "min_workers", "max_restarts"),
        *("backoff_seconds", "grace", "hang_seconds", "first_step_seconds", "chaos", "log_dir", "tee", "quiet"),
        *("python", "env", "dry_run", "tf_config_only"),
    ),
    "tfdist.doctor": (
        *("run_dir", "dataset", "split", "data_dir", "global_batch", "timeout_seconds", "json"),
        *("environment", "acceptance", "only"),
    ),
    "tfdist.verify": ("target", "replicas", "steps", "seed", "sync_batchnorm"),
    "tfdist.bench": (
        *("model", "dataset", "data_dir", "input_shape", "classes", "rows", "replica_batch", "optimizer", "versus"),
        *("scale", "replicas", "steps_per_execution", "jit_compile", "sync_batchnorm", "rounds", "seconds"),
        *("least_steps", "seed", "against", "out_dir", "profile_steps", "timeout_seconds"),
    ),
    "tfdist.report": ("run_dir", "out", "text", "live", "port"),
    "tfdist.jobs": (
        *("target", "kind", "distribution", "name", "node_count", "process_count_per_node", "gpus_per_node"),
        *("cpus_per_node", "memory_gib_per_node", "queue", "identity", "secrets", "image", "volumes", "python"),
        *("source_directory", "entry_script", "script_params", "pip_packages", "conda_packages", "run_dir"),
        *("data_dir", "network", "port", "timeout_seconds", "grace_seconds", "max_restarts"),
    ),
}


def advise(name: str, command: str, known: Collection[str]) -> str:
    """Returns what to do about a flag that a command does not have.

    Args:
        name: the flag's name as it was given.
        command: the command, such as "tfdist.train".
        known: the names of its flags.

    Returns:
        Such as " Did you mean --global_batch?", or "" where nothing is known.
    """
    word = name.strip("-").replace("-", "_").lower()
    meant = (word, *_NAMES.get(word, ()))
    here = [flag for flag in meant if flag in known]
    if here:
        return f" Did you mean --{here[0]}?"
    there = next((flag for flag in meant if any(flag in flags for flags in FLAGS.values())), None)
    if there is None:
        return ""
    commands = [other for other, flags in FLAGS.items() if there in flags]
    if _LAUNCH in commands:
        return f" --{there} is a flag of {_LAUNCH}: python -m {_LAUNCH} --{there}=… -- -m {command} …"
    if command == _LAUNCH and _TRAIN in commands:
        return f" --{there} is a flag of {_TRAIN}. Put it after ` -- `: … -- -m {_TRAIN} --{there}=…"
    return f" --{there} is a flag of {' and of '.join(commands)}."


def suggest_value(message: str) -> str:
    """Returns a suggestion for the message of absl about a value that is not one of a flag's choices; else ""."""
    head, _, choices = message.partition(": value should be one of <")
    return suggest_choice(head.partition("=")[2], choices.rstrip(">").split("|")) if choices else ""


def suggest_choice(word: str, choices: Collection[str]) -> str:
    """Returns " Did you mean 'x'?" for the choice that has a word as its other name, or is most like it; else ""."""
    meant = _CHOICES.get(str(word).lower())
    return f" Did you mean {meant!r}?" if meant in choices else did_you_mean(word, choices)
