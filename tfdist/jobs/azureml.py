"""Azure ML's command job, version 2: it sets TF_CONFIG in each process, or starts them with mpirun."""

from typing import Any

from tfdist.jobs.config import JobConfig
from tfdist.jobs.shell import command_line, nccl_environment, restarted
from tfdist.jobs.yaml_text import yaml_text
from tfdist.process.exits import STOPPED

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"
# Where the tests run; a package of this name among `conda_packages` takes its place.
_PYTHON = "python=3.11"
_ABOUT = "Exit codes 2 and 77 end the job; after others the command starts again."


def azureml_text(config: JobConfig) -> str:
    """Returns the text of a command job for Azure ML."""
    run_dir, data_dir = config.run_dir and "${{outputs.run_dir}}", config.data_dir and "${{inputs.data_dir}}"
    # Azure ML keeps the logs, and the environment has the packages.
    command = command_line(config, run_dir=run_dir, data_dir=data_dir)
    script = restarted(config, command, before=[], asked_code=STOPPED)
    job = {
        "$schema": _SCHEMA,
        "type": "command",
        "display_name": config.name,
        "experiment_name": config.name,
        "code": config.source_directory or ".",
        "command": script,
        "environment": _environment(config),
        "environment_variables": {"PYTHONUNBUFFERED": "1", **nccl_environment(config)},
        "compute": f"azureml:{config.queue}",
        "resources": {"instance_count": config.node_count},
        "distribution": _distribution(config),
        **_folder("inputs", "data_dir", config.data_dir, "ro_mount"),
        **_folder("outputs", "run_dir", config.run_dir, "rw_mount"),
        **({"identity": {"type": config.identity}} if config.identity else {}),
        **({"limits": {"timeout": config.timeout_seconds}} if config.timeout_seconds else {}),
    }
    head, last = f"# Made by python -m tfdist.jobs azureml. {_ABOUT}", f"# az ml job create --file {config.name}.yaml"
    return f"{head}\n{yaml_text(job)}{last}\n"


def _distribution(config: JobConfig) -> dict[str, Any]:
    if config.distribution == "mpi":
        return {"type": "mpi", "process_count_per_instance": config.process_count_per_node}
    return {"type": "tensorflow", "worker_count": config.size}


def _environment(config: JobConfig) -> str | dict[str, Any]:
    """Returns the name of an environment, or a new one from an image and packages."""
    if config.image and config.image.startswith("azureml:"):
        return config.image
    environment: dict[str, Any] = {"image": config.image}
    if config.pip_packages or config.conda_packages:
        has_python = any(package.startswith("python=") for package in config.conda_packages)
        packages: list[Any] = [*(() if has_python else (_PYTHON,)), *config.conda_packages]
        if config.pip_packages:
            packages += ["pip", {"pip": list(config.pip_packages)}]
        environment["conda_file"] = {"name": config.name, "channels": ["conda-forge"], "dependencies": packages}
    return environment


def _folder(side: str, name: str, path: str | None, mode: str) -> dict[str, Any]:
    return {side: {name: {"type": "uri_folder", "path": path, "mode": mode}}} if path is not None else {}
