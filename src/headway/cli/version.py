"""`headway version`."""

from headway import __version__


def version() -> None:
    """Print the version."""
    print(f"headway {__version__}")
