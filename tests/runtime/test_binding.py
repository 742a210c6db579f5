"""Where the daemon cannot listen, told apart before anything is loaded."""

import socket

import pytest

from saccade.proto.errors import AddressInUseError, ServeError
from saccade.runtime.binding import check_bind


@pytest.mark.parametrize(
    ("bind", "why"),
    [
        ("no-such-host.invalid:0", "expected a host named 'no-such-host.invalid', found none"),
        ("203.0.113.7:0", "Cannot assign requested address; it must be an address of this machine"),
        ("::1:7447", "an IPv6 address stands in brackets"),
    ],
)
def test_an_address_that_cannot_be_listened_on_says_why(bind: str, why: str) -> None:
    with pytest.raises(ServeError, match=why) as caught:
        check_bind(bind, is_insecure_allowed=True)
    assert not isinstance(caught.value, AddressInUseError)


def test_two_listeners_do_not_share_a_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    check_bind(bind, is_insecure_allowed=False)
    with pytest.raises(AddressInUseError, match="Address already in use"):
        check_bind(bind, bind, is_insecure_allowed=False)
    check_bind("127.0.0.1:0", "127.0.0.1:0", is_insecure_allowed=False)
