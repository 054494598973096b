from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from config.mqtt import MqttSettings
from core.errors import SettingError
from core.mqtt.options import TlsOptions, WillOptions
from core.settings import load_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in MqttSettings.model_fields:
        monkeypatch.delenv(f"MQTT_{field}".upper(), raising=False)


def settings(**fields: object) -> MqttSettings:
    return load_settings(env_file=None, mqtt=fields).mqtt


def test_a_session_outlives_the_process_by_default() -> None:
    options = settings().options()
    assert (options.protocol, options.session_expiry) == ("5", 7 * 24 * 3600)
    assert settings().client_id == settings().client_id == "routemq"


def test_pitfall_12_settings_are_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BROKER", "broker.example")
    monkeypatch.setenv("MQTT_PROTOCOL", "3.1.1")
    monkeypatch.setenv("MQTT_USERNAME", "pump")
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    options = settings().options()
    assert (options.address, options.protocol) == ("broker.example:1883", "3.1.1")
    assert (options.username, options.password) == ("pump", "secret")
    assert "secret" not in repr(options) + repr(settings())


def test_tls_and_will_reach_the_options(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("")
    found = settings(tls_enabled=True, tls_ca_file=authority, will_topic="gone", will_payload="ü", will_qos=1)
    assert found.options().tls == TlsOptions(ca_file=authority)
    assert found.options().will == WillOptions("gone", "ü".encode(), 1)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"port": "70000"}, "MQTT_PORT='70000'"),
        ({"port": "-1"}, "MQTT_PORT='-1'"),
        ({"broker": "mqtt://somewhere"}, "MQTT_BROKER='mqtt://somewhere'.*without mqtt://"),
        ({"keepalive": 0}, "MQTT_KEEPALIVE=0"),
        ({"protocol": "4"}, "MQTT_PROTOCOL='4'.*5 or 3.1.1"),
        ({"max_in_flight": 0}, "MQTT_MAX_IN_FLIGHT=0"),
        ({"client_id": ""}, "MQTT_CLIENT_ID=''"),
        ({"group_name": "a/b"}, "MQTT_GROUP_NAME='a/b'"),
        ({"will_topic": "a/#"}, "MQTT_WILL_TOPIC='a/#'"),
        ({"tls_ca_file": "/nowhere.pem"}, "MQTT_TLS_CA_FILE='/nowhere.pem'"),
        ({"tls_key_file": __file__, "tls_enabled": True}, "MQTT_TLS_KEY_FILE needs MQTT_TLS_CERT_FILE"),
        ({"tls_ca_file": __file__}, "need MQTT_TLS_ENABLED=true"),
        ({"password": "x"}, "MQTT_PASSWORD needs MQTT_USERNAME"),
        ({"reconnect_min": 9, "reconnect_max": 1}, "MQTT_RECONNECT_MAX"),
    ],
)
def test_a_wrong_setting_names_variable_value_and_remedy(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingError, match=problem):
        settings(**fields)


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("not PEM")
    with pytest.raises(SettingError, match=f"MQTT_TLS_CA_FILE={nonsense}"):
        TlsOptions(ca_file=nonsense).context()


def test_the_broker_is_verified_and_insecure_leaves_out_only_its_name(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    strict, insecure = TlsOptions(authority).context(), TlsOptions(authority, insecure=True).context()
    assert (strict.check_hostname, insecure.check_hostname) == (True, False)
    assert strict.verify_mode == insecure.verify_mode == ssl.CERT_REQUIRED
