"""Every rule of the setting `pmem_namespaces`, with its own error."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded_host import left

from VpmemLibrary.claims.setting import parse_setting, resolve_setting, resource_class
from VpmemLibrary.errors import AmbiguousError, CommandError, InvalidValueError, NotFoundError, ToolMissingError
from VpmemLibrary.pmem.records import Bus, Inventory, Namespace, NamespaceMode, Region

NOVA = "4GB:ns_0,SMALL:ns_1|ns_2"
names = st.text(st.characters(codec="utf-8", exclude_characters=",:|"), min_size=1).filter(
    lambda name: name == name.strip()
)


def named(name: str, **fields: object) -> Namespace:
    namespace = Namespace("namespace0.0", NamespaceMode.devdax, name=name, raw_uuid=str(uuid.uuid4()))
    return replace(namespace, **fields)


def host(*namespaces: Namespace) -> Callable[[], Inventory]:
    return lambda: Inventory((Bus("ndbus0", regions=(Region("region0", namespaces=namespaces),)),))


def never() -> Inventory:
    raise AssertionError("the host must not be asked")


THERE = host(named("ns_0"), named("ns_1"), named("ns_2"), named(""))


def test_novas_own_example() -> None:
    setting = parse_setting(NOVA)
    assert dict(setting.labels) == {"4GB": ("ns_0",), "SMALL": ("ns_1", "ns_2")}
    assert str(setting) == NOVA
    found = resolve_setting(setting, THERE, "left")
    assert {label: [each.name for each in given] for label, given in found.items()} == {
        "4GB": ["ns_0"],
        "SMALL": ["ns_1", "ns_2"],
    }


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_one_is_off_and_asks_no_host(text: str) -> None:
    assert resolve_setting(parse_setting(text), never, "left") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ns_0", "item 'ns_0' of pmem_namespaces 'ns_0' cannot be used: expected a label, a colon and names"),
        ("4GB:ns_0,", "item '' of pmem_namespaces '4GB:ns_0,' cannot be used: expected a label, a colon and names"),
        (":ns_0", "a label before the colon"),
        ("4GB:", "a name on each side"),
        ("4GB:ns_0||ns_1", "a name on each side"),
        ("4GB:ns_0|", "a name on each side"),
        ("4GB:ns_0,SMALL:ns_0", "'ns_0' is there 2 times (4GB, SMALL)"),
        ("4GB:ns_0|ns_0", "'ns_0' is there 2 times (4GB)"),
        ("small:ns_0,SMALL:ns_1", "CUSTOM_PMEM_NAMESPACE_SMALL"),
        ("a-b:ns_0,a_b:ns_1", "CUSTOM_PMEM_NAMESPACE_A_B"),
        (f"{'x' * 300}:ns_0", "233 characters at most"),
    ],
)
def test_what_is_not_of_the_form_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_setting(text)
    assert told in str(caught.value)


def test_a_label_that_comes_again_goes_on() -> None:
    assert dict(parse_setting("SMALL:ns_1,4GB:ns_0, SMALL:ns_2").labels) == {
        "SMALL": ("ns_1", "ns_2"),
        "4GB": ("ns_0",),
    }


def test_only_the_first_colon_divides() -> None:
    assert dict(parse_setting("4GB:a:b").labels) == {"4GB": ("a:b",)}


@given(st.dictionaries(names, st.lists(names, min_size=1, max_size=3), max_size=3))
def test_what_is_written_is_read_back(labels: dict[str, list[str]]) -> None:
    text = ",".join(f"{label}:{'|'.join(given)}" for label, given in labels.items())
    every = [name for given in labels.values() for name in given]
    classes = {resource_class(label) for label in labels}
    if len(every) == len(set(every)) and len(classes) == len(labels):
        assert {label: list(given) for label, given in parse_setting(text).labels.items()} == labels
    else:
        with pytest.raises(InvalidValueError):
            parse_setting(text)


def test_a_name_that_is_not_on_the_host_is_told_with_those_that_are() -> None:
    with pytest.raises(NotFoundError, match=r"'ns_9' on left. There are: ns_0, ns_1, ns_2"):
        resolve_setting(parse_setting("4GB:ns_9"), THERE, "left")


def test_blanks_are_part_of_a_name_and_are_told() -> None:
    with pytest.raises(NotFoundError, match="write 'ns_1'"):
        resolve_setting(parse_setting("SMALL:ns_1 | ns_2"), THERE, "left")


def test_a_name_that_two_namespaces_have_is_not_guessed() -> None:
    with pytest.raises(AmbiguousError, match="2 namespaces on left are called 'ns_0'"):
        resolve_setting(parse_setting("4GB:ns_0"), host(named("ns_0"), named("ns_0")), "left")


@pytest.mark.parametrize("mode", [NamespaceMode.fsdax, NamespaceMode.sector, NamespaceMode.raw])
def test_another_mode_is_refused(mode: NamespaceMode) -> None:
    with pytest.raises(InvalidValueError, match=f"namespace ns_0 of label 4GB '{mode}' cannot be used"):
        resolve_setting(parse_setting("4GB:ns_0"), host(named("ns_0", mode=mode)), "left")


def test_another_mode_elsewhere_on_the_host_does_no_harm() -> None:
    there = host(named("ns_0"), named("ns_1", mode=NamespaceMode.fsdax))
    assert [each.name for each in resolve_setting(parse_setting("4GB:ns_0"), there, "left")["4GB"]] == ["ns_0"]


def test_a_disabled_one_is_refused_as_such() -> None:
    there = host(named("ns_0", state="disabled", mode=NamespaceMode.raw))
    with pytest.raises(InvalidValueError, match=r"enable namespace0\.0"):
        resolve_setting(parse_setting("4GB:ns_0"), there, "left")


def test_a_host_without_ndctl_is_told_so() -> None:
    def read() -> Inventory:
        raise ToolMissingError(left(127))

    with pytest.raises(ToolMissingError, match=r"the namespaces of left\. Check that ndctl is installed there"):
        resolve_setting(parse_setting("4GB:ns_0"), read, "left")


def test_an_ndctl_that_fails_is_told_so() -> None:
    def read() -> Inventory:
        raise CommandError(left(1, stderr="broken"))

    with pytest.raises(CommandError, match=r"(?s)broken.*pmem_namespaces needs the namespaces of left"):
        resolve_setting(parse_setting("4GB:ns_0"), read, "left")


@pytest.mark.parametrize(
    ("label", "called"), [("4GB", "4GB"), ("small", "SMALL"), ("a-.b", "A_B"), ("ä", "_"), ("_x_", "_X_")]
)
def test_resource_classes(label: str, called: str) -> None:
    assert resource_class(label) == f"CUSTOM_PMEM_NAMESPACE_{called}"


def test_a_label_in_another_case_is_told() -> None:
    with pytest.raises(InvalidValueError, match="SMALL may be meant"):
        parse_setting(NOVA).require_label("small")
    with pytest.raises(InvalidValueError, match=r"a label of pmem_namespaces \(4GB, SMALL\)"):
        parse_setting(NOVA).require_label("LARGE")
