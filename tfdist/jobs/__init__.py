"""`python -m tfdist.jobs`: writes the text of a job for Slurm, Kubernetes, Kubeflow or Azure ML; it submits nothing."""

from tfdist.jobs.config import JobConfig
from tfdist.jobs.text import job_text

__all__ = ["JobConfig", "job_text"]
