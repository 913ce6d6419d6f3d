"""Addresses are split, joined and checked, with one message for each mistake."""

import pytest

from tfdist.cluster.addresses import ClusterError, hosts_of, is_own, join_address, split_address


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("localhost:2222", ("localhost", 2222)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("a-b_c.d:1", ("a-b_c.d", 1)),
        ("[::1]:2222", ("::1", 2222)),
        ("[FE80:0::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_an_address_is_split_into_host_and_port(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (5, 'here is 5. Write a string "host:port".'),
        (None, 'here is null. Write a string "host:port".'),
        ("a", 'here is "a", which has no port. Write "host:port".'),
        ("[::1]", 'here is "[::1]", which has no port.'),
        (":1", 'here is ":1", which has no host.'),
        ("", 'here is "", which has no port.'),
        ("a:", 'here is "a:", whose port is "". Use a number in 1..65535.'),
        ("a:http", 'here is "a:http", whose port is "http".'),
        ("a:0", 'here is "a:0", whose port is "0".'),
        ("a:65536", 'here is "a:65536", whose port is "65536".'),
        ("a:-1", 'here is "a:-1", whose port is "-1".'),
        ("a:1 ", 'here is "a:1 ", whose port is "1 ".'),
        ("a:²", r'here is "a:\u00b2", whose port is "\u00b2".'),
        ("grpc://a:1", 'here is "grpc://a:1". Leave the scheme out: TensorFlow takes only "host:port".'),
        ("fe80::1:2222", 'several colons. Put an IPv6 address in brackets: "[::1]:2222".'),
        ("[::x]:1", 'whose brackets hold no IPv6 address. Write it like "[::1]:2222".'),
        ("a b:1", 'whose host is "a b". Use only letters, digits, ".", "-" and "_" in a host.'),
        ("\ud800:1", r'whose host is "\ud800".'),
        ("a" * 100, f'here is "{"a" * 60}"..., which has no port.'),
    ],
)
def test_promise_15_a_wrong_address_is_refused(address, message):
    with pytest.raises(ClusterError) as error:
        split_address(address, "here")
    assert message in str(error.value)


@pytest.mark.parametrize("address", ["a:1", "10.0.0.1:22", "[::1]:2222"])
def test_an_address_is_joined_as_it_was_split(address):
    assert join_address(*split_address(address)) == address


def test_the_hosts_of_addresses_are_told_once():
    assert hosts_of(["a:1", "a:2", "[::1]:3"]) == {"a", "[::1]"}


def test_own_addresses_are_known():
    assert is_own(["127.0.0.1"])
    assert is_own(["192.0.2.1", "127.0.0.1"])
    # Addresses reserved for documentation: no machine has them.
    assert not is_own(["192.0.2.1"])
    assert not is_own(["2001:db8::1"])
