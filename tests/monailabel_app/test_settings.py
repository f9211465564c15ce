from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from monailabel_app.settings import AnnotateSettings
from rcmed.errors import ConfigurationError


def test_defaults_listen_on_loopback_and_are_frozen() -> None:
    settings = AnnotateSettings.of()
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 8000, "small")
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_beyond_loopback_only_with_authentication() -> None:
    with pytest.raises(ConfigurationError, match="authentication"):
        AnnotateSettings.of(host="0.0.0.0")
    assert AnnotateSettings.of(host="0.0.0.0", allow_anonymous=True).host == "0.0.0.0"
    AnnotateSettings.of(host="0.0.0.0", authentication={"mode": "oidc", "issuer": "https://idp.example"})


@pytest.mark.parametrize(
    ("authentication", "word"),
    [
        ({"mode": "jwt"}, "secret"),
        ({"mode": "jwt", "secret": "short"}, "32 bytes"),
        ({"mode": "jwt", "secret": "x" * 40, "public_key": "key.pem"}, "either"),
        ({"mode": "oidc"}, "issuer"),
        ({"mode": "oidc", "issuer": "http://idp.example"}, "https"),
        ({"mode": "jwt", "public_key": "key.pem", "algorithms": ["none"]}, "algorithms"),
        ({"mode": "jwt", "public_key": "key.pem", "algorithms": ["HS256"]}, "algorithms"),
        ({"mode": "other"}, "mode"),
    ],
)
def test_a_weak_authentication_is_refused_with_its_key(authentication: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as error:
        AnnotateSettings.of(authentication=authentication)
    assert "\n" not in str(error.value)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCMED_ANNOTATE_WAITING_INFERS", "3")
    monkeypatch.setenv("RCMED_ANNOTATE_AUTHENTICATION__MODE", "oidc")
    monkeypatch.setenv("RCMED_ANNOTATE_AUTHENTICATION__ISSUER", "https://idp.example")
    settings = AnnotateSettings.of(port=None)
    assert settings.waiting_infers == 3 and settings.authentication.mode == "oidc"
    monkeypatch.setenv("RCMED_ANNOTATE_PORT", "many")
    with pytest.raises(ConfigurationError, match="port"):
        AnnotateSettings.of()


def test_what_is_saved_for_child_processes_holds_no_secret(tmp_path: Path) -> None:
    secret = "a secret of at least thirty-two bytes"
    settings = AnnotateSettings.of(port=8123, authentication={"mode": "jwt", "secret": secret})
    settings.save(tmp_path / "settings.json")
    assert secret not in (tmp_path / "settings.json").read_text()
    assert (tmp_path / "settings.json").stat().st_mode & 0o077 == 0
    assert AnnotateSettings.load(tmp_path / "settings.json").port == 8123
