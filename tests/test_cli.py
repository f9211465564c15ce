from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from rcmed import cli
from rcmed.errors import ConfigurationError, UnreadableFileError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give `rcmed` these commands only: a function each, or the text of an entry point."""
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)

    def give(**commands: Callable[..., None] | str) -> None:
        entries = []
        for name, command in commands.items():
            if isinstance(command, str):
                entries.append(EntryPoint(name, command, cli.COMMANDS))
            else:
                monkeypatch.setattr(cli, f"stub_{name}", command, raising=False)
                entries.append(EntryPoint(name, f"rcmed.cli:stub_{name}", cli.COMMANDS))
        monkeypatch.setattr(cli, "entry_points", lambda group: entries if group == cli.COMMANDS else [])

    return give


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0)


def look() -> None:
    """Look at an image."""
    print("looked")


def test_help_lists_the_commands(register, capsys: pytest.CaptureFixture[str]) -> None:
    register(look=look)
    assert status_of("--help") == 0
    out = capsys.readouterr().out
    assert "look" in out and "Look at an image." in out


def test_the_installed_commands_answer_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--help") == 0
    assert "not available" not in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0
    assert capsys.readouterr().out.startswith("rcmed ")


def test_done_is_0(register, capsys: pytest.CaptureFixture[str]) -> None:
    register(look=look)
    assert status_of("look") == 0
    assert capsys.readouterr().out == "looked\n"


def test_every_mistake_of_a_configuration_is_a_line(register, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ConfigurationError("a.yaml, line 1: wrong", "a.yaml, line 7: wrong,  too")

    register(look=fail)
    assert status_of("look") == 2
    told = ["rcmed: a.yaml, line 1: wrong", "rcmed: a.yaml, line 7: wrong, too"]
    assert capsys.readouterr().err.splitlines() == told


@pytest.mark.parametrize("error", [UnreadableFileError, ConfigurationError])
def test_unusable_input_is_2_and_one_line(register, capsys: pytest.CaptureFixture[str], error: type) -> None:
    def fail() -> None:
        raise error("a.dcm: (0028,0010) Rows is missing;\n  send the whole file " + "x" * 200)

    register(look=fail)
    assert status_of("look") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rcmed: a.dcm: (0028,0010) Rows is missing; send the whole file")


def test_our_fault_is_1_and_hints_at_the_traceback(register, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError("plane")

    register(look=fail)
    assert status_of("look") == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "KeyError" in err and "RCMED_DEBUG=1" in err


def test_debug_keeps_the_traceback(register, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("plane")

    register(look=fail)
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    with pytest.raises(KeyError):
        cli.main(["look"])


def test_wrong_usage_is_2(register) -> None:
    register(look=look)
    assert status_of("look", "--no-such-option") == 2
    assert status_of("no-such-command") == 2


def test_a_command_that_cannot_be_imported_says_so_and_spares_the_others(
    register, capsys: pytest.CaptureFixture[str]
) -> None:
    register(look=look, gone="rcmed.no_such_module:run")
    assert status_of("gone", "--any", "option") == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "rcmed.no_such_module" in err
    assert status_of("look") == 0
    assert status_of("--help") == 0
    assert "not available" in capsys.readouterr().out


def test_only_the_command_that_is_called_is_imported(register, monkeypatch: pytest.MonkeyPatch) -> None:
    register(look=look, gone="rcmed.no_such_module:run")
    loaded: list[str] = []
    load = EntryPoint.load
    monkeypatch.setattr(EntryPoint, "load", lambda entry: loaded.append(entry.name) or load(entry))
    assert status_of("look") == 0
    assert loaded == ["look"]


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "rcmed").rglob("*.py")), ids=lambda path: path.stem)
def test_rcmed_imports_nothing_upwards(path: Path) -> None:
    assert not imported_packages(path) & {"dicom_bridge", "monailabel_app", "pynetdicom", "fastapi", "monailabel"}


def test_the_cli_does_not_import_torch_to_show_its_version() -> None:
    assert "torch" not in imported_packages(ROOT / "rcmed" / "cli.py")
    assert sys.modules["rcmed.cli"] is cli


def test_what_the_system_refuses_is_2_and_names_the_file(register, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise PermissionError(13, "Permission denied", "/root/out")

    register(look=fail)
    assert status_of("look") == 2
    assert capsys.readouterr().err == "rcmed: /root/out: Permission denied\n"
