"""Who may see the page: a token beyond loopback, loopback's own names on loopback."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
COOKIE = "cemi_view"


@dataclass(frozen=True)
class Access:
    """The rule of a server bound to `host`; `token` is empty on loopback."""

    host: str
    token: str

    @classmethod
    def of(cls, host: str) -> Access:
        """The rule for a server bound to `host`, with a new random token beyond loopback."""
        return cls(host, "" if is_loopback(host) else secrets.token_urlsafe(24))

    def token_is_right(self, given: str) -> bool:
        """True where `given` is the token; the time taken tells nothing about it."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def host_is_right(self, header: str) -> bool:
        """True where a request's Host header may name this server.

        On loopback only loopback's names: a page of another site, whose name was made to lead to
        127.0.0.1, must not read ours (DNS rebinding). Beyond it the token protects.
        """
        return bool(self.token) or host_name(header) in LOCAL_NAMES

    def cookie_name(self, port: int) -> str:
        """The cookie that holds the token; servers on several ports have one each."""
        return f"{COOKIE}_{port}"


def is_loopback(host: str) -> bool:
    """True for localhost and the addresses of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """The name in a Host header, without port and brackets; empty where it is malformed."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
