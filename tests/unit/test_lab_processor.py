"""What a saved state depends on: each part of the processor that a restored machine would miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from VpmemLibrary.lab.processor import nesting, processor_identity

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
stepping\t: 8
microcode\t: 0x2b0004b1
cpu MHz\t\t: 2700.000
flags\t\t: fpu vme vmx avx512f
bogomips\t: 5400.00
"""


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    return path


def identity(cpuinfo: Path, accelerator: str, kernel: str = "6.1") -> list[str]:
    return processor_identity(accelerator, cpuinfo=cpuinfo, kernel=kernel)


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GenuineIntel", "AuthenticAMD"),
        ("family\t: 6", "family\t: 25"),
        ("model\t\t: 143", "model\t\t: 207"),
        ("stepping\t: 8", "stepping\t: 6"),
        ("0x2b0004b1", "0x2b000590"),
        ("avx512f", "avx512f amx_tile"),
    ],
)
def test_each_part_of_the_processor_makes_another_identity(old: str, new: str, accelerator: str, cpuinfo: Path) -> None:
    before = identity(cpuinfo, accelerator)
    assert old in CPUINFO
    cpuinfo.write_text(CPUINFO.replace(old, new))
    assert identity(cpuinfo, accelerator) != before


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
@pytest.mark.parametrize(
    ("old", "new"), [("fpu vme vmx avx512f", "vmx fpu avx512f vme"), ("2700.000", "3100.000"), ("5400.00", "5400.01")]
)
def test_what_changes_by_the_minute_and_the_order_of_flags_do_not(
    old: str, new: str, accelerator: str, cpuinfo: Path
) -> None:
    before = identity(cpuinfo, accelerator)
    cpuinfo.write_text(CPUINFO.replace(old, new))
    assert identity(cpuinfo, accelerator) == before


def test_the_number_of_processors_is_not_part_of_it(cpuinfo: Path) -> None:
    before = identity(cpuinfo, "kvm")
    cpuinfo.write_text(CPUINFO + "\n" + CPUINFO.replace("processor\t: 0", "processor\t: 1"))
    assert identity(cpuinfo, "kvm") == before


def test_the_kernel_counts_with_kvm_and_the_model_s_name_under_emulation(cpuinfo: Path) -> None:
    kvm, tcg = identity(cpuinfo, "kvm"), identity(cpuinfo, "tcg")
    assert identity(cpuinfo, "kvm", "6.2") != kvm
    assert identity(cpuinfo, "tcg", "6.2") == tcg
    cpuinfo.write_text(CPUINFO.replace("2.70GHz", "3.00GHz"))
    assert identity(cpuinfo, "kvm") == kvm
    assert identity(cpuinfo, "tcg") != tcg


@pytest.mark.parametrize("text", [b"", b"\xff\xfe: \xff\n", b"flags\n", b"BogoMIPS : 50\nFeatures : fp asimd\n"])
def test_a_text_of_another_form_is_an_identity_as_well(text: bytes, cpuinfo: Path) -> None:
    cpuinfo.write_bytes(text)
    assert identity(cpuinfo, "kvm") == identity(cpuinfo, "kvm")


def test_nesting_is_said_for_each_module_that_is_loaded(tmp_path: Path) -> None:
    assert nesting(tmp_path) == {}
    parameters = tmp_path / "kvm_amd/parameters"
    parameters.mkdir(parents=True)
    assert nesting(tmp_path) == {}
    (parameters / "nested").write_text("1\n")
    assert nesting(tmp_path) == {"kvm_amd": "1"}
