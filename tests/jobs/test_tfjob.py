"""Kubeflow's TFJob: what its operator asks of it, and its pods by the schema of Kubernetes."""

import dataclasses

import pytest
from support.job_texts import KUBERNETES, check_schema
from support.job_texts import documents as read


@pytest.fixture
def documents():
    return read(dataclasses.replace(KUBERNETES, target="tfjob"))


def test_the_operator_finds_its_container_and_its_port(documents):
    job = documents["TFJob"]
    assert (job["apiVersion"], job["metadata"]["name"]) == ("kubeflow.org/v1", "digits")
    assert job["spec"]["tfReplicaSpecs"].keys() == {"Worker"}
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert (worker["replicas"], worker.keys()) == (2, {"replicas", "restartPolicy", "template"})
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"
    assert container["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]
    # The operator sets it, and warns of another one.
    assert "restartPolicy" not in worker["template"]["spec"]


def test_the_operator_starts_again_what_was_taken_away_and_nothing_else(documents):
    worker = documents["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]
    script = worker["template"]["spec"]["containers"][0]["command"][-1]
    ends = [int(word) for word in ("138", "1") if f"leave {word}" in script]
    # Its rule: a code of 128 and above is tried again.
    assert (worker["restartPolicy"], [code >= 128 for code in ends]) == ("ExitCode", [True, False])


def test_logs_stay_and_the_time_is_limited(documents):
    assert documents["TFJob"]["spec"]["runPolicy"] == {"cleanPodPolicy": "None", "activeDeadlineSeconds": 3600}


def test_its_pods_and_its_policy_are_valid(documents):
    template = documents["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]["template"]
    template["spec"]["restartPolicy"] = "Never"
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "digits"}, "spec": {"template": template}}
    for document in (job, documents["NetworkPolicy"]):
        check_schema(document)
