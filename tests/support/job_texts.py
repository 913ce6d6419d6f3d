"""Texts of jobs for Kubernetes, as data, and the schema of Kubernetes."""

import kubernetes_validate
import yaml

from tfdist.jobs import JobConfig, job_text

_VERSION = "1.30"
KUBERNETES = JobConfig(
    target="kubernetes",
    name="digits",
    node_count=2,
    gpus_per_node=2,
    cpus_per_node=4,
    memory_gib_per_node=16,
    queue="gpus",
    identity="trainer",
    secrets=("wandb",),
    image="image:1",
    volumes=("runs:/runs",),
    source_directory="/code",
    run_dir="/runs/1",
    timeout_seconds=3600,
    command=("-m", "tfdist.train"),
)


def documents(config):
    """Returns the documents of a job's text by their kinds."""
    return {document["kind"]: document for document in yaml.safe_load_all(job_text(config))}


def check_schema(document):
    """Fails where a document is not as the schema of its kind says, or where it has more."""
    try:
        kubernetes_validate.validate(document, _VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise AssertionError(f"{document['kind']}: {error}") from error
