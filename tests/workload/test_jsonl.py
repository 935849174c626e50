"""Our own format: what is written is read back."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from headway.core import NO_SLO, NS_PER_S, Request, Slo, Stage
from headway.errors import WorkloadError
from headway.workload import Offered, open_trace, write_trace

times = st.integers(0, 10**15)
targets = st.none() | times
slos = st.builds(
    Slo,
    st.sampled_from(["default", "chat", "batch"]),
    ttft_ns=targets,
    tpot_ns=targets,
    itl_p99_ns=targets,
    e2e_ns=targets,
    deadline_ns=targets,
    late_permille=st.none() | st.integers(0, 1000),
)


@st.composite
def offered(draw: st.DrawFn, number: int, arrival_ns: int) -> Offered:
    prefix = draw(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 512)), max_size=4))
    ids = st.none() | st.integers(0, 2**63 - 1)
    request = Request(
        number,
        arrival_ns,
        sum(tokens for _, tokens in prefix) + draw(st.integers(1, 100)),
        4096,
        draw(slos),
        draw(st.text(max_size=5)),
        draw(ids),
        draw(ids),
        draw(st.none() | st.floats(0, 1)),
        draw(st.sampled_from([(), (Stage("frame", 30, period_ns=33_000_000, unit_tokens=9),)])),
        tuple(prefix),
        draw(ids),
    )
    return Offered(request, draw(st.integers(1, 4096)))


@settings(max_examples=25)
@given(st.data(), st.lists(times, min_size=1, max_size=5).map(sorted))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, arrivals: list[int]
) -> None:
    offers = [data.draw(offered(k, arrival_ns)) for k, arrival_ns in enumerate(arrivals)]
    path = tmp_path_factory.mktemp("traces") / "own.jsonl"
    assert write_trace(path, offers) == len(offers)
    assert list(open_trace(path).offers()) == offers


def test_a_line_needs_three_fields_and_may_have_a_deadline_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(
        '{"arrival_s": 1.5, "prompt_tokens": 10, "output_tokens": 3}\n'
        '{"arrival_s": 2, "prompt_tokens": 10, "output_tokens": 3, "slo_class": "chat", "deadline_s": 4}\n'
        '{"arrival_s": 2, "prompt_tokens": 10, "output_tokens": 3, "slo_class": "chat"}\n'
    )
    chat = Slo("chat", ttft_ns=5, deadline_ns=6)
    plain, own, common = (o.request for o in open_trace(path, slo_by_class={"chat": chat}).offers())
    assert plain.arrival_ns == NS_PER_S * 3 // 2  # as recorded: the run began at 0
    assert plain.slo is NO_SLO
    assert own.slo == Slo("chat", ttft_ns=5, deadline_ns=4 * NS_PER_S)
    assert common.slo == chat


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ('"tennant": "a"', "unknown field `tennant`"),
        ('"prefix": [[1, 8], [2, 3]]', "the prefix's sum of tokens is 11, expected at most"),
        ('"prefix": [[1, 0]]', "expected extents of 1 token or more"),
        ('"max_tokens": 2', "max_tokens is 2, expected at least the output_tokens, 3"),
        ('"deadline_s": -1', "deadline_s is -1, expected `float` >= 0"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, fields: str, says: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(f'{{"arrival_s":0,"prompt_tokens":10,"output_tokens":3,{fields}}}\n')
    with pytest.raises(WorkloadError) as caught:
        list(open_trace(path).offers())
    assert f"{path}:1: " in str(caught.value)
    assert says in str(caught.value)


def test_blank_lines_pass_and_a_long_bad_one_is_shown_in_part(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    good = '{"arrival_s":0,"prompt_tokens":10,"output_tokens":3}\n'
    path.write_text(good + "\n" + good)
    assert len(list(open_trace(path).offers())) == 2
    path.write_text(good + "x" * 5000)
    with pytest.raises(WorkloadError, match=r":2: the line is 'xxx+\.\.\., expected") as caught:
        list(open_trace(path).offers())
    assert len(str(caught.value)) < 500


def test_many_deadlines_of_their_own_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    line = '{"arrival_s":0,"prompt_tokens":10,"output_tokens":3,"deadline_s":%d}\n'
    path.write_text("".join(line % (k % 5000) for k in range(6000)))
    deadlines = [o.request.slo.deadline_ns for o in open_trace(path).offers()]
    assert deadlines == [k % 5000 * NS_PER_S for k in range(6000)]


def test_offers_out_of_order_are_not_written(tmp_path: Path) -> None:
    offers = [Offered(Request(k, 10 - k, 1, 1), 1) for k in range(2)]
    with pytest.raises(WorkloadError, match="request 1 arrives at 9 ns, after one at 10 ns"):
        write_trace(tmp_path / "own.jsonl", offers)
    with pytest.raises(WorkloadError, match="writable"):
        write_trace(tmp_path / "no" / "own.jsonl", [])
