"""What a run leaves behind, as files that other verbs read: one line of JSON a fact."""

from headway.records.run_log import (
    Ended,
    Line,
    Opened,
    RunLog,
    RunLogWriter,
    Stepped,
    Submitted,
    WorkLine,
    read_run_log,
)

__all__ = [
    "Ended",
    "Line",
    "Opened",
    "RunLog",
    "RunLogWriter",
    "Stepped",
    "Submitted",
    "WorkLine",
    "read_run_log",
]
