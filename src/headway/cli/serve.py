"""`headway serve`: an OpenAI-compatible server."""

from typing import TYPE_CHECKING

from headway.cli.serve_flags import takes_service

if TYPE_CHECKING:
    from headway.server.serve_options import ServeOptions


@takes_service
def serve(options: "ServeOptions") -> None:
    """Serve a model over HTTP, as OpenAI's API; Ctrl-C finishes what is in flight."""
    import asyncio
    import logging
    import sys
    from time import monotonic

    from headway.errors import MissingExtraError

    began_s = monotonic()
    level = logging.INFO if options.enable_log_requests else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    try:
        from headway.server.lifecycle import run_service
        from headway.server.plan_service import plan_service
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("serve", str(error.name), "server") from error

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    asyncio.run(run_service(plan_service(options), say, began_s))
