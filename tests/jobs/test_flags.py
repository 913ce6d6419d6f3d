"""The command line of `tfdist.jobs`."""

from tfdist.jobs.flags import read_config


def test_several_values_have_commas_between():
    config = read_config(["tfjob", "--image=a", "--volumes=a:/a,b:/b", "--secrets=s", "--", "a.py"])
    assert (config.mounts, config.secrets) == ({"a": "/a", "b": "/b"}, ("s",))
