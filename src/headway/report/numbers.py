"""Numbers as people read them: few digits, the same way in tables and on pages."""

from __future__ import annotations

ABSENT = "–"


def number(value: float | None, digits: int = 4) -> str:
    """At most about `digits` significant digits, thousands apart, no exponent for anything human."""
    if value is None:
        return ABSENT
    if isinstance(value, int) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    text = f"{value:.{digits}g}"
    return text if "e" not in text else f"{value:.2e}"


def percent(share: float | None) -> str:
    """A share in percent, with more digits near 100 %, where they matter."""
    if share is None:
        return ABSENT
    return f"{100 * share:.2f} %" if 0.99 < share < 1 else f"{100 * share:.1f} %"


def milliseconds(value: float | None) -> str:
    """Milliseconds to three digits; large ones whole."""
    return number(value, 3)
