"""The drawing of a chain."""

from lxml import etree

from VpmemLibrary.keywords.support.drawing import chain_svg


def test_a_chain_is_well_formed_with_a_box_for_each_step_and_an_arrow_between_two() -> None:
    drawing = etree.fromstring(chain_svg(("host", "guest"), [[("a", "1"), ("b", "2")], [("c", "3"), ("d", "4")]]))
    names = [etree.QName(element).localname for element in drawing]
    assert names.count("rect") == 4
    assert names.count("line") == 2


def test_hostile_names_stay_text() -> None:
    drawing = etree.fromstring(chain_svg(("host",), [[("<script>&\"'", "x" * 500)]]))
    assert not drawing.findall(".//{*}script")
    assert any("<script>" in (text.text or "") for text in drawing.iter("{*}text"))
