"""The options of a job, and the checks of each against the scheduler it is for."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from tfdist.options.checks import check_fields
from tfdist.options.fields import documented, option
from tfdist.process.errors import UsageError

TARGETS = ("slurm", "kubernetes", "tfjob", "azureml")
_PODS = ("kubernetes", "tfjob")
_NOT_AZURE = ("slurm", *_PODS)
# Field → the targets on which it changes something, and what to do on the others.
_TARGETS_OF = {
    "kind": (("kubernetes",), "Leave it out"),
    "distribution": (("azureml",), "Leave it out"),
    "gpus_per_node": (_NOT_AZURE, "The compute that queue names has its GPUs; leave it out"),
    "cpus_per_node": (_NOT_AZURE, "The compute that queue names has its processors; leave it out"),
    "memory_gib_per_node": (_NOT_AZURE, "The compute that queue names has its memory; leave it out"),
    "image": ((*_PODS, "azureml"), "The job runs the nodes' own Python; python names it"),
    "secrets": (_PODS, "Let the program read them from a file or a vault; identity names who it is"),
    "volumes": (_PODS, "Leave it out: run_dir and data_dir say where the folders are"),
    "port": (_NOT_AZURE, "Azure ML chooses the ports; leave it out"),
    "grace_seconds": (_NOT_AZURE, "Azure ML has no such setting; leave it out"),
}


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class JobConfig:
    """What a job runs, where, and on how many nodes; checked when made.

    Example:
        ```python
        from tfdist.jobs import JobConfig, job_text

        config = JobConfig(
            target="slurm",
            name="digits",
            node_count=2,
            run_dir="/shared/runs/digits",
            command=("-m", "tfdist.train", "--epochs=5"),
        )
        assert "#SBATCH --nodes=2" in job_text(config)
        ```

    Raises:
        ValueError: an option is wrong, or has no effect on this target; the message names it and the remedy.

    Attributes:
        command: The words after `python`: `-m module …` or `script.py …`; the flags have them after ` -- `.
    """

    target: str | None = option(
        None, choices=TARGETS, help="The scheduler that runs the job; also without --target=.", shown="none"
    )
    command: tuple[str, ...] = ()
    kind: str = option(
        "jobset",
        choices=("jobset", "job"),
        help="Kubernetes: a JobSet, which a controller of its own runs, or an Indexed Job, which each cluster can run.",
    )
    distribution: str = option(
        "tensorflow", choices=("tensorflow", "mpi"), help="Azure ML: how it tells the processes of one another."
    )
    name: str = option("tfdist", help="The job's name: lower-case letters, digits and '-'.")
    node_count: int = option(1, help="Nodes.", least=1)
    process_count_per_node: int = option(1, help="Workers on each node, which divide its GPUs.", least=1)
    gpus_per_node: int = option(0, help="GPUs of each node.", least=0)
    cpus_per_node: int | None = option(
        None, help="Processors of each node.", shown="as many as the scheduler gives", least=1
    )
    memory_gib_per_node: int | None = option(
        None, help="GiB of memory of each node.", shown="as much as the scheduler gives", least=1
    )
    queue: str | None = option(None, help="Slurm's partition, Azure ML's compute, or the local queue of Kueue.")
    identity: str | None = option(
        None,
        help="Who the job is: Slurm's account, Kubernetes' service account, or Azure ML's kind of identity "
        "(user_identity, managed, aml_token).",
    )
    secrets: tuple[str, ...] = option(
        (), help="Names of Kubernetes' Secrets, whose keys become environment variables.", shown="none"
    )
    image: str | None = option(
        None, help="The container's image, with tfdist in it. Azure ML: also azureml:NAME@latest, an environment."
    )
    volumes: tuple[str, ...] = option(
        (), help="Kubernetes' volume claims and where they are mounted, such as runs:/runs,data:/data.", shown="none"
    )
    python: str = option("python", help="The interpreter on the nodes.")
    source_directory: str | None = option(
        None,
        help="The folder with the code, in which the command starts. Azure ML uploads it.",
        shown="the current one",
    )
    entry_script: str | None = option(None, help="The script to run, in place of a command after ` -- `.")
    script_params: str | Mapping[str, Any] | None = option(
        None, help="""Its flags as JSON; a flag without a value has "": {"--epochs": 5, "--verbose": ""}."""
    )
    pip_packages: tuple[str, ...] = option((), help="Packages that pip installs before the start.", shown="none")
    conda_packages: tuple[str, ...] = option((), help="Packages that conda installs before the start.", shown="none")
    run_dir: str | None = option(
        None,
        help="The run's folder, on storage that all nodes see and that outlives them; the command gets it as "
        "--run_dir. Azure ML: azureml://datastores/…",
    )
    data_dir: str | None = option(
        None,
        help="The folder with the data; the command gets it as --data_dir. Azure ML: azureml:NAME@latest or a URI.",
    )
    network: str | None = option(
        None,
        choices=("tcp", "infiniband"),
        help="The only network that NCCL may use between nodes.",
        shown="NCCL chooses",
    )
    port: int | None = option(
        None,
        help="The port of the workers; those of one node count up.",
        shown="2222; on Slurm made from the job's number",
        least=1024,
        most=65000,
    )
    timeout_seconds: int | None = option(
        None, help="The longest time of the job.", shown="the scheduler's own", least=60
    )
    grace_seconds: int = option(
        120, help="Seconds to save in, from the signal before the end to SIGKILL.", least=1, most=65535
    )
    max_restarts: int = option(
        10, help="Starts after failures; a run that was asked to stop goes on all the same.", least=0
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.target is None:
            raise UsageError(f"target is not given. Use one of {', '.join(TARGETS)}.")
        for field in dataclasses.fields(self):
            # A second line would be a command of its own.
            if any(isinstance(text, str) and "\n" in text for text in _items(getattr(self, field.name))):
                raise UsageError(f"{field.name} is {getattr(self, field.name)!r}. Use text of one line.")
        self._check_effects()
        self._check_target()
        self._check_name()
        self._check_shares()
        self._check_command()
        self._check_folders()

    @property
    def size(self) -> int:
        """The number of workers."""
        return self.node_count * self.process_count_per_node

    @property
    def mounts(self) -> dict[str, str]:
        """The volume claims: name → folder."""
        return {claim: folder for claim, _, folder in (volume.partition(":") for volume in self.volumes)}

    @property
    def script(self) -> tuple[str, ...]:
        """The words after `python`, without those of the folders."""
        if not self.entry_script:
            return self.command
        return (self.entry_script, *_read_params(self.script_params or {}))

    def _check_effects(self) -> None:
        for field in dataclasses.fields(self):
            targets, remedy = _TARGETS_OF.get(field.name, (TARGETS, ""))
            value = getattr(self, field.name)
            if self.target not in targets and value != field.default:
                raise UsageError(
                    f"{field.name} is {value!r}, which has no effect with target {self.target!r}. {remedy}."
                )

    def _check_target(self) -> None:
        if self.target != "slurm" and not self.image:
            raise UsageError(f"image is not given. Give the container's image: {self.target} starts containers.")
        if self.target != "azureml":
            return
        if not self.queue:
            raise UsageError("queue is not given. Give the name of Azure ML's compute.")
        if self.identity not in (None, "user_identity", "managed", "aml_token"):
            raise UsageError(f"identity is {self.identity!r}. Use user_identity, managed or aml_token with azureml.")
        if self.distribution == "tensorflow" and self.process_count_per_node > 1:
            raise UsageError(
                f"process_count_per_node is {self.process_count_per_node}, but Azure ML's distribution tensorflow "
                "starts one process on each node. Use distribution mpi."
            )
        if (self.pip_packages or self.conda_packages) and str(self.image).startswith("azureml:"):
            raise UsageError(
                f"pip_packages and conda_packages make an environment from an image, but image is {self.image!r}, an "
                "environment that exists. Give the name of an image, or leave the packages out."
            )

    def _check_name(self) -> None:
        # The names of pods are longer, and a label of the DNS has 63 characters.
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", self.name):
            raise UsageError(
                f"name is {self.name!r}. Use lower-case letters, digits and '-', a letter first, 40 characters at most."
            )

    def _check_shares(self) -> None:
        processes = self.process_count_per_node
        if self.gpus_per_node % processes:
            raise UsageError(
                f"gpus_per_node is {self.gpus_per_node}, and process_count_per_node is {processes}: the GPUs do not "
                "divide evenly. Use a number of processes that divides the number of GPUs."
            )
        for name in ("cpus_per_node", "memory_gib_per_node"):
            value = getattr(self, name)
            if value is not None and value < processes:
                raise UsageError(
                    f"{name} is {value}, less than one for each of {processes} processes. Use {processes} or more."
                )
        if self.timeout_seconds is not None and self.timeout_seconds <= self.grace_seconds:
            raise UsageError(
                f"timeout_seconds is {self.timeout_seconds}, and grace_seconds is {self.grace_seconds}: the job would "
                "save as soon as it starts. Use a longer time."
            )

    def _check_command(self) -> None:
        if bool(self.command) == bool(self.entry_script):
            what = "both a command and entry_script are given" if self.command else "nothing to run"
            raise UsageError(f"{what}. Put `-m module …` or `script.py …` after ` -- `, or give entry_script.")
        if self.script_params is not None and not self.entry_script:
            raise UsageError("script_params are flags of entry_script, which is not given. Give it too.")
        first, *rest = self.script
        if re.fullmatch(r"(.*/)?python[\d.]*", first):
            raise UsageError(
                f"{first!r} comes before the script by itself. Leave it out; python names another interpreter."
            )
        if any(re.match("--?run_dir(=|$)", word) for word in rest):
            raise UsageError("the command has --run_dir, but the job must know the folder too. Put it before ` -- `.")

    def _check_folders(self) -> None:
        if self.run_dir is None and self.command[:2] == ("-m", "tfdist.train"):
            raise UsageError(
                "run_dir is not given, so that a restart would begin anew. Give a folder that all nodes see and that "
                "outlives them."
            )
        for name in ("source_directory", "entry_script", "run_dir", "data_dir"):
            if getattr(self, name) == "":
                raise UsageError(f"{name} is empty. Give a path, or leave it out.")
        for volume in self.volumes:
            if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?:/.+", volume):
                raise UsageError(f"volumes has {volume!r}. Write CLAIM:/folder.")
        if len(self.mounts) < len(self.volumes):
            raise UsageError(
                f"volumes is {self.volumes!r}, with a claim that is there twice. Mount it once, above both."
            )
        on_volume = (f"{self.run_dir}/".startswith(f"{folder.rstrip('/')}/") for folder in self.mounts.values())
        if self.target in _PODS and self.run_dir is not None and not any(on_volume):
            raise UsageError(
                f"run_dir is {self.run_dir!r}, which is on none of the volumes, so that it ends with its pod. Give "
                "volumes with a claim that is mounted there or above, such as CLAIM:/runs."
            )
        for name in ("run_dir", "data_dir"):
            value = getattr(self, name)
            if self.target == "azureml" and value is not None and not value.startswith("azureml:"):
                raise UsageError(f"{name} is {value!r}. Use azureml://datastores/NAME/paths/… with azureml.")


def _items(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _read_params(params: str | Mapping[str, Any]) -> list[str]:
    """Returns the words of `script_params`.

    Raises:
        UsageError: they are no object of flags.
    """
    flags: Any = params
    if isinstance(params, str):
        try:
            flags = json.loads(params)
        except ValueError as error:
            raise UsageError(f"script_params is {params!r}, which is not JSON: {error}.") from None
    if not isinstance(flags, Mapping) or not all(re.match("--?[A-Za-z]", str(name)) for name in flags):
        raise UsageError(f'script_params is {params!r}. Use an object of flags, such as {{"--epochs": 5}}.')
    return [word for name, value in flags.items() for word in (name, str(value)) if word]
