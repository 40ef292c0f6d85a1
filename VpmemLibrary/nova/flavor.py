"""Flavors: the resources of a server. The extra spec ``hw:pmem`` requests persistent memory."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import checked_name

PMEM = "hw:pmem"
"""The extra spec that requests namespaces: for each namespace a label of the setting, separated by commas."""


class Flavor(Struct, frozen=True):
    """The resources of a server.

    Args:
        name: The flavor's name.
        ram: The RAM, without persistent memory.
        vcpus: The number of virtual CPUs.
        pmem: The labels of the namespaces, in the order of the server's devices. A label may occur several times.

    Raises:
        InvalidValueError: A value is invalid for a server.

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
    """Return a flavor with the labels of its extra specs.

    As in Nova, a label is not converted: ``128GB`` is not ``131072MB``. Blanks around a label are not part of the
    label.

    Args:
        name: The flavor's name.
        ram: The RAM.
        vcpus: The number of virtual CPUs.
        extra_specs: The extra specs. Only ``hw:pmem`` is known here.

    Raises:
        InvalidValueError: A value is invalid for a server, an extra spec is unknown, or a label is empty.
    """
    if unknown := sorted(set(extra_specs) - {PMEM}):
        raise InvalidValueError("extra spec", unknown[0], f"{PMEM}, e.g. {PMEM}=4GB,SMALL")
    text = extra_specs.get(PMEM, "")
    labels = tuple(label.strip() for label in text.split(",")) if text.strip() else ()
    if not all(labels):
        raise InvalidValueError(PMEM, text, "labels separated by commas, none of them empty, e.g. 4GB,SMALL")
    return Flavor(name, ram, vcpus, labels)
