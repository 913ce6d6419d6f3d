"""Kubernetes: a JobSet, or an Indexed Job with a headless Service; a pod is a worker."""

from typing import Any

from tfdist.jobs.config import JobConfig
from tfdist.jobs.pods import join, labels, make_network_policy, make_pod, metadata, port_of
from tfdist.jobs.shell import FINAL, command_line, container_lines, once
from tfdist.process.exits import STOPPED

_ABOUT = "Exit codes 2 and 77 end the job; after others it starts again, and 75 counts as no restart."


def kubernetes_text(config: JobConfig) -> str:
    """Returns the text of a job for Kubernetes."""
    workload = [_make_job_set(config)] if config.kind == "jobset" else [_make_service(config), _make_job(config)]
    return join(config, [*workload, make_network_policy(config)], about=_ABOUT)


def _make_job_set(config: JobConfig) -> dict[str, Any]:
    job = _job_spec(config, hosts=f"{config.name}-worker-0-{{0..{config.size - 1}}}.{config.name}", failures=0)
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata(config),
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": config.name, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": config.max_restarts,
                # No new pod starts before the old ones are gone.
                "restartStrategy": "BlockingRecreate",
                "rules": [
                    {
                        "name": "final",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy", "DeadlineExceeded"],
                    }
                ],
            },
            "replicatedJobs": [{"name": "worker", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _make_job(config: JobConfig) -> dict[str, Any]:
    # Each worker that loses another one fails too.
    failures = config.max_restarts * config.size
    job = _job_spec(config, hosts=f"{config.name}-{{0..{config.size - 1}}}.{config.name}", failures=failures)
    job["template"]["spec"]["subdomain"] = config.name
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(config), "spec": job}


def _make_service(config: JobConfig) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": config.name},
        # Without an address of its own: each pod has a name. The workers meet before they are ready.
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels(config)},
    }


def _job_spec(config: JobConfig, *, hosts: str, failures: int) -> dict[str, Any]:
    """Returns the `spec` of an Indexed Job.

    Args:
        config: the `JobConfig`.
        hosts: the rule for the names of the pods, as TFDIST_WORKERS has it.
        failures: the number of failed pods that it takes.
    """
    command = command_line(config, run_dir=config.run_dir, data_dir=config.data_dir)
    script = once(command, before=container_lines(config))
    environment = {"TFDIST_WORKERS": f"{hosts}:{port_of(config)}"}
    return {
        "completionMode": "Indexed",
        "completions": config.size,
        "parallelism": config.size,
        "backoffLimit": failures,
        **({"activeDeadlineSeconds": config.timeout_seconds} if config.timeout_seconds else {}),
        "podFailurePolicy": {"rules": [_rule("FailJob", FINAL), _rule("Ignore", (STOPPED,))]},
        "template": {
            "metadata": {"labels": labels(config)},
            "spec": {"restartPolicy": "Never", **make_pod(config, script, environment=environment, ports=[])},
        },
    }


def _rule(action: str, codes: tuple[int, ...]) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"containerName": "tensorflow", "operator": "In", "values": list(codes)}}
