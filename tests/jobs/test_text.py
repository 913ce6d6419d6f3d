"""The texts of jobs: whole ones, and which lines each option changes."""

import collections
import dataclasses
import shlex

import pytest
import yaml
from support.processes import REPOSITORY

from tfdist.jobs import JobConfig, job_text
from tfdist.jobs.flags import read_config

GOLDEN = REPOSITORY / "tests" / "jobs" / "golden"
# File → the command line that prints it: python -m tfdist.jobs …
CASES = {
    "slurm.sh": "slurm --name=digits --node_count=2 --process_count_per_node=4 --gpus_per_node=4 --cpus_per_node=32 "
    "--memory_gib_per_node=64 --queue=gpu --identity=lab --timeout_seconds=86400 --source_directory=/home/me/digits "
    "--python=.venv/bin/python --run_dir=/shared/runs/1 -- -m tfdist.train --recipe=recipe.py",
    "jobset.yaml": "kubernetes --name=digits --node_count=4 --gpus_per_node=8 --image=registry:5000/tfdist:1 "
    "--volumes=runs:/runs,data:/data --run_dir=/runs/1 --data_dir=/data/digits --secrets=wandb --identity=trainer "
    "--queue=gpus -- -m tfdist.train --start_seconds=600",
    "job.yaml": "kubernetes --kind=job --name=digits --node_count=2 --image=tfdist:1 --entry_script=train.py "
    """--script_params='{"--epochs": 5, "--verbose": ""}' --pip_packages=einops""",
    "tfjob.yaml": "tfjob --name=digits --node_count=2 --process_count_per_node=2 --gpus_per_node=4 --image=tfdist:1 "
    "--volumes=runs:/runs --run_dir=/runs/1 --timeout_seconds=3600 -- -m tfdist.train",
    "azureml_tensorflow.yaml": "azureml --name=digits --node_count=2 --image=image:1 --queue=cluster "
    "--pip_packages=tfdist,einops --conda_packages=ffmpeg --source_directory=src --entry_script=train.py "
    "--run_dir=azureml://datastores/workspaceblobstore/paths/runs/1 --data_dir=azureml:digits@latest "
    "--identity=user_identity --timeout_seconds=3600",
    "azureml_mpi.yaml": "azureml --name=digits --node_count=2 --process_count_per_node=4 --distribution=mpi "
    "--network=infiniband --image=azureml:tfdist@latest --queue=cluster -- train.py",
}
AZURE_RUN, AZURE_DATA = "azureml://datastores/store/paths/runs/1", "azureml:digits@latest"
TRAIN = ("-m", "tfdist.train")
PODS = {"image": "image:1", "volumes": ("runs:/runs",), "run_dir": "/runs/1", "command": TRAIN}
BASES = {
    "slurm": JobConfig(target="slurm", run_dir="/runs/1", command=TRAIN),
    "kubernetes": JobConfig(target="kubernetes", **PODS),
    "job": JobConfig(target="kubernetes", kind="job", **PODS),
    "tfjob": JobConfig(target="tfjob", **PODS),
    "azureml": JobConfig(target="azureml", image="image:1", queue="cpus", run_dir=AZURE_RUN, command=TRAIN),
}
GPU = ["resources:", "limits:"]
CLAIM = ["- name: claim-data", "mountPath: /data", "- name: claim-data", "persistentVolumeClaim:", "claimName: data"]
SECRET = ["envFrom:", "- secretRef:", "name: wandb"]
NCCL = ["- name: NCCL_NET", "value: IB"]
# (base, what is changed, the lines that are new).
CHANGES = [
    ("slurm", {"name": "b"}, ["#SBATCH --job-name=b", "# sbatch b.sh"]),
    ("slurm", {"node_count": 3}, ["#SBATCH --nodes=3"]),
    ("slurm", {"process_count_per_node": 2}, ["#SBATCH --ntasks-per-node=2"]),
    ("slurm", {"gpus_per_node": 4}, ["#SBATCH --gpus-per-node=4"]),
    ("slurm", {"cpus_per_node": 8}, ["#SBATCH --cpus-per-task=8", "export SRUN_CPUS_PER_TASK=8"]),
    ("slurm", {"memory_gib_per_node": 64}, ["#SBATCH --mem=64G"]),
    ("slurm", {"queue": "gpu"}, ["#SBATCH --partition=gpu"]),
    ("slurm", {"identity": "lab"}, ["#SBATCH --account=lab"]),
    ("slurm", {"source_directory": "/a b"}, ["#SBATCH --chdir='/a b'"]),
    ("slurm", {"pip_packages": ("a>=1", "b")}, ["python -m pip install --quiet 'a>=1' b || exit"]),
    ("slurm", {"conda_packages": ("a",)}, ["conda install --yes --quiet a || exit"]),
    ("slurm", {"network": "tcp"}, ["export NCCL_NET=Socket"]),
    ("slurm", {"network": "infiniband"}, ["export NCCL_NET=IB"]),
    ("slurm", {"port": 3000}, ["export TFDIST_PORT=3000"]),
    ("slurm", {"timeout_seconds": 90061}, ["#SBATCH --time=25:01:01"]),
    (
        "kubernetes",
        {"node_count": 2},
        ["completions: 2", "parallelism: 2", 'value: "tfdist-worker-0-{0..1}.tfdist:2222"'],
    ),
    ("kubernetes", {"gpus_per_node": 2}, [*GPU, "nvidia.com/gpu: 2"]),
    ("kubernetes", {"cpus_per_node": 4}, ["resources:", "requests:", "cpu: 4"]),
    ("kubernetes", {"memory_gib_per_node": 9}, ["resources:", "requests:", 'memory: "9Gi"']),
    ("kubernetes", {"queue": "gpus"}, ["labels:", "kueue.x-k8s.io/queue-name: gpus"]),
    ("kubernetes", {"identity": "me"}, ["automountServiceAccountToken: true", "serviceAccountName: me"]),
    ("kubernetes", {"secrets": ("wandb",)}, SECRET),
    ("kubernetes", {"image": "other:2"}, ["image: other:2"]),
    ("kubernetes", {"volumes": ("runs:/runs", "data:/data")}, CLAIM),
    ("kubernetes", {"source_directory": "/code"}, ["workingDir: /code"]),
    ("kubernetes", {"pip_packages": ("a",)}, ["python -m pip install --quiet a || exit"]),
    ("kubernetes", {"conda_packages": ("a",)}, ["conda install --yes --quiet a || exit"]),
    ("kubernetes", {"network": "infiniband"}, NCCL),
    ("kubernetes", {"port": 3000}, ['value: "tfdist-worker-0-{0..0}.tfdist:3000"']),
    ("kubernetes", {"timeout_seconds": 600}, ["activeDeadlineSeconds: 600"]),
    ("kubernetes", {"grace_seconds": 30}, ["terminationGracePeriodSeconds: 30"]),
    ("kubernetes", {"max_restarts": 3}, ["maxRestarts: 3"]),
    ("job", {"max_restarts": 3}, ["backoffLimit: 3"]),
    (
        "job",
        {"process_count_per_node": 2},
        ["completions: 2", "parallelism: 2", "backoffLimit: 20", 'value: "tfdist-{0..1}.tfdist:2222"'],
    ),
    ("tfjob", {"node_count": 2}, ["replicas: 2"]),
    ("tfjob", {"process_count_per_node": 2}, ["replicas: 2"]),
    ("tfjob", {"port": 3000}, ["containerPort: 3000"]),
    ("tfjob", {"timeout_seconds": 600}, ["activeDeadlineSeconds: 600"]),
    ("tfjob", {"max_restarts": 3}, ["*) if [ $restarts -ge 3 ]; then leave 1; fi"]),
    ("tfjob", {"queue": "gpus"}, ["labels:", "kueue.x-k8s.io/queue-name: gpus"]),
    ("azureml", {"name": "b"}, ["display_name: b", "experiment_name: b", "# az ml job create --file b.yaml"]),
    ("azureml", {"node_count": 2}, ["instance_count: 2", "worker_count: 2"]),
    ("azureml", {"distribution": "mpi"}, ["type: mpi", "process_count_per_instance: 1"]),
    ("azureml", {"distribution": "mpi", "process_count_per_node": 4}, ["type: mpi", "process_count_per_instance: 4"]),
    ("azureml", {"image": "azureml:e@latest"}, ["environment: azureml:e@latest"]),
    ("azureml", {"queue": "gpus"}, ["compute: azureml:gpus"]),
    ("azureml", {"identity": "managed"}, ["identity:", "type: managed"]),
    ("azureml", {"source_directory": "src"}, ["code: src"]),
    ("azureml", {"timeout_seconds": 600}, ["limits:", "timeout: 600"]),
    ("azureml", {"max_restarts": 0}, ["*) if [ $restarts -ge 0 ]; then leave 1; fi"]),
    ("azureml", {"network": "tcp"}, ["NCCL_NET: Socket"]),
]


def lines(config):
    return collections.Counter(line.strip() for line in job_text(config).splitlines())


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_the_one_that_was_read(name):
    assert job_text(read_config(shlex.split(CASES[name]))) == (GOLDEN / name).read_text()


def test_there_is_a_case_for_each_file():
    assert {path.name for path in GOLDEN.iterdir()} == CASES.keys()


@pytest.mark.parametrize(
    ("base", "change", "new"), CHANGES, ids=[f"{base} {next(iter(change))}" for base, change, _ in CHANGES]
)
def test_an_option_changes_these_lines(base, change, new):
    before, after = lines(BASES[base]), lines(dataclasses.replace(BASES[base], **change))
    assert sorted((after - before).elements()) == sorted(new)
    # A line is another one, or is added; of two lines one may be left, where a name takes the place of an object.
    assert (before - after).total() <= len(new) + 1


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"command": ("a b.py", "$x")}, "python 'a b.py' '$x' "),
        ({"python": "/opt/python"}, "/opt/python -m tfdist.train "),
        ({"command": (), "entry_script": "a.py"}, "python a.py "),
        (
            {"command": (), "entry_script": "a.py", "script_params": {"--rate": 0.1, "-v": ""}},
            "python a.py --rate 0.1 -v ",
        ),
    ],
)
def test_one_line_is_the_command(base, change, words):
    before, after = lines(BASES[base]), lines(dataclasses.replace(BASES[base], **change))
    ((line, count),) = (after - before).items()
    assert (count, words in line) == (1, True)
    assert (before - after).total() == 1


@pytest.mark.parametrize("base", BASES)
def test_the_folders_are_flags_of_the_command(base):
    azure = base == "azureml"
    config = dataclasses.replace(BASES[base], data_dir=AZURE_DATA if azure else "/data")
    text = job_text(config)
    if azure:
        assert " '--run_dir=${{outputs.run_dir}}' '--data_dir=${{inputs.data_dir}}'" in text
        job = yaml.safe_load(text)
        assert (job["outputs"]["run_dir"]["path"], job["inputs"]["data_dir"]["path"]) == (AZURE_RUN, AZURE_DATA)
    else:
        assert " --run_dir=/runs/1 --data_dir=/data" in text


def test_each_option_is_in_one_of_these_tests():
    changed = {name for _, change, _ in CHANGES for name in change}
    elsewhere = {"target", "kind", "command", "python", "entry_script", "script_params", "run_dir", "data_dir"}
    assert changed | elsewhere == {field.name for field in dataclasses.fields(JobConfig)}


@pytest.mark.parametrize("base", BASES)
def test_the_last_line_submits_the_file(base):
    config = BASES[base]
    tools = {"slurm": "sbatch tfdist.sh", "azureml": "az ml job create --file tfdist.yaml"}
    assert job_text(config).splitlines()[-1] == f"# {tools.get(base, 'kubectl apply --filename=tfdist.yaml')}"
