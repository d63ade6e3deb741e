"""Remove user names and passwords from archive addresses, for messages and records."""

from urllib.parse import urlsplit, urlunsplit


def public(root: str) -> str:
    """Return an address without its user name, password, query and fragment."""
    parts = urlsplit(root)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
