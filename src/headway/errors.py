"""What can go wrong, one type per thing a caller may handle.

Messages are one sentence: the value, the limit, the next action.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadwayError(Exception):
    """Anything headway refuses or cannot do. The command line prints the message and exits with 2."""


class PlanError(HeadwayError):
    """A policy returned a plan that cannot be executed. The message names policy, value and limit."""


class UnknownNameError(HeadwayError):
    """No policy, model, device or option of that name. The message lists the nearest ones."""

    @classmethod
    def among(cls, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Build the error from all known names; the nearest come first."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
        return cls(f"unknown {what} {name!r}: {hint}")


class MissingCapabilityError(HeadwayError):
    """A policy needs something this world does not offer. The message names both."""


class DoesNotFitError(HeadwayError):
    """The model, or one request, needs more memory than there is."""


class WorkloadError(HeadwayError):
    """A trace or workload description is wrong. The message names file and line."""


class OptionError(HeadwayError):
    """An option has an impossible value. The message gives the value and the limit."""


class MissingExtraError(HeadwayError):
    """A feature needs a package that is not installed. The message names the extra."""

    @classmethod
    def of(cls, feature: str, package: str, extra: str) -> MissingExtraError:
        """Say which extra brings the package."""
        return cls(f"{feature} needs {package}: pip install 'headway[{extra}]'")


class ModelFileError(HeadwayError):
    """A weights file is truncated, of another architecture, or lacks a tensor."""
