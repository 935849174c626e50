"""What the demo asks of the server: a short mixed run to calibrate on, and an overload of two SLO classes."""

from __future__ import annotations

from dataclasses import dataclass

from headway.core import NS_PER_MS, Slo
from headway.core.protocols import Workload
from headway.workload import Independent, LogNormal, Merged, Poisson, Synthetic, Uniform

CHAT_SHARE = 0.75
CHAT = Independent(LogNormal.of(40, 60, most=200), Uniform(8, 40))
REPORTS = Independent(LogNormal.of(420, 500, most=900), Uniform(8, 40))
CALIBRATION_S, OVERLOAD_S = 12.0, 24.0


@dataclass(frozen=True)
class Promises:
    """The two classes: people who chat, and reports that may take their time."""

    chat: Slo
    report: Slo

    @classmethod
    def for_step(cls, step_ms: float) -> Promises:
        """Promises that a machine with decode steps of `step_ms` keeps easily when it is not overloaded."""
        chat = Slo("chat", ttft_ns=round(25 * step_ms * NS_PER_MS), tpot_ns=_pace(step_ms))
        report = Slo("report", ttft_ns=60_000 * NS_PER_MS, tpot_ns=3 * _pace(step_ms))
        return cls(chat, report)

    def text(self) -> str:
        """Both in one line."""
        return (
            f"chat: TTFT {_ms(self.chat.ttft_ns)} ms, TPOT {_ms(self.chat.tpot_ns)} ms; "
            f"reports: TTFT {_ms(self.report.ttft_ns)} ms, TPOT {_ms(self.report.tpot_ns)} ms"
        )


def calibration(rate_rps: float) -> Workload:
    """All lengths of the overload and bursts of all sizes, for a dozen seconds."""
    requests = round(rate_rps * CALIBRATION_S)
    chat = Synthetic(Poisson(rate_rps * CHAT_SHARE), CHAT, round(requests * CHAT_SHARE), seed=1)
    rest = requests - round(requests * CHAT_SHARE)
    reports = Synthetic(Poisson(rate_rps * (1 - CHAT_SHARE)), REPORTS, rest, seed=2)
    return Merged([chat, reports])


def overload(rate_rps: float, promises: Promises) -> Workload:
    """Chat and reports together, at a rate that the machine cannot hold for long."""
    requests = round(rate_rps * OVERLOAD_S)
    chats = round(requests * CHAT_SHARE)
    chat = Synthetic(Poisson(rate_rps * CHAT_SHARE), CHAT, chats, seed=3, slo=promises.chat)
    reports = Synthetic(
        Poisson(rate_rps * (1 - CHAT_SHARE)), REPORTS, requests - chats, seed=4, slo=promises.report
    )
    return Merged([chat, reports])


def _pace(step_ms: float) -> int:
    return round(6 * step_ms * NS_PER_MS)


def _ms(time_ns: int | None) -> str:
    return "–" if time_ns is None else f"{time_ns / NS_PER_MS:,.0f}"
