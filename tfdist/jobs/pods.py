"""What the texts for Kubernetes have in common: the pod of a worker, and the network that only workers may use."""

from typing import Any

from tfdist.jobs.config import JobConfig
from tfdist.jobs.shell import nccl_environment
from tfdist.jobs.yaml_text import yaml_text

PORT = 2222


def port_of(config: JobConfig) -> int:
    """Returns the port of the workers."""
    return config.port or PORT


def metadata(config: JobConfig) -> dict[str, Any]:
    """Returns the metadata of a job, with the queue of Kueue where one is given."""
    queue = {"labels": {"kueue.x-k8s.io/queue-name": config.queue}} if config.queue else {}
    return {"name": config.name, **queue}


def labels(config: JobConfig) -> dict[str, str]:
    """Returns the label of the workers' pods, by which the Service and the NetworkPolicy find them."""
    return {"tfdist/job": config.name}


def make_pod(config: JobConfig, script: str, *, environment: dict[str, str], ports: list[Any]) -> dict[str, Any]:
    """Returns the `spec` of a worker's pod.

    Args:
        config: the `JobConfig`.
        script: what its shell runs.
        environment: the variables that the scheduler does not set.
        ports: the container's named ports.
    """
    variables = {"PYTHONUNBUFFERED": "1", **nccl_environment(config), **environment}
    mounts = {"shm": "/dev/shm", **{_volume(claim): folder for claim, folder in config.mounts.items()}}
    resources = _resources(config)
    container = {
        "name": "tensorflow",
        "image": config.image,
        # Not sh, because the log needs a process substitution.
        "command": ["bash", "-c", script],
        **({"workingDir": config.source_directory} if config.source_directory else {}),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        **({"envFrom": [{"secretRef": {"name": name}} for name in config.secrets]} if config.secrets else {}),
        **({"ports": ports} if ports else {}),
        **({"resources": resources} if resources else {}),
        "volumeMounts": [{"name": name, "mountPath": folder} for name, folder in mounts.items()],
    }
    # NCCL and data pipelines need more than the 64 MiB that a container has there.
    volumes = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
    volumes += [{"name": _volume(name), "persistentVolumeClaim": {"claimName": name}} for name in config.mounts]
    return {
        "terminationGracePeriodSeconds": config.grace_seconds,
        "automountServiceAccountToken": config.identity is not None,
        **({"serviceAccountName": config.identity} if config.identity else {}),
        "containers": [container],
        "volumes": volumes,
    }


def make_network_policy(config: JobConfig) -> dict[str, Any]:
    """Returns a NetworkPolicy: only the job's workers reach its workers, because TensorFlow asks for no password.

    It names no port, because NCCL opens others.
    """
    workers = {"podSelector": {"matchLabels": labels(config)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": config.name},
        "spec": {**workers, "policyTypes": ["Ingress"], "ingress": [{"from": [workers]}]},
    }


def join(config: JobConfig, documents: list[dict[str, Any]], *, about: str) -> str:
    """Returns the text of several documents, with a comment before them and the line that submits them at the end."""
    head = f"# Made by python -m tfdist.jobs {config.target}. {about}\n"
    return head + "---\n".join(map(yaml_text, documents)) + f"# kubectl apply --filename={config.name}.yaml\n"


def _volume(claim: str) -> str:
    """Returns the name of a claim's volume, in which a dot may not stand."""
    return f"claim-{claim.replace('.', '-')}"


def _resources(config: JobConfig) -> dict[str, Any]:
    """Returns a worker's share of its node."""
    requests: dict[str, Any] = {}
    if config.cpus_per_node:
        requests["cpu"] = config.cpus_per_node // config.process_count_per_node
    if config.memory_gib_per_node:
        requests["memory"] = f"{config.memory_gib_per_node // config.process_count_per_node}Gi"
    limits = {"nvidia.com/gpu": config.gpus_per_node // config.process_count_per_node} if config.gpus_per_node else {}
    return {name: value for name, value in (("requests", requests), ("limits", limits)) if value}
