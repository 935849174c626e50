"""SLOs as people write them: `ttft=1s,tpot=60ms`, and by class `chat:ttft=300ms,share=0.7`.

Targets are `ttft`, `tpot`, `itl_p99`, `e2e`, `deadline` (times) and `late` (the share of units that may
come after their own due time). `share` is the class's part of a synthetic workload. `none` promises
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headway.api.quantities import duration_ns, share
from headway.core import NO_SLO, Slo
from headway.errors import OptionError

DEFAULT_SLO = "ttft=1s,tpot=60ms"
_TIMES = ("ttft", "tpot", "itl_p99", "e2e", "deadline")
_FORMS = (
    "ttft=1s,tpot=60ms with targets ttft, tpot, itl_p99, e2e, deadline (times) and late (a share); "
    "NAME: in front for one SLO class; or none"
)


@dataclass(frozen=True, slots=True)
class SloBook:
    """What requests are promised: by class where they have one, else `default`."""

    default: Slo
    classes: Mapping[str, Slo] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)  # of classes that say so

    @property
    def labels(self) -> list[tuple[Slo, float]]:
        """Classes with their shares, for a workload that has none; classes without a share split the rest."""
        silent = [name for name in self.classes if name not in self.shares]
        left = max(0.0, 1.0 - sum(self.shares.values()))
        each = left / len(silent) if silent else 0.0
        return [(slo, self.shares.get(name, each)) for name, slo in self.classes.items()]


def parse_slos(texts: str | Iterable[str]) -> SloBook:
    """Read any number of SLO texts; the last of a name counts. No unnamed one: the default SLO.

    Raises:
        OptionError: a text that is not understood; says which forms are.
    """
    default = None
    classes: dict[str, Slo] = {}
    shares: dict[str, float] = {}
    for text in (texts,) if isinstance(texts, str) else texts:
        name, targets = _named(text)
        slo, part = _parse(text, targets, name or "default")
        if not name:
            if part is not None:
                raise OptionError(f"SLO {text!r}: share belongs to a class, write NAME:{targets}")
            default = slo
            continue
        classes[name] = slo
        shares.pop(name, None)
        if part is not None:
            shares[name] = part
    if default is None:
        default = _parse(DEFAULT_SLO, DEFAULT_SLO, "default")[0]
    return SloBook(default, classes, shares)


def _named(text: str) -> tuple[str, str]:
    """Split `chat:ttft=1s` (or `class:chat:ttft=1s`) into the class and its targets."""
    head, colon, rest = text.removeprefix("class:").rpartition(":")
    return (head.strip(), rest) if colon else ("", text)


def _parse(text: str, targets: str, name: str) -> tuple[Slo, float | None]:
    if targets.strip().lower() == "none":
        return (NO_SLO if name == "default" else Slo(name)), None
    fields: dict[str, int] = {}
    part = None
    for item in targets.split(","):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals or not value or key not in (*_TIMES, "late", "share"):
            raise OptionError(
                f"SLO {text!r} has {item.strip()!r}, which is no target: write {_FORMS}"
            )
        what = f"SLO {text!r}: {key}"
        if key == "share":
            part = share(what, value)
        elif key == "late":
            fields["late_permille"] = round(1000 * share(what, value))
        else:
            fields[f"{key}_ns"] = duration_ns(what, value)
    return Slo(name, **fields), part
