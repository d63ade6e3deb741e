"""Archive addresses for messages and records, without user names and passwords."""

from urllib.parse import urlsplit, urlunsplit


def public(root: str) -> str:
    """Return an address without its user name and password."""
    parts = urlsplit(root)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
