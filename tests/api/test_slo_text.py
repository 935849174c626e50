import pytest
from hypothesis import given, strategies as st

from headway.api import parse_slos
from headway.api.quantities import count, duration_ns, number, share
from headway.core import NO_SLO, Slo
from headway.errors import OptionError

MS = 1_000_000


def test_targets_have_units() -> None:
    book = parse_slos("ttft=1s, tpot=60ms,itl_p99=200ms,e2e=1min,deadline=0.5h,late=1%")
    assert book.default == Slo(
        "default", 1000 * MS, 60 * MS, 200 * MS, 60_000 * MS, 1_800_000 * MS, 10
    )
    assert not book.classes


def test_classes_share_what_is_left() -> None:
    book = parse_slos(["chat:ttft=1s,share=0.5", "a:none", "class:b:e2e=9s", "ttft=2s"])
    assert book.default == Slo(ttft_ns=2000 * MS)
    assert book.labels == [
        (Slo("chat", ttft_ns=1000 * MS), 0.5),
        (Slo("a"), 0.25),
        (Slo("b", e2e_ns=9000 * MS), 0.25),
    ]


def test_none_promises_nothing_and_nothing_said_is_the_default() -> None:
    assert parse_slos("none").default is NO_SLO
    assert parse_slos([]).default == Slo(ttft_ns=1000 * MS, tpot_ns=60 * MS)


@pytest.mark.parametrize(
    "text",
    ["", "ttft", "ttft=", "ttft=1", "ttft=-1s", "ttft=0ms", "tttf=1s", "late=2", "share=0.5"],
)
def test_what_is_not_understood_is_quoted_with_what_would_be(text: str) -> None:
    with pytest.raises(OptionError, match=r"(?s)SLO '.*(such as|write|from 0 to 1)"):
        parse_slos(text)


@pytest.mark.parametrize(
    ("text", "value"), [("1k", 1000), ("2.5M", 2.5e6), ("1_000", 1000), ("1e3", 1000), (".5", 0.5)]
)
def test_numbers_for_people(text: str, value: float) -> None:
    assert number("n", text) == value


def test_shares_and_counts() -> None:
    assert share("s", "90%") == share("s", 0.9) == 0.9
    assert count("n", "2k") == 2000
    for bad in ("1.5", "0", "x", "1 apple"):
        with pytest.raises(OptionError, match=f"n.*{bad}"):
            count("n", bad)


@given(st.integers(1, 10**15))
def test_whole_nanoseconds_survive(time_ns: int) -> None:
    assert duration_ns("t", f"{time_ns}ns") == time_ns
