from __future__ import annotations

import pytest

from headway.report.numbers import ABSENT, milliseconds, number, percent

GAP = "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    "value, text",
    [
        (None, ABSENT),
        (0, "0"),
        (1234567, f"1{GAP}234{GAP}567"),
        (12.34567, "12.35"),
        (0.001234, "0.001234"),
        (99999.6, f"100{GAP}000"),
        (999.96, "1000"),
        (0.00000123, "1.23e-06"),
        (-12345.6, f"-12{GAP}346"),
    ],
)
def test_a_number_has_about_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_shares_near_one_keep_the_digits_that_matter() -> None:
    assert percent(None) == ABSENT
    assert percent(1.0) == "100.0 %"
    assert percent(0.9987) == "99.87 %"
    assert percent(0.5) == "50.0 %"


def test_milliseconds_have_three_digits() -> None:
    assert milliseconds(33.456) == "33.5"
    assert milliseconds(1234.5) == f"1{GAP}234"
