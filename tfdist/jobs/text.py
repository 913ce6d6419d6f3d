"""A `JobConfig` → the text of its job."""

from tfdist.jobs.azureml import azureml_text
from tfdist.jobs.config import JobConfig
from tfdist.jobs.kubernetes import kubernetes_text
from tfdist.jobs.slurm import slurm_text
from tfdist.jobs.tfjob import tfjob_text

_MAKERS = {"slurm": slurm_text, "kubernetes": kubernetes_text, "tfjob": tfjob_text, "azureml": azureml_text}


def job_text(config: JobConfig) -> str:
    """Returns the text of a job: it starts again what can go on, and its last line says how to submit it.

    Args:
        config: the `JobConfig`.

    Example:
        ```python
        import pathlib

        from tfdist.jobs import JobConfig, job_text

        for rate in ("0.1", "0.01"):
            config = JobConfig(target="slurm", entry_script="train.py", script_params={"--learning_rate": rate})
            pathlib.Path(f"rate-{rate}.sh").write_text(job_text(config))
        ```
    """
    return _MAKERS[str(config.target)](config)
