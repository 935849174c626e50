"""All verbs in one program, and what its exits mean."""

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from headway.cli.bench import bench
from headway.cli.calibrate import calibrate
from headway.cli.catalogue import devices, models, policies
from headway.cli.chat import chat
from headway.cli.compare import compare
from headway.cli.demo import demo
from headway.cli.doctor import doctor
from headway.cli.foreign_flags import hint
from headway.cli.reproduce import reproduce
from headway.cli.serve import serve
from headway.cli.simulate import simulate
from headway.cli.version import version
from headway.cli.whatif import whatif
from headway.errors import HeadwayError

_ERROR, _INTERRUPTED = 2, 130

app = typer.Typer(
    name="headway",
    help="Serve and simulate LLMs so that latency promises are kept.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich takes longer to load than all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS = (
    demo, serve, chat, bench, simulate, compare, calibrate, whatif, reproduce, policies, models,
    devices, doctor, version,
)  # fmt: skip
for verb in VERBS:
    app.command(verb.__name__)(verb)

_ClickException: type[Exception] = typer.BadParameter.__mro__[2]  # typer does not export it


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 2 refused in one sentence, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(app)
        with command.make_context("headway", given) as context:
            command.invoke(context)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except HeadwayError as error:
        _refuse(str(error))
    except _ClickException as error:
        said = str(getattr(error, "format_message", error.__str__)())
        _refuse(hint(given) if hasattr(error, "option_name") and hint(given) else said)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
    sys.exit(0)


def _refuse(sentence: str) -> NoReturn:
    print(f"headway: {sentence}", file=sys.stderr)
    sys.exit(_ERROR)
