"""Azure ML's command job; where its package is installed, that package reads the text."""

import dataclasses
import subprocess

import pytest
import yaml

from tfdist.jobs import JobConfig, job_text

CONFIG = JobConfig(
    target="azureml",
    name="digits",
    node_count=2,
    queue="cluster",
    image="image:1",
    pip_packages=("tfdist", "einops"),
    conda_packages=("ffmpeg",),
    run_dir="azureml://datastores/workspaceblobstore/paths/runs/1",
    data_dir="azureml:digits@latest",
    identity="user_identity",
    timeout_seconds=3600,
    command=("-m", "tfdist.train"),
)
MPI = dataclasses.replace(CONFIG, distribution="mpi", process_count_per_node=4)


def read(config):
    return yaml.safe_load(job_text(config))


def test_packages_make_an_environment():
    dependencies = ["python=3.11", "ffmpeg", "pip", {"pip": ["tfdist", "einops"]}]
    conda = {"name": "digits", "channels": ["conda-forge"], "dependencies": dependencies}
    assert read(CONFIG)["environment"] == {"image": "image:1", "conda_file": conda}
    own = dataclasses.replace(CONFIG, conda_packages=("python=3.12",), pip_packages=())
    assert read(own)["environment"]["conda_file"]["dependencies"] == ["python=3.12"]
    assert "pip install" not in read(CONFIG)["command"]


def test_the_script_is_one_for_any_shell(tmp_path):
    script = tmp_path / "script.sh"
    script.write_text(read(CONFIG)["command"])
    # dash refuses what only bash knows.
    subprocess.run(["sh", "-n", script], check=True, timeout=10)


# Its package warns of what it imports itself.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "distribution"),
    [
        (CONFIG, {"type": "tensorflow", "worker_count": 2}),
        (MPI, {"type": "mpi", "process_count_per_instance": 4}),
    ],
)
def test_azure_ml_reads_it(config, distribution, tmp_path):
    assert read(config)["distribution"] == distribution
    azure = pytest.importorskip("azure.ai.ml", reason="make full installs azure-ai-ml")
    path = tmp_path / "job.yaml"
    path.write_text(job_text(config))
    job = azure.load_job(path)
    assert (job.resources.instance_count, job.distribution.type) == (2, distribution["type"])
    assert (job.limits.timeout, job.compute) == (3600, "cluster")
    assert job.outputs["run_dir"].path == CONFIG.run_dir
    assert job.environment.image == "image:1"
