"""Every form of an address, and what is none."""

import pytest

from saccade.proto.errors import AddressError
from saccade.runtime.address import parse_address


@pytest.mark.parametrize(
    ("text", "host", "is_literal", "is_loopback"),
    [
        ("127.0.0.1:7447", "127.0.0.1", True, True),
        ("192.168.1.5:1", "192.168.1.5", True, False),
        ("[::1]:65535", "::1", True, True),
        ("[fe80::1%eth0]:7447", "fe80::1%eth0", True, False),
        ("localhost:7447", "localhost", False, True),
        ("robot-2.local:7447", "robot-2.local", False, False),
        ("robot_2:7447", "robot_2", False, False),
    ],
)
def test_an_address_is_read_and_written_alike(
    text: str, host: str, *, is_literal: bool, is_loopback: bool
) -> None:
    address = parse_address(text)
    assert (address.host, address.is_literal, address.is_loopback) == (host, is_literal, is_loopback)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the port is missing"),
        ("robot", "the port is missing"),
        ("::1:7447", "an IPv6 address stands in brackets"),
        ("http://robot:7447", "leave out what stands before"),
        ("robot:7447/", "it is host:port"),
        (" robot:7447", "it is host:port"),
        ("robot:7447\n", "it is host:port"),
        ("robot:٧٤٤٧", "it is host:port"),
        ("robot:0", "ports are 1 to 65535"),
        ("robot:65536", "ports are 1 to 65535"),
        ("[robot]:7447", "'robot' is no IPv6 address"),
        ("[127.0.0.1]:7447", "'127.0.0.1' is no IPv6 address"),
        ("127.0.0:7447", "'127.0.0' is neither an IPv4 address nor a host's name"),
        ("a..b:7447", "neither"),
        ("robot\0:7447", "neither"),
        (f"{'a' * 64}:7447", "neither"),
    ],
)
def test_what_is_no_address_says_why(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=f"^expected an address such as 127.0.0.1:7447, found .*{why}"):
        parse_address(text)


def test_a_listener_may_let_the_port_be_picked() -> None:
    assert parse_address("127.0.0.1:0", may_pick=True).port == 0
