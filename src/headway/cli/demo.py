"""`headway demo`."""


def demo() -> None:
    """Compare policies, run one on a real model, hold the forecast against it; about a minute."""
    from rich.console import Console

    from headway.demo import tell

    tell(Console())
