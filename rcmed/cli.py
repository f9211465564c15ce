"""The command `rcmed`: finds its sub-commands by entry points, and turns errors into one line and an exit status.

Exit status: 0 done (also when nothing was found); 2 unusable input or configuration, or a machine that lacks something
(a folder that can't be written, a full disk); 1 a fault of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from rich.console import Console

from rcmed.errors import ConfigurationError, RCMedError

COMMANDS = "rcmed.commands"
EXIT_FAULT = 1
EXIT_UNUSABLE = 2
DEBUG_VARIABLE = "RCMED_DEBUG"
# By package, the extra that brings what its commands need beyond `rcmed find`.
_EXTRAS = {"rcmed": "train", "dicom_bridge": "gateway", "monailabel_app": "monailabel"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `rcmed`.

    Args:
        arguments: what follows the command's name; the process's own by default.
    Raises:
        SystemExit: always; 0, 1 or 2 as the module says. With RCMED_DEBUG=1 an error keeps its traceback instead.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build_app(given)(args=given, prog_name="rcmed")
    except ConfigurationError as error:
        _fail(error, "\nrcmed: ".join(" ".join(line.split()) for line in error.lines), EXIT_UNUSABLE)
    except RCMedError as error:
        _fail(error, _one_line(error), EXIT_UNUSABLE)
    except OSError as error:
        _fail(error, _system_says(error), EXIT_UNUSABLE)
    except Exception as error:
        missing = _missing_extra(error, given)
        if missing is not None:
            _fail(error, missing, EXIT_UNUSABLE)
        text = f"{type(error).__name__}: {_one_line(error)} (a fault of ours; {DEBUG_VARIABLE}=1 shows where)"
        _fail(error, text, EXIT_FAULT)


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Make the command with its sub-commands.

    Args:
        arguments: where they begin with a sub-command's name, only that one is imported; else (help) all are.
    """
    app = typer.Typer(
        help="Medical images asked in words: findings with masks, presence and measurements. Research use only.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    found = {entry.name: entry for entry in entry_points(group=COMMANDS)}
    asked = arguments[0] if arguments and arguments[0] in found else None
    for name in sorted(found) if asked is None else [asked]:
        _register(app, found[name])
    return app


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rcmed {version('rcmed')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """Nothing is done before a sub-command but what the options say."""


def _register(app: typer.Typer, entry: EntryPoint) -> None:
    """Add a sub-command; one that cannot be imported stays in the list and says why when it is called."""
    try:
        command: Any = entry.load()
    except Exception as error:  # another package's module may raise anything on import
        reason = f"`rcmed {entry.name}` cannot be loaded from {entry.value}: {_one_line(error)}"
        if os.environ.get(DEBUG_VARIABLE):
            raise
        app.command(entry.name, help=f"(not available: {_one_line(error)})", context_settings=_ANY_ARGUMENTS)(
            _unavailable(reason)
        )
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name)
    else:
        app.command(entry.name)(command)


def _missing_extra(error: Exception, given: Sequence[str]) -> str | None:
    """What to install where a library of the command is not there; None where it is not that."""
    found = {entry.name: entry.value.split(".")[0] for entry in entry_points(group=COMMANDS)}
    if not isinstance(error, ModuleNotFoundError) or error.name is None or not given or given[0] not in found:
        return None
    extra = _EXTRAS.get(found[given[0]])
    if extra is None or error.name.split(".")[0] in _EXTRAS:
        return None
    return f"`rcmed {given[0]}` needs the package {error.name}; pip install 'rcmed[{extra}]'"


_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


def _unavailable(reason: str) -> Any:
    def command() -> None:
        Console(stderr=True).print(f"rcmed: {reason}", soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(EXIT_FAULT)

    return command


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _system_says(error: OSError) -> str:
    """What the system refused, and for which file."""
    said = error.strerror or _one_line(error)
    return f"{error.filename}: {said}" if error.filename else said


def _fail(error: BaseException, text: str, status: int) -> None:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    Console(stderr=True).print(f"rcmed: {text}", soft_wrap=True, markup=False, highlight=False)
    raise SystemExit(status)
