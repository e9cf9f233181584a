"""``audit-toolkit``: test a face-recognition system for error disparity, and hand over the report.

Exit codes: 0 everything required is satisfied, or nothing was required; 1 a requirement is violated; 2 usage or plan error;
3 a requirement is inconclusive or not assessed; 4 the run failed. 130 when interrupted.

Commands load on demand, so that ``--help`` stays light.
"""

from __future__ import annotations

import importlib
import io
import signal
import sys
import threading
import traceback
from pathlib import PurePath

import click

from audit_toolkit._version import __version__
from audit_toolkit.errors import AuditError

_COMMANDS = {
    "run": "audit_toolkit.cli.run",
    "disparity": "audit_toolkit.cli.disparity",
    "watchlist": "audit_toolkit.cli.watchlist",
    "explain": "audit_toolkit.cli.explain",
    "demo": "audit_toolkit.cli.demo",
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name]).command
        return command


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 satisfied or nothing required, 1 violated, 2 usage or plan error, "
    "3 inconclusive or not assessed, 4 run failed.",
)
@click.version_option(__version__, prog_name="audit-toolkit")
def cli() -> None:
    """Measure error rates by demographic group, with intervals that hold, and write a report a person can read."""


def main() -> None:
    """Run the command line; errors end in one sentence on stderr and the exit code they stand for."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a label that the terminal cannot show must not end a finished audit
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up as after Ctrl-C
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        click.echo("Interrupted; nothing was written.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("Interrupted; nothing was written.", err=True)
        sys.exit(130)
    except AuditError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except MemoryError:
        click.echo("Error: The machine's memory did not suffice. Ask for fewer attributes or thresholds.", err=True)
        sys.exit(4)
    except Exception as error:
        # An uncaught exception would end in 1, which means "violated"; and its text may quote a row.
        click.echo(f"Error: {_unexpected(error)}", err=True)
        sys.exit(4)


def _unexpected(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "audit_toolkit" in PurePath(f.filename).parts]
    frame = ours[-1] if ours else place
    name = "/".join(PurePath(frame.filename).parts[-2:])
    return (
        f"The run failed where it should not ({type(error).__name__} in {name}, line {frame.lineno}). This is a fault of "
        "the toolkit: please report this line and the plan, without any data."
    )


if __name__ == "__main__":
    main()
