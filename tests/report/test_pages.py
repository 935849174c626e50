from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

pytest.importorskip("plotly")

from headway.metrics import Recorder, curves, summarise
from headway.report.compare_page import compare_html
from headway.report.run_page import run_html

Tag = tuple[str, dict[str, str | None]]


class Tags(HTMLParser):
    """Start tags and the text between tags, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        inside = self.tags[-1][0] if self.tags else ""
        {"style": self.styles, "script": []}.get(inside, self.text).append(data)


@pytest.fixture(scope="module")
def pages(recorder: Recorder, rows: list[dict[str, Any]]) -> dict[str, str]:
    run = run_html(summarise(recorder), curves(recorder), "A & B")
    return {"run": run, "compare": compare_html(rows, "A & B")}


@pytest.mark.parametrize("name", ["run", "compare"])
def test_a_page_fetches_nothing(pages: dict[str, str], name: str) -> None:
    seen = Tags(pages[name])
    for tag, attributes in seen.tags:
        for key in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(key)
            assert value is None or value.startswith("data:"), (tag, attributes)
    assert not any("url(" in style or "@import" in style for style in seen.styles)


@pytest.mark.parametrize("name", ["run", "compare"])
def test_names_from_a_workload_stay_text(pages: dict[str, str], name: str) -> None:
    tags = [tag for tag, _ in Tags(pages[name]).tags]
    assert "img" not in tags
    assert "i" not in tags
    assert "A &amp; B" in pages[name]


@pytest.mark.parametrize("name", ["run", "compare"])
def test_plotly_is_in_the_page_once(pages: dict[str, str], name: str) -> None:
    assert len(re.findall(r"\* plotly\.js v", pages[name])) == 1
    assert len(pages[name]) < 8_000_000


def test_pages_are_the_same_bytes_each_time(
    recorder: Recorder, rows: list[dict[str, Any]], pages: dict[str, str]
) -> None:
    assert run_html(summarise(recorder), curves(recorder), "A & B") == pages["run"]
    assert compare_html(rows, "A & B") == pages["compare"]


def test_a_run_shows_its_distributions_classes_tenants_and_misses(pages: dict[str, str]) -> None:
    seen = Tags(pages["run"])
    ids = {attributes.get("id") for _, attributes in seen.tags}
    assert {"over-time", "cdf-ttft", "cdf-tpot", "cdf-itl", "cdf-e2el"} <= ids
    text = " ".join(seen.text)
    for words in ("<b>a</b>", "rejected", "Jain", "What the numbers mean", "slo_attainment"):
        assert words in text


def test_a_run_without_requests_makes_a_page() -> None:
    html = run_html(summarise(Recorder()), curves(Recorder()))
    assert "SLO attainment" in html


def test_the_verdict_is_told_on_the_page(recorder: Recorder) -> None:
    summary = summarise(recorder) | {"offered_exceeds_capacity": "Too <much>."}
    assert "Too &lt;much&gt;." in run_html(summary, curves(recorder))


def test_the_table_of_a_comparison_can_be_sorted_and_chosen_by_rate(
    pages: dict[str, str], rows: list[dict[str, Any]]
) -> None:
    tags = Tags(pages["compare"]).tags
    lines = [attributes for tag, attributes in tags if tag == "tr" and "data-rate" in attributes]
    assert len(lines) == len(rows)
    assert len([line for line in lines if "hidden" not in line]) == 3  # of the chosen rate
    heads = [attributes for tag, attributes in tags if tag == "th" and "data-sort" in attributes]
    cells = [attributes for tag, attributes in tags if tag == "td" and "data-value" in attributes]
    assert len(cells) == len(heads) * len(rows)
    chosen = [
        attributes["data-rate"]
        for tag, attributes in tags
        if attributes.get("aria-pressed") == "true"
    ]
    assert chosen == [line["data-rate"] for line in lines if "hidden" not in line][:1]


def test_one_tenant_and_one_rate_have_no_fairness_and_no_curves(
    rows: list[dict[str, Any]],
) -> None:
    alone = [row | {"summary": row["summary"] | {"jain_tokens": None}} for row in rows[:3]]
    ids = {attributes.get("id") for _, attributes in Tags(compare_html(alone)).tags}
    fronts = {name for name in ids if name and name.startswith("front-")}
    assert fronts == {"front-p99_ttft_ms-p99_itl_ms", "front-request_goodput-p99_ttft_ms"}
    assert not [name for name in ids if name and name.startswith("rate-")]
