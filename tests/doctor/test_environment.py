"""The command shows which variable tells of the other workers, and the TF_CONFIG that follows."""

import json
import os

import pytest

from tfdist.cluster.environments.readers import read_cluster
from tfdist.doctor import command as doctor
from tfdist.doctor.environment import ALONE, describe

SKYPILOT = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1", "TFDIST_PORT": "9000"}


def test_a_cluster_is_shown_with_its_variable_and_what_tensorflow_is_told():
    found, told = describe(SKYPILOT)
    assert found.text == "SKYPILOT_NODE_IPS: worker 1 of 2 at 10.0.0.2:9000, not the chief"
    assert (told.name, told.text) == ("TF_CONFIG", read_cluster(SKYPILOT).to_tf_config())


def test_the_share_of_the_gpus_is_shown():
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}
    step |= {"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_TASKS_PER_NODE": "2", "CUDA_VISIBLE_DEVICES": "4,5"}
    found, _, share = describe(step)
    assert found.text.startswith("Slurm, by SLURM_JOB_ID: worker 0 of 2 at n1:")
    assert (share.name, share.text) == ("CUDA_VISIBLE_DEVICES", "4")


def test_processes_on_several_hosts_are_shown_with_the_place_where_they_meet():
    environ = {"TFDIST_SIZE": "4", "TFDIST_RANK": "2", "TFDIST_COORDINATOR": "head:500"}
    found, told = describe(environ)
    assert found.text == "TFDIST_SIZE: process 2 of 4; process 0 will listen at head:500"
    assert told.text.startswith("follows when the processes start")


@pytest.mark.parametrize(
    ("environ", "text"), [({}, ALONE), ({"TF_CONFIG": "{}"}, "TF_CONFIG: this process trains alone")]
)
def test_a_process_that_trains_alone_is_told_so(environ, text):
    ((line),) = describe(environ)
    assert (line.level, line.text) == ("ok", text)


def test_what_is_wrong_is_red(monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith(("TF_CONFIG", "TFDIST_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MV2_COMM_WORLD_SIZE", "2")
    assert doctor.main(["--environment", "--json"]) == 1
    (line,) = json.loads(capsys.readouterr().out)["lines"]
    assert line["text"].startswith("MV2_COMM_WORLD_SIZE is '2', which tells of 2 processes")
    assert line["cure"].startswith("In each process set TFDIST_RANK=$MV2_COMM_WORLD_RANK")
