"""What tfdist reads from the environment of this process, without TensorFlow and without the other processes."""

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.environments.readers import cluster_of, find
from tfdist.cluster.group import ProcessGroup
from tfdist.doctor.lines import OK, Line, fail_with

ALONE = "none: this process trains alone (no variable tells of other processes)"


def describe(environ):
    """Returns the lines about the environment, the variable by which it was found, and the TF_CONFIG that follows."""
    try:
        variable, members = find(environ)
        if members is None:
            return [Line(OK, "environment", f"{variable}: this process trains alone" if variable else ALONE)]
        if isinstance(members, ProcessGroup) and not members.is_local:
            return _describe_group(variable, members)
        cluster = cluster_of(members, environ)
    except ClusterError as error:
        return [fail_with("environment", error)]
    role = "the chief" if cluster.is_chief else "not the chief"
    place = f"worker {cluster.rank} of {cluster.size} at {cluster.address}, {role}"
    return [
        Line(OK, "environment", f"{_name(variable, cluster.source)}: {place}"),
        *(Line(OK, name, value) for name, value in cluster.environment().items()),
    ]


def _describe_group(variable, group):
    place = f"process {group.rank} of {group.size}; process 0 will listen at {group.meeting_point}"
    follows = "follows when the processes start: they tell each other their addresses there"
    return [Line(OK, "environment", f"{_name(variable, group.source)}: {place}"), Line(OK, "TF_CONFIG", follows)]


def _name(variable, source):
    return variable if source == variable else f"{source}, by {variable}"
