"""..."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseProof:
    """What shows that a lease is still the caller's: a record file on the host and the text that it must contain."""

    key: str
    path: str
    text: str
