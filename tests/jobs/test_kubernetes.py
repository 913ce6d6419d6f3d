"""JobSet and Indexed Job: the schemas of Kubernetes, and what its rules do with exit codes."""

import dataclasses

import pytest
from support.job_texts import KUBERNETES, check_schema, documents

CONFIGS = [dataclasses.replace(KUBERNETES, kind=kind) for kind in ("jobset", "job")]
# What the JobSet controller knows of these, v1alpha2.
KNOWN = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"replicatedJobs", "network", "successPolicy", "failurePolicy", "startupPolicy", "suspend", "coordinator"},
    "network": {"enableDNSHostnames", "subdomain", "publishNotReadyAddresses"},
    "failurePolicy": {"maxRestarts", "restartStrategy", "rules"},
    "rules": {"name", "action", "onJobFailureReasons", "targetReplicatedJobs"},
    "replicatedJobs": {"name", "replicas", "template"},
}


def job_of(config):
    found = documents(config)
    if "Job" in found:
        return found["Job"]
    (replicated,) = found["JobSet"]["spec"]["replicatedJobs"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "digits"}, **replicated["template"]}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_what_kubernetes_itself_knows_is_valid(config):
    for document in [job_of(config), *documents(config).values()]:
        if document["kind"] != "JobSet":
            check_schema(document)


def test_what_is_not_valid_is_found():
    job = job_of(KUBERNETES)
    job["spec"]["completion"] = 2
    with pytest.raises(AssertionError, match="completion"):
        check_schema(job)


def test_a_job_set_has_only_what_its_controller_knows():
    job_set = documents(KUBERNETES)["JobSet"]
    spec = job_set["spec"]
    parts = {"": job_set, "spec": spec, "network": spec["network"], "failurePolicy": spec["failurePolicy"]}
    parts |= {"rules": spec["failurePolicy"]["rules"][0], "replicatedJobs": spec["replicatedJobs"][0]}
    assert {name: set(part) - KNOWN[name] for name, part in parts.items()} == {name: set() for name in KNOWN}
    assert job_set["apiVersion"] == "jobset.x-k8s.io/v1alpha2"


@pytest.mark.parametrize(("config", "failures"), [(CONFIGS[0], 0), (CONFIGS[1], 20)], ids=("jobset", "job"))
def test_codes_that_end_the_run_end_the_job_and_one_that_was_asked_to_stop_counts_as_no_failure(config, failures):
    spec = job_of(config)["spec"]
    rules = {rule["action"]: rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"]}
    assert {action: rule["values"] for action, rule in rules.items()} == {"FailJob": [2, 77], "Ignore": [75]}
    assert {rule["operator"] for rule in rules.values()} == {"In"}
    (container,) = spec["template"]["spec"]["containers"]
    assert {rule["containerName"] for rule in rules.values()} == {container["name"]}
    # The rules need it.
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimit"] == failures


def test_a_job_set_that_fails_by_such_a_rule_is_not_started_again():
    policy = documents(KUBERNETES)["JobSet"]["spec"]["failurePolicy"]
    (rule,) = policy["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy", "DeadlineExceeded"])
    assert (policy["maxRestarts"], policy["restartStrategy"]) == (10, "BlockingRecreate")


@pytest.mark.parametrize(
    ("config", "names"),
    [(CONFIGS[0], "digits-worker-0-{0..1}.digits:2222"), (CONFIGS[1], "digits-{0..1}.digits:2222")],
    ids=("jobset", "job"),
)
def test_each_pod_knows_the_names_of_all(config, names):
    spec = job_of(config)["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (2, 2, "Indexed")
    (container,) = spec["template"]["spec"]["containers"]
    assert {"name": "TFDIST_WORKERS", "value": names} in container["env"]


def test_the_names_of_an_indexed_job_are_those_of_its_service():
    found = documents(CONFIGS[1])
    pod = found["Job"]["spec"]["template"]
    service = found["Service"]
    assert pod["spec"]["subdomain"] == service["metadata"]["name"] == "digits"
    assert service["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": pod["metadata"]["labels"],
    }


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_only_workers_reach_workers(config):
    labels = job_of(config)["spec"]["template"]["metadata"]["labels"]
    workers = {"podSelector": {"matchLabels": labels}}
    policy = documents(config)["NetworkPolicy"]["spec"]
    assert policy == {**workers, "policyTypes": ["Ingress"], "ingress": [{"from": [workers]}]}
