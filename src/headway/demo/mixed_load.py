"""What the demo asks of the server: requests to warm up and to calibrate on, and an overload of two SLO classes."""

from __future__ import annotations

from dataclasses import dataclass

from headway.core import NS_PER_MS, Slo
from headway.core.protocols import Workload
from headway.timing import Profile
from headway.timing.profile_shape import shape_of
from headway.workload import ClosedLoop, Independent, LogNormal, Merged, Poisson, Synthetic, Uniform

CHAT_SHARE = 0.75
MOST_OUTPUT = 40
CHAT_PROMPTS, REPORT_PROMPTS = LogNormal.of(40, 60, most=200), LogNormal.of(420, 500, most=900)
ANSWERS = Uniform(8, MOST_OUTPUT)
TYPICAL_CONTEXT = 100  # tokens
# Promises, in decode steps of 8 sequences: what they mean does not depend on the machine.
CHAT_STEPS, REPORT_STEPS = 25, 400  # until the first token
PACE_STEPS, REPORT_PACE_STEPS = 6, 18  # per token


def decode_step_ms(profile: Profile, sequences: int = 8) -> float:
    """A step of so many decodes over contexts of a typical chat."""
    return profile.shape_ns(shape_of([(1, TYPICAL_CONTEXT, 1)] * sequences)) / NS_PER_MS


@dataclass(frozen=True)
class Promises:
    """The two classes: people who chat, and reports that may take their time."""

    chat: Slo
    report: Slo

    @classmethod
    def for_step(cls, step_ms: float, report_steps: float = REPORT_STEPS) -> Promises:
        """Promises that a machine with decode steps of `step_ms` keeps easily when it is not overloaded."""

        def slo(name: str, steps: float, pace_steps: float) -> Slo:
            step_ns = step_ms * NS_PER_MS
            return Slo(name, ttft_ns=round(steps * step_ns), tpot_ns=round(pace_steps * step_ns))

        return cls(
            slo("chat", CHAT_STEPS, PACE_STEPS), slo("report", report_steps, REPORT_PACE_STEPS)
        )

    def text(self) -> str:
        """Both in one line."""
        return (
            f"chat: TTFT {_ms(self.chat.ttft_ns)} ms, TPOT {_ms(self.chat.tpot_ns)} ms; "
            f"reports: TTFT {_ms(self.report.ttft_ns)} ms, TPOT {_ms(self.report.tpot_ns)} ms"
        )


def mixed(rate_rps: float, seconds: float, promises: Promises, seed: int) -> Merged:
    """Chat and reports together, at a rate, for so long: at least one of each."""
    chats = max(1, round(rate_rps * seconds * CHAT_SHARE))
    reports = max(1, round(rate_rps * seconds * (1 - CHAT_SHARE)))
    chat, report = Poisson(rate_rps * CHAT_SHARE), Poisson(rate_rps * (1 - CHAT_SHARE))
    short, long = Independent(CHAT_PROMPTS, ANSWERS), Independent(REPORT_PROMPTS, ANSWERS)
    return Merged(
        [
            Synthetic(chat, short, chats, seed=2 * seed, slo=promises.chat),
            Synthetic(report, long, reports, seed=2 * seed + 1, slo=promises.report),
        ]
    )


@dataclass(frozen=True)
class Wave:
    """So many requests of the mix without promises, so many of them at once, as fast as the server answers."""

    requests: int
    at_once: int
    answers: tuple[int, int] = (8, MOST_OUTPUT)  # fewest and most tokens

    def workload(self, seed: int) -> Workload:
        """The requests; lengths follow the mix, whatever the machine's speed."""
        answers = Uniform(*self.answers)
        mix = Merged(
            [
                Synthetic(Poisson(CHAT_SHARE), Independent(CHAT_PROMPTS, answers), seed=2 * seed),
                Synthetic(
                    Poisson(1 - CHAT_SHARE),
                    Independent(REPORT_PROMPTS, answers),
                    seed=2 * seed + 1,
                ),
            ]
        )
        return ClosedLoop(mix, self.at_once, self.requests)


WARM_UP = Wave(16, 8, (4, 12))
"""Like what comes after it, in short: what a process does for the first time takes longer."""

CALIBRATION = (
    (Wave(12, 1, (2, 4)), Wave(6, 4), Wave(24, 24)),
    (Wave(6, 1, (2, 4)), Wave(40, 40)),
)
"""Of two servers, so that a busy moment does not decide: whole prompts alone, then batches that grow and shrink."""


def _ms(time_ns: int | None) -> str:
    return "–" if time_ns is None else f"{time_ns / NS_PER_MS:,.0f}"
