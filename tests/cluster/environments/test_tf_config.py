"""promise_15: a wrong cluster is refused at once, with one message for each mistake."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.cluster.addresses import ClusterError, hosts_of
from tfdist.cluster.environments.readers import read_cluster
from tfdist.cluster.members import Cluster, Task

TWO = {"worker": ["a:1", "b:1"]}
FIRST = {"type": "worker", "index": 0}
quick = settings(max_examples=200, deadline=2000)


def refusal(text):
    with pytest.raises(ClusterError) as error:
        read_cluster({"TF_CONFIG": text})
    return str(error.value)


def config(cluster=TWO, task=FIRST, **others):
    return json.dumps({"cluster": cluster, "task": task} | others)


def test_a_cluster_is_read_from_tf_config():
    cluster = read_cluster({"TF_CONFIG": config(task={"type": "worker", "index": 1})})
    assert cluster == Cluster({"worker": ("a:1", "b:1")}, Task("worker", 1), "TF_CONFIG")
    assert (cluster.size, cluster.rank, cluster.is_chief) == (2, 1, False)
    assert cluster.address == "b:1"
    assert hosts_of(cluster.workers) == {"a", "b"}


def test_worker_0_is_chief_where_no_chief_is_listed():
    assert read_cluster({"TF_CONFIG": config()}).is_chief


def test_an_index_written_as_digits_is_read_as_tensorflow_reads_it():
    assert read_cluster({"TF_CONFIG": config(task={"type": "worker", "index": "1"})}).rank == 1


@pytest.mark.parametrize(("task", "rank"), [({"type": "master", "index": 0}, 0), ({"type": "worker", "index": 1}, 2)])
def test_a_master_is_the_chief(task, rank):
    cluster = read_cluster({"TF_CONFIG": config(TWO | {"master": ["m:1"], "ps": []}, task)})
    assert (cluster.workers, cluster.rank) == (("m:1", "a:1", "b:1"), rank)
    assert json.loads(cluster.to_tf_config())["cluster"]["chief"] == ["m:1"]


@pytest.mark.parametrize("name", ["TF_CONFIG", "TF_CONFIG_FILE"])
def test_tf_config_may_be_in_a_file(name, tmp_path):
    path = tmp_path / "all.json"
    # Longer than a variable may be.
    addresses = [f"worker-{index}.example:2222" for index in range(7000)]
    path.write_text(config({"worker": addresses}, {"type": "worker", "index": 6999}))
    cluster = read_cluster({name: f"@{path}" if name == "TF_CONFIG" else str(path)})
    assert (cluster.size, cluster.address) == (7000, "worker-6999.example:2222")


def test_the_variable_wins_over_the_file(tmp_path):
    (tmp_path / "other.json").write_text(config({"worker": ["c:1"]}))
    environ = {"TF_CONFIG": config(), "TF_CONFIG_FILE": str(tmp_path / "other.json")}
    assert read_cluster(environ).size == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "the file cannot be read (No such file or directory). Give the path of a file."),
        (b"\xff", "the file cannot be read (it is not text in UTF-8)."),
        (b"{", "not JSON at line 1, column 2"),
        (b'{"cluster": {"worker": []}}', "cluster.worker is an empty list."),
    ],
)
def test_a_file_that_is_wrong_is_named(content, problem, tmp_path):
    path = tmp_path / "all.json"
    if content is not None:
        path.write_bytes(content)
    assert f'TF_CONFIG in "{path}": {problem}' in refusal(f"@{path}")


def test_what_platforms_add_to_tf_config_is_left_alone():
    task = FIRST | {"trial": "1", "cloud": "x"}
    assert read_cluster({"TF_CONFIG": config(task=task, environment="cloud", job={})}).size == 2


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": " "},
        {"TF_CONFIG": "{}"},
        {"TF_CONFIG": '{"cluster": {}, "task": {}, "environment": "cloud"}'},
        {"TF_CONFIG": "{}", "OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
def test_there_may_be_no_cluster(environ):
    assert read_cluster(environ) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{cluster: {}}",
            'TF_CONFIG: not JSON at line 1, column 2, near "{cluster: {}}": Expecting property '
            "name enclosed in double quotes. In a shell, put single quotes around the whole value.",
        ),
        ("[1]", 'TF_CONFIG: it is a list, not an object. Write {"cluster": '),
        ("3", "TF_CONFIG: it is 3, not an object."),
        ("null", "TF_CONFIG: it is null, not an object."),
        ('{"task": 1, "task": 1}', 'TF_CONFIG: the key "task" appears twice. Keep one of them.'),
        ('{"task": NaN}', "TF_CONFIG: NaN is not JSON. Write a number, or null."),
        ('{"task": -Infinity}', "TF_CONFIG: -Infinity is not JSON."),
        ("9" * 5000, "TF_CONFIG: the number 99999999999999999999... is too long. Shorten it."),
        ("[" * 100_000, "TF_CONFIG: its lists or objects are nested too deeply. Only"),
    ],
)
def test_promise_15_bad_json_is_refused(text, message):
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (None, "TF_CONFIG: it names a task, but no cluster. Add "),
        ([], "TF_CONFIG: cluster is a list, not an object. Write "),
        ("a:1", 'TF_CONFIG: cluster is "a:1", not an object.'),
        (
            {"worker": "a:1"},
            'TF_CONFIG: cluster.worker is "a:1", not a list. Write ["host:port", ...], even for',
        ),
        (
            {"worker": {"1": "a:1"}, "ps": []},
            "TF_CONFIG: cluster.worker is an object, not a list: a sparse cluster, in which a worker sees itself alone",
        ),
        ({"chief": {"0": "a:1"}}, "TF_CONFIG: cluster.chief is an object, not a list."),
        (
            {"worker": []},
            "TF_CONFIG: cluster.worker is an empty list. Add its addresses, or remove cluster.w",
        ),
        ({"evaluator": ["a:1"]}, "TF_CONFIG: cluster lists no worker, only evaluator. Add "),
        (
            {"boss": ["a:1"]},
            'TF_CONFIG: cluster lists the unknown job "boss". Use "worker", and "chief" if one',
        ),
        ({"master": ["a:1"], "chief": ["b:1"]}, "TF_CONFIG: cluster lists a chief and a master, which is the same."),
        (
            {"ps": ["a:1"]} | TWO,
            "TF_CONFIG: cluster lists parameter servers (ps), but tfdist trains synchronously, "
            "without them. Remove cluster.ps and start only workers.",
        ),
        (
            {"chief": ["c:1", "d:1"]} | TWO,
            "TF_CONFIG: cluster.chief lists 2 addresses. Keep one; others can be workers.",
        ),
        ({"evaluator": ["c:1", "d:1"]} | TWO, "TF_CONFIG: cluster.evaluator lists 2 addresses."),
        (
            {"worker": ["a:1", "b:1", "a:1"]},
            'TF_CONFIG: cluster.worker[0] and cluster.worker[2] are both "a:1". Give each task',
        ),
        (
            {"chief": ["A:01"]} | TWO,
            'TF_CONFIG: cluster.chief[0] and cluster.worker[0] are both "a:1".',
        ),
        (
            {"worker": ["[::1]:1", "[0:0::1]:1"]},
            'TF_CONFIG: cluster.worker[0] and cluster.worker[1] are both "[0:0::1]:1".',
        ),
        ({"worker": ["a:1", "b"]}, 'TF_CONFIG: cluster.worker[1] is "b", which has no port.'),
    ],
)
def test_promise_15_a_wrong_cluster_is_refused(cluster, message):
    assert message in refusal(config(cluster))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            None,
            "TF_CONFIG: task is missing, so this process does not know which address is its own. "
            'Add "task": {"type": "worker", "index": 0}, with an index of its own in each process.',
        ),
        (
            "worker",
            'TF_CONFIG: task is "worker", not an object. Write {"type": "worker", "index": 0}.',
        ),
        ({"index": 0}, 'TF_CONFIG: task.type is missing. Use "worker".'),
        (
            {"type": "chief", "index": 0},
            'TF_CONFIG: task.type is "chief", but cluster lists "worker". Use a listed job, or ',
        ),
        ({"type": ["worker"]}, 'TF_CONFIG: task.type is a list, but cluster lists "worker".'),
        (
            {"type": "evaluator", "index": 0},
            'TF_CONFIG: task.type is "evaluator", which has no part in synchronous training. '
            "Start only the training workers here, and evaluate in a process without TF_CONFIG.",
        ),
        ({"type": "worker"}, "TF_CONFIG: task.index is missing. Use 0..1."),
        (
            {"type": "worker", "index": 2},
            "TF_CONFIG: task.index is 2, but cluster.worker lists 2 addresses. Use 0..1, or add the missing worker.",
        ),
        ({"type": "worker", "index": -1}, "TF_CONFIG: task.index is -1, but cluster.worker lists"),
        ({"type": "worker", "index": True}, "TF_CONFIG: task.index is true, not an integer. Use"),
        ({"type": "worker", "index": 1.0}, "TF_CONFIG: task.index is 1.0, not an integer."),
        ({"type": "worker", "index": "-1"}, 'TF_CONFIG: task.index is "-1", not an integer.'),
        ({"type": "worker", "index": "²"}, r'TF_CONFIG: task.index is "\u00b2", not an integer.'),
        ({"type": "worker", "index": [0]}, "TF_CONFIG: task.index is a list, not an integer."),
    ],
)
def test_promise_15_a_wrong_task_is_refused(task, message):
    assert message in refusal(config(task=task))


def test_promise_15_an_index_beyond_one_address_is_refused():
    message = refusal(config({"worker": ["a:1"]}, {"type": "worker", "index": 1}))
    assert message == (
        "TF_CONFIG: task.index is 1, but cluster.worker lists 1 address. Use 0, or add the missing worker."
    )


def test_another_rpc_layer_is_refused():
    message = 'TF_CONFIG: rpc_layer is "grpcs", but workers use grpc. Leave it out.'
    assert refusal(config(rpc_layer="grpcs")) == message


hosts = st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True) | st.just("[::1]")
addresses = st.builds("{}:{}".format, hosts, st.integers(1, 65535))


@st.composite
def clusters(draw):
    listed = draw(st.lists(addresses, min_size=1, max_size=5, unique=True))
    chief = draw(st.integers(0, 1))
    jobs = {"chief": tuple(listed[:chief]), "worker": tuple(listed[chief:])}
    jobs = {job: listed for job, listed in jobs.items() if listed}
    job = draw(st.sampled_from(sorted(jobs)))
    return Cluster(jobs, Task(job, draw(st.integers(0, len(jobs[job]) - 1))))


@quick
@given(clusters())
def test_a_cluster_survives_the_way_through_tf_config(cluster):
    assert read_cluster(cluster.environment()) == cluster
    assert cluster.workers[cluster.rank] == cluster.address


def read_or_refuse(environ):
    """Reads a cluster or a ClusterError, whose message must be printable; any other exception fails the test."""
    try:
        cluster = read_cluster(environ)
    except ClusterError as error:
        str(error).encode("ascii")
    else:
        assert cluster is None or cluster.rank < cluster.size


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from(["worker", "chief", "ps", "a:1", "[::1]:1", "0", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["worker", "chief", "type", "index"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@quick
@given(st.text())
def test_promise_15_any_text_is_read_or_refused(text):
    read_or_refuse({"TF_CONFIG": text})


@quick
@given(anything)
def test_promise_15_any_json_is_read_or_refused(value):
    read_or_refuse({"TF_CONFIG": json.dumps(value)})


@quick
@given(clusters(), st.data())
def test_promise_15_a_damaged_tf_config_is_read_or_refused(cluster, data):
    damaged = json.loads(cluster.to_tf_config())
    place = data.draw(st.sampled_from([damaged, damaged["cluster"], damaged["task"]]))
    place[data.draw(st.sampled_from(["worker", "chief", *place]))] = data.draw(anything)
    read_or_refuse({"TF_CONFIG": json.dumps(damaged)})


@quick
@given(clusters(), st.data())
def test_promise_15_a_mistyped_tf_config_is_read_or_refused(cluster, data):
    text = cluster.to_tf_config()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 3, len(text))))
    typed = data.draw(st.text('{}[]":,0a ', max_size=3))
    read_or_refuse({"TF_CONFIG": text[:start] + typed + text[end:]})


@pytest.mark.parametrize("depth", [50, 300, 900, 5000])
def test_promise_15_deep_nesting_is_refused_at_any_depth(depth):
    for opening, closing in (("[", "]"), ('{"cluster":', "}"), ('{"task":', "}")):
        refusal('{"cluster": ' + opening * depth + "1" + closing * depth + "}")
