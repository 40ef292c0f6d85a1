"""The setting ``pmem_namespaces``: which namespaces of a host may be claimed, and under which label.

The syntax is that of OpenStack Nova's setting with the same name: ``4GB:ns_0,SMALL:ns_1|ns_2``. Items are separated by
commas. Each item is a label, a colon, and names of namespaces separated by ``|``. A label may be repeated. Nova accepts
some settings and fails later: for instance if a namespace is not devdax, or two namespaces have the same name. This
library refuses such settings at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field

from VpmemLibrary.errors import AmbiguousError, CommandError, InvalidValueError, NotFoundError
from VpmemLibrary.pmem.records import Inventory, Namespace, NamespaceMode

SETTING = "pmem_namespaces"
FORM = "items `label:namespace[|namespace...]`, separated by commas, e.g. 4GB:ns_0,SMALL:ns_1|ns_2"

_CLASS_PREFIX = "CUSTOM_PMEM_NAMESPACE_"
_LONGEST_CLASS = 255


class PmemSetting(Struct, frozen=True):
    """A parsed setting: for each label the names of its namespaces, in order.

    Args:
        labels: The names for each label. Without any label, the feature is off.
    """

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all labels, in order."""
        return tuple(name for names in self.labels.values() for name in names)

    def __str__(self) -> str:
        return ",".join(f"{label}:{'|'.join(names)}" for label, names in self.labels.items())

    def require_label(self, label: str) -> None:
        """Raise unless the setting has a label with exactly this spelling.

        Raises:
            InvalidValueError: The setting does not have the label. The message names a label that differs only in case.
        """
        if label in self.labels:
            return
        near = [each for each in self.labels if each.casefold() == label.casefold()]
        hint = f"; labels are case-sensitive, so {near[0]} may be meant" if near else ""
        there = ", ".join(self.labels) or "none, as the setting is empty"
        raise InvalidValueError("label", label, f"a label of {SETTING} ({there}){hint}")


def resource_class(label: str) -> str:
    """Return the name of a label in a resource provider's inventory.

    The name is in upper case. Each sequence of characters other than letters and digits becomes one ``_``
    (os-resource-classes, ``normalize_name``).

    Example: ``resource_class("4GB")`` is ``CUSTOM_PMEM_NAMESPACE_4GB``.
    """
    return _CLASS_PREFIX + re.sub(r"[^0-9A-Z]+", "_", label.upper())


def parse_setting(text: str) -> PmemSetting:
    """Parse a setting. Do not contact any host.

    As in Nova, blanks around an item are ignored, and blanks inside an item count.

    Args:
        text: The setting. An empty setting turns the feature off.

    Raises:
        InvalidValueError: An item has the wrong form, a label or a name is empty, a name is repeated under any label,
            or two labels give the same resource class.

    Example: ``parse_setting("4GB:ns_0,SMALL:ns_1|ns_2").labels["SMALL"]`` is ``("ns_1", "ns_2")``.
    """
    labels: dict[str, tuple[str, ...]] = {}
    if not text.strip():
        return PmemSetting()
    for item in map(str.strip, text.split(",")):
        label, colon, rest = item.partition(":")
        if not colon:
            raise InvalidValueError(f"item {item!r} of {SETTING}", text, f"a label, a colon and names: {FORM}")
        if not label:
            raise InvalidValueError(f"item {item!r} of {SETTING}", text, f"a label before the colon: {FORM}")
        names = rest.split("|")
        if not all(names):
            raise InvalidValueError(
                f"item {item!r} of {SETTING}", text, f"a name on each side of `|` and after the colon: {FORM}"
            )
        labels[label] = (*labels.get(label, ()), *names)
    setting = PmemSetting(labels)
    _refuse_repeated(setting)
    _refuse_one_class(labels)
    return setting


def resolve_setting(
    setting: PmemSetting, read: Callable[[], Inventory], host: str
) -> Mapping[str, tuple[Namespace, ...]]:
    """Return the namespaces of a host that a setting names, by label, in the setting's order.

    Args:
        setting: The setting. With an empty setting the host is not contacted.
        read: Reads the host's inventory.
        host: The host's name in messages.

    Raises:
        NotFoundError: The host has no namespace with one of the names. The message lists the existing names.
        AmbiguousError: Two namespaces of the host have the same name.
        InvalidValueError: A namespace is not an active devdax namespace, so no guest can use it.
        ToolMissingError: ndctl is not installed.
        CommandError: ndctl failed.
    """
    if not setting.labels:
        return {}
    try:
        namespaces = read().namespaces
    except CommandError as error:
        error.add(f"{SETTING} needs the namespaces of {host}. Check that ndctl is installed there and can be run.")
        raise
    return {
        label: tuple(_usable(_one_called(name, namespaces, host), label) for name in names)
        for label, names in setting.labels.items()
    }


def _one_called(name: str, namespaces: Iterable[Namespace], host: str) -> Namespace:
    named = [namespace for namespace in namespaces if namespace.name]
    found = [namespace for namespace in named if namespace.name == name]
    if len(found) > 1:
        each = ", ".join(f"{namespace.dev} (UUID {namespace.label_uuid})" for namespace in found)
        raise AmbiguousError(f"{len(found)} namespaces on {host} are called {name!r}: {each}. Rename all but one.")
    if found:
        return found[0]
    error = NotFoundError("namespace", name, sorted({each.name for each in named}), where=host)
    if any(each.name == name.strip() for each in named):
        error.add(f"In {SETTING} blanks are part of a name: write {name.strip()!r}.")
    raise error


def _usable(namespace: Namespace, label: str) -> Namespace:
    what = f"namespace {namespace.name} of label {label}"
    if not namespace.active:
        raise InvalidValueError(what, "disabled", f"an active devdax namespace: enable {namespace.dev}")
    if namespace.mode is not NamespaceMode.devdax:
        raise InvalidValueError(what, str(namespace.mode or "no mode"), f"mode devdax: reconfigure {namespace.dev}")
    return namespace


def _refuse_repeated(setting: PmemSetting) -> None:
    for name, times in Counter(setting.names).items():
        if times > 1:
            under = ", ".join(label for label, names in setting.labels.items() if name in names)
            raise InvalidValueError(
                SETTING, str(setting), f"each namespace once: {name!r} is there {times} times ({under})"
            )


def _refuse_one_class(labels: Iterable[str]) -> None:
    classes: dict[str, str] = {}
    for label in labels:
        name = resource_class(label)
        if len(name) > _LONGEST_CLASS:
            longest = _LONGEST_CLASS - len(_CLASS_PREFIX)
            raise InvalidValueError(f"label of {SETTING}", label, f"{longest} characters at most")
        if (other := classes.setdefault(name, label)) != label:
            raise InvalidValueError(
                f"label of {SETTING}",
                label,
                f"a label that differs more from {other!r}: both are resource class {name}",
            )
