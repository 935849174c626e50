"""Foreign traces: what a row means, what a bad one says, looping, scaling, streaming."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from headway.core import NS_PER_MS, NS_PER_S, Slo
from headway.errors import OptionError, WorkloadError
from headway.workload import Offered, Trace, azure, burstgpt, mooncake, open_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:16:00.0000001,879,55
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 23:59:59.009930+00:00,2162,5
2024-05-11 00:00:00+00:00,2399,6
2024-05-11 02:00:00.1+02:00,76,15
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,0,1087,API log
118,GPT-4,417,276,693,API log
"""
BURSTGPT_3 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5.5,17,2.5,ChatGPT,472,18,490,Conversation log
6,,1,ChatGPT,10,20,30,API log
6,s-9a,1,ChatGPT,10,20,30,API log
"""
MOONCAKE = """{"timestamp": 100, "input_length": 1100, "output_length": 52, "hash_ids": [0, 1, 2]}
{"timestamp": 100, "input_length": 1024, "output_length": 9000, "hash_ids": [0, 1]}
{"timestamp": 2100, "input_length": 3, "output_length": 1, "hash_ids": [0]}
"""


def trace_file(folder: Path, text: str, name: str = "trace") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def offers_of(folder: Path, text: str, **options: object) -> list[Offered]:
    return list(open_trace(trace_file(folder, text), **options).offers())  # type: ignore[arg-type]


def test_azure_times_keep_all_seven_digits_and_start_at_zero(tmp_path: Path) -> None:
    offers = offers_of(tmp_path, AZURE)
    assert [o.request.arrival_ns for o in offers] == [0, 4_314_579_000, 13_319_410_100]
    assert [(o.request.prompt_tokens, o.output_tokens) for o in offers] == [
        (374, 44),
        (396, 109),
        (879, 55),
    ]
    assert [o.request.id for o in offers] == [0, 1, 2]


def test_azure_2024_times_have_offsets_and_cross_midnight(tmp_path: Path) -> None:
    offers = offers_of(tmp_path, AZURE_2024)
    assert [o.request.arrival_ns for o in offers] == [0, 990_070_000, 1_090_070_000]


@given(st.datetimes(min_value=datetime(1970, 1, 1)), st.integers(0, 9))  # noqa: DTZ001 - UTC is added
def test_azure_reads_what_datetime_writes(moment: datetime, tenths_of_us: int) -> None:
    stamp = f"{moment:%Y-%m-%d %H:%M:%S.%f}{tenths_of_us}"
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    [row] = azure.rows([b"TIMESTAMP,ContextTokens,GeneratedTokens", f"{stamp},1,1".encode()], "x")
    assert row.time_ns == since // timedelta(microseconds=1) * 1000 + tenths_of_us * 100


def test_burstgpt_skips_and_counts_failures_and_names_who_asked(tmp_path: Path) -> None:
    api = Slo("api", ttft_ns=NS_PER_S)
    trace = open_trace(
        trace_file(tmp_path, BURSTGPT), slo=Slo("any", e2e_ns=7), slo_by_class={"api": api}
    )
    first, second = (o.request for o in trace.offers())
    assert trace.skipped == 1
    assert (first.tenant, first.slo) == ("ChatGPT", Slo("conversation", e2e_ns=7))
    assert (second.tenant, second.slo) == ("GPT-4", api)
    assert second.arrival_ns == 113 * NS_PER_S


def test_burstgpt_columns_are_found_by_name(tmp_path: Path) -> None:
    offers = offers_of(tmp_path, BURSTGPT_3)
    assert [(o.request.prompt_tokens, o.output_tokens) for o in offers] == [
        (472, 18),
        (10, 20),
        (10, 20),
    ]
    assert offers[1].request.arrival_ns == NS_PER_S // 2
    assert [o.request.session for o in offers[:2]] == [17, None]
    assert offers[2].request.session == offers_of(tmp_path, BURSTGPT_3)[2].request.session
    assert offers[2].request.session not in {None, 17}


def test_mooncake_blocks_become_extents_cut_to_the_prompt(tmp_path: Path) -> None:
    first, second, third = (o.request for o in offers_of(tmp_path, MOONCAKE))
    assert first.prefix == ((0, 512), (1, 512), (2, 76))
    assert second.prefix == ((0, 512), (1, 512))
    assert third.prefix == ((0, 3),)
    assert third.arrival_ns == 2000 * NS_PER_MS


def test_a_cap_says_nothing_of_the_output_unless_the_output_exceeds_it(tmp_path: Path) -> None:
    caps = [o.request.max_tokens for o in offers_of(tmp_path, MOONCAKE)]
    assert caps == [4096, 16_384, 4096]
    caps = [o.request.max_tokens for o in offers_of(tmp_path, MOONCAKE, max_tokens=100)]
    assert caps == [100, 12_800, 100]


@pytest.mark.parametrize("reuse", [False, True])
def test_laps_continue_after_one_mean_gap_and_share_prefixes_only_on_request(
    tmp_path: Path, *, reuse: bool
) -> None:
    options = {"loop_reuse": True} if reuse else {"loop": True}
    requests = [o.request for o in offers_of(tmp_path, MOONCAKE, requests=8, **options)]
    at_ms = [r.arrival_ns // NS_PER_MS for r in requests]
    assert at_ms == [0, 0, 2000, 3000, 3000, 5000, 6000, 6000]
    assert [r.id for r in requests] == list(range(8))
    laps = [{name for r in requests[k : k + 3] for name, _ in r.prefix} for k in (0, 3, 6)]
    assert laps[0] == {0, 1, 2}
    if reuse:
        assert laps[1] == laps[0]
    else:
        assert not laps[0] & laps[1]
        assert not laps[1] & laps[2]
        # Within a lap, sharing is as it was.
        assert requests[3].prefix[:2] == requests[4].prefix
        assert [tokens for _, tokens in requests[3].prefix] == [512, 512, 76]


def test_sessions_of_two_laps_differ(tmp_path: Path) -> None:
    sessions = [o.request.session for o in offers_of(tmp_path, BURSTGPT_3, loop=True, requests=4)]
    assert sessions[0] == 17
    assert sessions[3] not in {17, None}


def test_skipped_rows_are_counted_once_however_many_laps(tmp_path: Path) -> None:
    trace = open_trace(trace_file(tmp_path, BURSTGPT), loop=True, requests=10)
    assert len(list(trace.offers())) == 10
    assert len(list(trace.offers())) == 10
    assert trace.skipped == 1


def test_rate_scale_divides_times_and_the_gap_between_laps(tmp_path: Path) -> None:
    plain = [o.request.arrival_ns for o in offers_of(tmp_path, AZURE, loop=True, requests=9)]
    twice = [
        o.request.arrival_ns
        for o in offers_of(tmp_path, AZURE, loop=True, requests=9, rate_scale=2.0)
    ]
    assert all(abs(a - 2 * b) <= 8 for a, b in zip(plain, twice, strict=True))


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20).map(sorted),
    st.sampled_from([0.3, 1.0, 7.5]),
    st.integers(0, 60),
)
def test_looping_keeps_order_and_counts(times: list[int], scale: float, requests: int) -> None:
    lines = [f'{{"timestamp":{t},"input_length":5,"output_length":5}}'.encode() for t in times]
    trace = Trace(
        lambda: mooncake.rows(lines, "x"), "x", loop=True, requests=requests, rate_scale=scale
    )
    arrivals = [o.request.arrival_ns for o in trace.offers()]
    assert len(arrivals) == requests
    assert all(a <= b for a, b in pairwise(arrivals))


def test_an_endless_trace_is_read_only_as_far_as_it_is_offered() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for k in count():
            read += 1
            yield f'{{"timestamp":{k},"input_length":5,"output_length":5}}'.encode()

    trace = Trace(lambda: mooncake.rows(endless(), "x"), "x")
    assert len(list(islice(trace.offers(), 1000))) == 1000
    assert read <= 1001


def test_reading_again_offers_the_same_and_ends_cause_nothing(tmp_path: Path) -> None:
    trace = open_trace(trace_file(tmp_path, MOONCAKE))
    first = list(trace.offers())
    assert trace.on_end(first[0].request, "finished", 0) == ()
    assert list(trace.offers()) == first


@pytest.mark.parametrize("text", [AZURE, AZURE_2024, BURSTGPT, BURSTGPT_3, MOONCAKE])
def test_packing_windows_line_ends_marks_and_blank_lines_change_nothing(
    tmp_path: Path, text: str
) -> None:
    plain = offers_of(tmp_path, text)
    messy = "\ufeff" + text.replace("\n", "\r\n") + "\r\n"
    assert offers_of(tmp_path, messy) == plain
    path = tmp_path / "trace.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert list(open_trace(path).offers()) == plain


AZURE_HEADER, BURST_HEADER = AZURE.splitlines()[0], BURSTGPT.splitlines()[0]
OK_AZURE = "2023-11-16 18:15:46.6805900,374,44"


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        (
            [AZURE_HEADER, OK_AZURE, "2023-11-16 18:15:47.0,x1,5"],
            3,
            "ContextTokens is 'x1', expected a whole",
        ),
        (
            [AZURE_HEADER, "2023-11-16 18:15:47.0,1,-5"],
            2,
            "GeneratedTokens is '-5', expected a whole",
        ),
        ([AZURE_HEADER, "2023-11-16 18:15:47.0,1"], 2, "the line is '2 columns', expected 3"),
        ([AZURE_HEADER, "yesterday,1,5"], 2, "TIMESTAMP is 'yesterday', expected a time like"),
        ([AZURE_HEADER, "2023-02-30 18:15:46.6805900,1,5"], 2, "TIMESTAMP is '2023-02-30"),
        ([AZURE_HEADER, OK_AZURE, "2023-11-16 18:15:40,1,5"], 3, "6.68059 s before"),
        ([BURST_HEADER, "5,ChatGPT,472,18,490"], 2, "the line is '5 columns', expected 6"),
        ([BURST_HEADER, "5,ChatGPT,4 2,18,490,API log"], 2, "Request tokens is '4 2'"),
        ([BURST_HEADER, "5,ChatGPT,4,-1,490,API log"], 2, "Response tokens is '-1'"),
        ([BURST_HEADER, "nan,ChatGPT,4,18,490,API log"], 2, "Timestamp is 'nan', expected seconds"),
        ([*MOONCAKE.splitlines(), '{"timestamp": 1'], 4, "the line is '{\"timestamp\": 1'"),
        (
            ['{"timestamp":1,"input_length":"12","output_length":1}'],
            1,
            "input_length is '12', expected `int`",
        ),
        (
            ['{"timestamp":1,"input_length":12,"output_length":-1}'],
            1,
            "output_length is -1, expected `int` >= 0",
        ),
        (
            ['{"timestamp":1,"input_length":512,"output_length":1,"hash_ids":[1,2]}'],
            1,
            "the number of hash_ids is 2, expected at most 1",
        ),
        (
            ['{"timestamp":1,"input_length":512,"output_length":1,"hash_ids":[1,"a"]}'],
            1,
            "hash_ids is [1, 'a'], expected `int`",
        ),
        (
            ['{"timestamp":1,"input_length":512,"output_length":1}', '{"timestamp":2}'],
            2,
            "missing required field `input_length`",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_value_and_what_was_expected(
    tmp_path: Path, lines: list[str], line: int, says: str
) -> None:
    path = trace_file(tmp_path, "\n".join(lines))
    with pytest.raises(WorkloadError) as caught:
        list(open_trace(path).offers())
    assert f"{path}:{line}: " in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "hello\n", "a,b,c\n1,2,3\n", '{"x": 1}\n'])
def test_an_unknown_format_lists_the_known_ones(tmp_path: Path, text: str) -> None:
    with pytest.raises(WorkloadError, match=r"azure .*burstgpt .*mooncake .*jsonl"):
        open_trace(trace_file(tmp_path, text))


def test_a_missing_file_and_a_trace_without_requests_say_so(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"no\.csv"):
        open_trace(tmp_path / "no.csv")
    with pytest.raises(WorkloadError, match="no usable request"):
        offers_of(tmp_path, BURST_HEADER + "\n5,GPT-4,10,0,10,API log\n", loop=True)


@pytest.mark.parametrize("options", [{"rate_scale": 0}, {"requests": -1}, {"max_tokens": 0}])
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        offers_of(tmp_path, AZURE, **options)


def test_readers_find_shuffled_columns() -> None:
    lines = [b"GeneratedTokens,TIMESTAMP,ContextTokens", b"7,2023-11-16 18:15:46.6805900,9"]
    [row] = azure.rows(lines, "x")
    assert (row.prompt_tokens, row.output_tokens) == (9, 7)
    with pytest.raises(WorkloadError, match="'Response tokens'"):
        list(burstgpt.rows([b"Timestamp,Request tokens"], "x"))
