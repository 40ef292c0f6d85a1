"""The library as Robot Framework and Libdoc see it."""

import importlib.util
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from robot.libdocpkg import LibraryDocumentation
from robot.libdocpkg.model import KeywordDoc, LibraryDoc

from VpmemLibrary.errors import VpmemError

TAGS = {
    "host", "region", "namespace", "content", "guest", "inside", "ownership", "claim", "server", "dax", "filesystem",
    "health", "cxl", "dimm",
    "getter", "assertion", "prediction", "destructive",
}  # fmt: skip


@cache
def libdoc() -> LibraryDoc:
    return LibraryDocumentation("VpmemLibrary")


def keywords() -> list[KeywordDoc]:
    return list(libdoc().keywords)


def every_error(base: type[VpmemError] = VpmemError) -> set[type[VpmemError]]:
    return {base}.union(*(every_error(error) for error in base.__subclasses__()))


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_every_keyword_is_documented_with_an_example(keyword: KeywordDoc) -> None:
    assert keyword.doc.strip(), "no documentation"
    assert "Example" in keyword.doc
    assert "```robotframework" in keyword.doc


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_every_argument_is_typed_and_documented(keyword: KeywordDoc) -> None:
    for argument in keyword.to_dictionary()["args"]:
        if argument["name"]:
            assert argument["type"], f"{argument['name']} has no type"
            assert argument["doc"], f"{argument['name']} is not documented"


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_what_is_returned_is_documented(keyword: KeywordDoc) -> None:
    described = keyword.to_dictionary()
    if (described["returnType"] or {}).get("name") != "None":
        assert described["returnDoc"]


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_what_is_raised_is_an_error_that_there_is(keyword: KeywordDoc) -> None:
    raised = keyword.to_dictionary()["raises"]
    assert set(raised) <= {"AssertionError", *(error.__name__ for error in every_error())}
    assert all(raised.values())


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_what_may_fail_says_how(keyword: KeywordDoc) -> None:
    described = keyword.to_dictionary()
    asserts = any(argument["name"] == "assertion_operator" for argument in described["args"])
    if asserts:
        assert "AssertionError" in described["raises"]
    if {"assertion", "destructive"} & set(keyword.tags):
        assert described["raises"]
    assert "assertion" in keyword.tags or " Should " not in keyword.name
    assert not asserts or "getter" in keyword.tags


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_every_section_of_a_documentation_is_read_as_one(keyword: KeywordDoc) -> None:
    """A section that Libdoc does not know, or that comes after the example, would stay in the text."""
    assert re.findall(r"^ *(Args|Arguments|Returns|Raises|Yields|Note):", keyword.doc, re.MULTILINE) == []


def test_every_link_leads_to_a_keyword_or_a_section() -> None:
    targets = {keyword.name for keyword in keywords()} | set(re.findall(r"^#+ (.*)", libdoc().doc, re.MULTILINE))
    texts = [libdoc().doc, *(init.doc for init in libdoc().inits)]
    for keyword in keywords():
        described = keyword.to_dictionary()
        texts += [keyword.doc, described["returnDoc"], *described["raises"].values()]
        texts += [argument["doc"] for argument in described["args"]]
    prose = (re.sub(r"```.*?```|`[^`\n]*`", "", text or "", flags=re.DOTALL) for text in texts)
    links = {name for text in prose for name in re.findall(r"\[([A-Z][^\]]*)\](?!\()", text)}
    assert links
    assert links - targets == set()


def test_libdoc_writes_html_with_every_keyword(tmp_path: Path) -> None:
    page = tmp_path / "VpmemLibrary.html"
    subprocess.run([sys.executable, "-m", "robot.libdoc", "VpmemLibrary", page], check=True, capture_output=True)
    written = page.read_text()
    assert [keyword.name for keyword in keywords() if f'"name": "{keyword.name}"' not in written] == []


@pytest.mark.parametrize("keyword", keywords(), ids=lambda keyword: keyword.name)
def test_tags_are_the_small_vocabulary(keyword: KeywordDoc) -> None:
    assert keyword.tags
    assert set(keyword.tags) <= TAGS


def test_the_library_and_its_import_are_documented() -> None:
    assert "Ownership" in libdoc().doc
    for argument in libdoc().inits[0].to_dictionary()["args"]:
        assert argument["doc"]


def after_import(expression: str) -> list[str]:
    """Return the words that an expression gives in a process that only imported and made the library."""
    code = inspect.cleandoc(f"""
        import sys
        from VpmemLibrary import VpmemLibrary
        VpmemLibrary()
        print(*({expression}))
    """)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_loads_no_heavy_library() -> None:
    heavy = "paramiko libvirt lxml qemu.qmp rich click platformdirs markdown hypothesis psutil"
    assert after_import(f"name for name in {heavy.split()!r} if name in sys.modules") == []


def test_importing_loads_nothing_that_only_an_open_host_needs() -> None:
    late = [
        "VpmemLibrary.guest.channel.agent",
        "VpmemLibrary.lab",
        "VpmemLibrary.leases.host_leases",
        "VpmemLibrary.transport.serial.transport",
        "VpmemLibrary.transport.ssh.transport",
    ]
    for name in late:
        assert importlib.util.find_spec(name)
    assert after_import(f"name for name in {late!r} if name in sys.modules") == []


def test_importing_makes_no_dataclass() -> None:
    """Python needs forty times as long for a dataclass as for a struct of msgspec."""
    made = (
        "f'{name}.{kind.__name__}' for name, module in list(sys.modules.items()) if name.startswith('VpmemLibrary') "
        "for kind in vars(module).values() if isinstance(kind, type) and '__dataclass_fields__' in vars(kind)"
    )
    assert after_import(made) == []


def test_plain_python_parts_load_no_robot() -> None:
    code = inspect.cleandoc("""
        import pkgutil, importlib, sys, VpmemLibrary
        with_robot = ("keywords", "library", "OpenStack", "__main__")
        for part in pkgutil.iter_modules(VpmemLibrary.__path__, "VpmemLibrary."):
            if part.name.removeprefix("VpmemLibrary.") in with_robot:
                continue
            parent = importlib.import_module(part.name)
            for module in pkgutil.walk_packages(getattr(parent, "__path__", ()), part.name + "."):
                importlib.import_module(module.name)
        print(*(name for name in sys.modules if name == "robot" or name.startswith("robot.")))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
