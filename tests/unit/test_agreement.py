"""Views of one thing, compared."""

import pytest

from VpmemLibrary.agreement import NOT_STATED, Agreement
from VpmemLibrary.errors import ViewsDisagreeError


def test_views_that_say_the_same_agree() -> None:
    Agreement("ns", {"ndctl": {"size": 64, "mode": "raw"}, "sysfs": {"mode": "raw"}}).require()


def test_a_field_that_a_view_leaves_out_is_not_a_disagreement() -> None:
    agreement = Agreement("ns", {"ndctl": {"size": 64}, "sysfs": {"mode": "raw"}})
    assert agreement.disagreements == ()
    assert agreement.rows == (("size", "64", NOT_STATED), ("mode", NOT_STATED, "raw"))


def test_zero_and_empty_are_statements() -> None:
    assert Agreement("ns", {"a": {"node": 0, "name": ""}, "b": {"node": 1, "name": "x"}}).disagreements == (
        "node",
        "name",
    )


def test_the_failure_is_a_table_with_the_differing_cells_marked() -> None:
    agreement = Agreement("ns0", {"xml": {"size": 64, "node": 0}, "qmp": {"size": 62, "node": 0}, "guest": {"node": 0}})
    with pytest.raises(ViewsDisagreeError) as caught:
        agreement.require()
    text = str(caught.value)
    assert "views of ns0 differ in size" in text
    assert ">64<" in text
    assert ">62<" in text
    assert ">0<" not in text
    assert agreement.marked == {(0, 1), (0, 2)}
