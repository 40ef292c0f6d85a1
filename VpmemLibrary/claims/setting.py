"""The setting ``pmem_namespaces``: which namespaces of a host are handed out, and under which label.

The syntax is that of OpenStack Nova's setting of that name: ``4GB:ns_0,SMALL:ns_1|ns_2``. Items are separated by
commas, each is a label, a colon, and names of namespaces separated by ``|``; a label may come again. What Nova takes in
silence and fails over later (another mode than devdax, a name that two namespaces have) is refused here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from VpmemLibrary.errors import AmbiguousError, CommandError, InvalidValueError, NotFoundError
from VpmemLibrary.pmem.records import Inventory, Namespace, NamespaceMode

SETTING = "pmem_namespaces"
FORM = "items `label:namespace[|namespace...]`, separated by commas, e.g. 4GB:ns_0,SMALL:ns_1|ns_2"

_CLASS_PREFIX = "CUSTOM_PMEM_NAMESPACE_"
_LONGEST_CLASS = 255


@dataclass(frozen=True, slots=True)
class PmemSetting:
    """A setting as it is written: for each label its namespaces' names, in order.

    Args:
        labels: The names, by label. Without any, the feature is off.
    """

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in order."""
        return tuple(name for names in self.labels.values() for name in names)

    def __str__(self) -> str:
        return ",".join(f"{label}:{'|'.join(names)}" for label, names in self.labels.items())

    def require_label(self, label: str) -> None:
        """Raise unless the setting has a label, written exactly so.

        Raises:
            InvalidValueError: It has none; one that differs only in the case of its letters is named.
        """
        if label in self.labels:
            return
        near = [each for each in self.labels if each.casefold() == label.casefold()]
        hint = f": letters are compared with their case, so {near[0]} is meant" if near else ""
        there = ", ".join(self.labels) or "none, as the setting is empty"
        raise InvalidValueError("label", label, f"a label of {SETTING} ({there}){hint}")


def resource_class(label: str) -> str:
    """Return what a label is called in a resource provider's inventory.

    Upper case, and one ``_`` for every run of other characters than letters and digits (os-resource-classes,
    ``normalize_name``).

    Example: ``resource_class("4GB")`` is ``CUSTOM_PMEM_NAMESPACE_4GB``.
    """
    return _CLASS_PREFIX + re.sub(r"[^0-9A-Z]+", "_", label.upper())


def parse_setting(text: str) -> PmemSetting:
    """Return what a setting says; nothing is asked of any host.

    As in Nova, blanks around an item are not part of it, and blanks inside are.

    Args:
        text: The setting. An empty one turns the feature off.

    Raises:
        InvalidValueError: An item has not the form, a label or a name is empty, a name is there twice under whatever
            label, or two labels are one resource class.

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
    """Return the namespaces of a host that a setting means, by label, in the setting's order.

    Args:
        setting: The setting. With an empty one the host is not asked at all.
        read: Reads what the host has.
        host: The host's name in messages.

    Raises:
        NotFoundError: A name is not on the host; the message has those that are.
        AmbiguousError: Two namespaces of the host have that name.
        InvalidValueError: A namespace is not an active devdax one, so no guest can have it.
        ToolMissingError: ndctl is not installed.
        CommandError: ndctl failed.
    """
    if not setting.labels:
        return {}
    try:
        namespaces = read().namespaces
    except CommandError as error:
        error.add(f"{SETTING} needs to know what is on {host}: is ndctl installed there, and can it be run?")
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
                f"label of {SETTING}", label, f"one that differs from {other!r} in more: both are resource class {name}"
            )
