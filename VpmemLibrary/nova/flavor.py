"""Flavors: what a server is made of, with persistent memory by the extra spec ``hw:pmem``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import checked_name

PMEM = "hw:pmem"
"""The extra spec that asks for namespaces: labels of the setting, one for each, separated by commas."""


@dataclass(frozen=True, slots=True)
class Flavor:
    """What a server is made of.

    Args:
        name: Its name.
        ram: Its RAM, without persistent memory.
        vcpus: Its virtual CPUs.
        pmem: The labels of its namespaces, in the order of its devices; a label may come again.

    Raises:
        InvalidValueError: A value that no server can have.

    Example: ``flavor_of("with-vpmem", extra_specs={"hw:pmem": "4GB,SMALL"})``.
    """

    name: str
    ram: Size = Size(256 * MiB)
    vcpus: int = 1
    pmem: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked_name("flavor", self.name)
        if self.ram < 64 * MiB or self.ram % MiB:
            raise InvalidValueError("ram", str(self.ram), "whole MiB, 64MiB at least, e.g. 256MiB")
        if self.vcpus < 1:
            raise InvalidValueError("vcpus", self.vcpus, "1 or more")

    def __str__(self) -> str:
        return f"{self.name} ({PMEM}={','.join(self.pmem)})" if self.pmem else self.name


def flavor_of(name: str, *, ram: Size, vcpus: int, extra_specs: Mapping[str, str]) -> Flavor:
    """Return a flavor with its extra specs read.

    As in Nova, a label is not converted: ``128GB`` is not ``131072MB``. Blanks around a label are not part of it.

    Args:
        name: Its name.
        ram: Its RAM.
        vcpus: Its virtual CPUs.
        extra_specs: Its extra specs; only ``hw:pmem`` is known here.

    Raises:
        InvalidValueError: A value that no server can have, an unknown extra spec, or an empty label.
    """
    if unknown := sorted(set(extra_specs) - {PMEM}):
        raise InvalidValueError("extra spec", unknown[0], f"{PMEM}, e.g. {PMEM}=4GB,SMALL")
    text = extra_specs.get(PMEM, "")
    labels = tuple(label.strip() for label in text.split(",")) if text.strip() else ()
    if not all(labels):
        raise InvalidValueError(PMEM, text, "labels separated by commas, none of them empty, e.g. 4GB,SMALL")
    return Flavor(name, ram, vcpus, labels)
