"""What a job may be told, and what is refused for its scheduler."""

import pytest

from tfdist.jobs import JobConfig

SLURM = {"target": "slurm", "command": ("a.py",)}
KUBERNETES = {"target": "kubernetes", "command": ("a.py",), "image": "image:1"}
TFJOB = KUBERNETES | {"target": "tfjob"}
AZUREML = KUBERNETES | {"target": "azureml", "queue": "cpus"}


@pytest.mark.parametrize("valid", [SLURM, KUBERNETES, TFJOB, AZUREML])
def test_these_are_enough(valid):
    assert JobConfig(**valid).size == 1


@pytest.mark.parametrize(
    ("valid", "change", "message"),
    [
        (SLURM, {"target": None}, "target is not given. Use one of slurm, kubernetes, tfjob, azureml."),
        (SLURM, {"target": "slrum"}, "target is 'slrum'. Use one of slurm, kubernetes, tfjob, azureml. Did you mean"),
        (SLURM, {"kind": "job"}, "kind is 'job', which has no effect with target 'slurm'. Leave it out."),
        (SLURM, {"distribution": "mpi"}, "distribution is 'mpi', which has no effect with target 'slurm'."),
        (SLURM, {"image": "a"}, "image is 'a', which has no effect with target 'slurm'. The job runs the nodes' own"),
        (SLURM, {"secrets": ("a",)}, "secrets is ('a',), which has no effect with target 'slurm'. Let the program"),
        (AZUREML, {"volumes": ("a:/a",)}, "volumes is ('a:/a',), which has no effect with target 'azureml'."),
        (AZUREML, {"gpus_per_node": 4}, "gpus_per_node is 4, which has no effect with target 'azureml'. The compute"),
        (AZUREML, {"cpus_per_node": 4}, "cpus_per_node is 4, which has no effect"),
        (AZUREML, {"memory_gib_per_node": 4}, "memory_gib_per_node is 4, which has no effect"),
        (AZUREML, {"port": 3000}, "port is 3000, which has no effect with target 'azureml'."),
        (AZUREML, {"grace_seconds": 30}, "grace_seconds is 30, which has no effect with target 'azureml'."),
        (KUBERNETES, {"image": None}, "image is not given. Give the container's image: kubernetes starts containers."),
        (AZUREML, {"queue": None}, "queue is not given. Give the name of Azure ML's compute."),
        (AZUREML, {"identity": "me"}, "identity is 'me'. Use user_identity, managed or aml_token with azureml."),
        (AZUREML, {"process_count_per_node": 2}, "distribution tensorflow starts one process on each node. Use distr"),
        (
            AZUREML,
            {"image": "azureml:e", "pip_packages": ("a",)},
            "pip_packages and conda_packages make an environment",
        ),
        (SLURM, {"name": "My job"}, "name is 'My job'. Use lower-case letters, digits and '-'"),
        (SLURM, {"name": "a" * 41}, "40 characters at most."),
        (SLURM, {"node_count": 0}, "node_count is 0. Use a whole number from 1."),
        (SLURM, {"gpus_per_node": 3, "process_count_per_node": 2}, "the GPUs do not divide evenly. Use a number of"),
        (SLURM, {"gpus_per_node": 1, "process_count_per_node": 2}, "the GPUs do not divide evenly."),
        (SLURM, {"cpus_per_node": 1, "process_count_per_node": 2}, "cpus_per_node is 1, less than one for each of 2"),
        (SLURM, {"timeout_seconds": 120}, "the job would save as soon as it starts. Use a longer time."),
        (
            SLURM,
            {"command": ()},
            "nothing to run. Put `-m module …` or `script.py …` after ` -- `, or give entry_script.",
        ),
        (SLURM, {"entry_script": "b.py"}, "both a command and entry_script are given. Put"),
        (SLURM, {"script_params": {"-a": 1}}, "script_params are flags of entry_script, which is not given."),
        (SLURM, {"command": ("python3", "a.py")}, "'python3' comes before the script by itself. Leave it out; python"),
        (
            SLURM,
            {"command": ("a.py", "--run_dir=b")},
            "the command has --run_dir, but the job must know the folder too.",
        ),
        (SLURM, {"command": ("-m", "tfdist.train")}, "run_dir is not given, so that a restart would begin anew."),
        (SLURM, {"run_dir": ""}, "run_dir is empty. Give a path, or leave it out."),
        (SLURM, {"queue": "a\nb"}, "queue is 'a\\nb'. Use text of one line."),
        (SLURM, {"command": ("a.py", "b\nc")}, "command is ('a.py', 'b\\nc'). Use text of one line."),
        (KUBERNETES, {"volumes": ("a:/a", "a:/b")}, "with a claim that is there twice. Mount it once, above both."),
        (KUBERNETES, {"volumes": ("runs",)}, "volumes has 'runs'. Write CLAIM:/folder."),
        (KUBERNETES, {"run_dir": "/runs/1"}, "run_dir is '/runs/1', which is on none of the volumes, so that it ends"),
        (TFJOB, {"run_dir": "/runs2", "volumes": ("a:/runs",)}, "which is on none of the volumes"),
        (AZUREML, {"run_dir": "/runs"}, "run_dir is '/runs'. Use azureml://datastores/NAME/paths/… with azureml."),
        (AZUREML, {"data_dir": "data"}, "data_dir is 'data'. Use azureml:"),
    ],
)
def test_a_contradiction_is_one_message_with_what_to_do(valid, change, message):
    with pytest.raises(ValueError) as caught:
        JobConfig(**(valid | change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("{", "script_params is '{', which is not JSON: "),
        ("[1]", "script_params is '[1]'. Use an object of flags, such as"),
        ({"epochs": 5}, "script_params is {'epochs': 5}. Use an object of flags"),
    ],
)
def test_params_that_are_no_flags_are_refused(params, message):
    with pytest.raises(ValueError) as caught:
        JobConfig(target="slurm", entry_script="a.py", script_params=params)
    assert message in str(caught.value)


def test_params_of_the_shell_and_of_python_are_the_same():
    texts = ('{"--epochs": 5, "--verbose": ""}', {"--epochs": 5, "--verbose": ""})
    configs = [JobConfig(target="slurm", entry_script="a.py", script_params=params) for params in texts]
    assert [config.script for config in configs] == [("a.py", "--epochs", "5", "--verbose")] * 2


def test_a_run_may_be_at_the_root_of_a_volume():
    assert JobConfig(**KUBERNETES, run_dir="/runs", volumes=("a:/runs/",)).mounts == {"a": "/runs/"}
