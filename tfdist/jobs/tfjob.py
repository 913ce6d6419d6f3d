"""Kubeflow's TFJob, of the training operator v1: it sets TF_CONFIG in each worker's pod."""

from tfdist.jobs.config import JobConfig
from tfdist.jobs.pods import join, labels, make_network_policy, make_pod, metadata, port_of
from tfdist.jobs.shell import command_line, container_lines, restarted

# `restartPolicy: ExitCode` ends the job on each code below 128, also on 75 and 76, and starts a pod again for each code
# above without a limit; `OnFailure` starts a container again on 2 and 77 too. So the script of the container counts.
_POLICY, _AGAIN = "ExitCode", 138
_ABOUT = "Exit codes 2 and 77 end the job; after others the container starts the command again."


def tfjob_text(config: JobConfig) -> str:
    """Returns the text of a job for Kubeflow's training operator."""
    command = command_line(config, run_dir=config.run_dir, data_dir=config.data_dir)
    script = restarted(config, command, before=container_lines(config), asked_code=_AGAIN)
    ports = [{"name": "tfjob-port", "containerPort": port_of(config)}]
    # A sidecar would stand between the workers.
    annotations = {"sidecar.istio.io/inject": "false"}
    template = {
        "metadata": {"labels": labels(config), "annotations": annotations},
        "spec": make_pod(config, script, environment={}, ports=ports),
    }
    job = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": metadata(config),
        "spec": {
            "runPolicy": {
                # The pods stay, and so do their logs.
                "cleanPodPolicy": "None",
                **({"activeDeadlineSeconds": config.timeout_seconds} if config.timeout_seconds else {}),
            },
            "tfReplicaSpecs": {"Worker": {"replicas": config.size, "restartPolicy": _POLICY, "template": template}},
        },
    }
    return join(config, [job, make_network_policy(config)], about=_ABOUT)
