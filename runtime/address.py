"""Addresses, ``host:port``: read the same way by daemon and client, whatever the transport."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from saccade.proto.errors import AddressError

_FORM = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_NAME = 253


@dataclass(frozen=True)
class Address:
    """Where a daemon listens.

    Args:
        host: Name or IP address, without brackets.
        port: TCP port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address, so that nobody has to be asked for it."""
        return _ip(self.host) is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the host."""
        ip = _ip(self.host)
        return self.host == "localhost" if ip is None else ip.is_loopback


def parse_address(text: str, *, may_pick: bool = False) -> Address:
    """Read an address; nobody is asked whether it exists.

    Args:
        text: ``host:port``; an IPv6 address stands in brackets.
        may_pick: Whether port 0, "any free one", makes sense.

    Raises:
        AddressError: The text is no address.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise _refusal(text, _hint(text))
    host, port = form["v6"] or form["host"], int(form["port"])
    if not (0 if may_pick else 1) <= port <= 65535:
        raise _refusal(text, f"ports are {0 if may_pick else 1} to 65535")
    if form["v6"] is not None and (_ip(host) is None or ":" not in host):
        raise _refusal(text, f"{host!r} is no IPv6 address")
    if form["v6"] is None and not _is_host(host):
        raise _refusal(text, f"{host!r} is neither an IPv4 address nor a host's name")
    return Address(host, port)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_host(host: str) -> bool:
    """Whether the text is an IPv4 address, or a name that a host can have."""
    if re.fullmatch(r"[0-9.]+", host):  # what else has only digits is a mistyped address, not a name
        return _ip(host) is not None
    labels = host.removesuffix(".").split(".")
    return len(host) <= _MAX_NAME and all(_LABEL.fullmatch(label) for label in labels)


def _hint(text: str) -> str:
    """Say what may have been meant."""
    if "://" in text:
        return "leave out what stands before and with ://"
    if text.count(":") > 1 and "[" not in text:
        return "an IPv6 address stands in brackets, [::1]:7447"
    return "it is host:port" if ":" in text else "the port is missing"


def _refusal(text: str, why: str) -> AddressError:
    return AddressError(f"expected an address such as 127.0.0.1:7447, found {text!r}: {why}.")
