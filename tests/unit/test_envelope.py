"""The envelope: what a store holds of a job, and every way in which it can be unreadable."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from core.clock import CENTURY
from core.errors import DispatchError, EnvelopeError, EnvelopeVersionError, JobVersionError, UnknownJobError
from core.job import Job, job_name
from core.queue.envelope import (
    VERSION,
    job_of,
    load_job,
    ordering_key_of,
    read_envelope,
    write_envelope,
)
from core.queue.registry import JobRegistry

NOW = datetime(2026, 11, 22, 10, 0, 0, 1, tzinfo=UTC)


class SendEmail(Job):
    queue = "emails"
    max_tries = 5
    timeout = 30
    to: str
    body: bytes = b""


class Welcome(Job):
    def __init__(self) -> None:
        super().__init__()
        self.user_id: Any = None


REGISTRY = JobRegistry([SendEmail, Welcome])


def written(job: Job | None = None) -> bytes:
    return write_envelope(job or SendEmail(to="a@example.com"), "0190-id", "emails", NOW)


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(written()), **changes}).encode()


def loaded(payload: bytes) -> Any:
    return load_job(read_envelope(payload), REGISTRY)


def test_an_envelope_is_json_that_a_person_can_read() -> None:
    assert json.loads(written()) == {
        "v": 1,
        "id": "0190-id",
        "job": f"{__name__}.SendEmail",
        "queue": "emails",
        "dispatched_at": "2026-11-22T10:00:00.000001Z",
        "data": {"to": "a@example.com", "body": ""},
    }


def test_a_job_comes_back_with_its_values_and_its_id() -> None:
    job = loaded(written(SendEmail(to="é", body=b"\xff")))
    assert (type(job), job.to, job.body, job.job_id) == (SendEmail, "é", b"\xff", "0190-id")


def test_a_job_of_plain_attributes_comes_back() -> None:
    welcome = Welcome()
    welcome.user_id = {7, 8}
    job = loaded(written(welcome))
    assert (type(job), job.user_id, job.job_id) == (Welcome, {7, 8}, "0190-id")


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tries", 1),
        ("max_tries", 100),
        ("retry_after", 0),
        ("retry_after", 0.5),
        ("timeout", 0),
        ("timeout", 90),
        ("retry_after", CENTURY),
    ],
)
@pytest.mark.parametrize("cls", [SendEmail, Welcome])
def test_pitfall_33_an_option_set_on_an_instance_travels(cls: type[Job], name: str, value: float) -> None:
    job = SendEmail(to="a") if cls is SendEmail else Welcome()
    setattr(job, name, value)
    found = getattr(loaded(written(job)), name)
    assert (found, type(found)) == (value, type(value))


def test_pitfall_33_options_survive_being_dispatched_again() -> None:
    job = SendEmail(to="a")
    job.max_tries, job.retry_after = 1, 2.5
    again = loaded(written(loaded(written(job))))
    assert (again.max_tries, again.retry_after) == (1, 2.5)


def test_an_option_of_the_class_stays_with_the_class() -> None:
    assert "options" not in json.loads(written())
    assert vars(loaded(written())).keys() == {"to", "body", "job_id"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tries", 0),
        ("max_tries", -1),
        ("max_tries", 2.5),
        ("max_tries", "3"),
        ("max_tries", True),
        ("max_tries", None),
        ("max_tries", float("inf")),
        ("retry_after", -0.1),
        ("retry_after", float("inf")),
        ("retry_after", float("nan")),
        ("retry_after", "60"),
        ("retry_after", 1e12),
        ("timeout", -1),
        ("timeout", float("inf")),
        ("timeout", None),
        ("timeout", CENTURY + 1),
    ],
)
def test_an_option_that_is_not_usable_is_refused_with_its_value(name: str, value: Any) -> None:
    job = SendEmail(to="a")
    setattr(job, name, value)
    with pytest.raises(DispatchError) as caught:
        written(job)
    wanted = "a whole number from 1" if name == "max_tries" else "seconds from 0 to a century"
    assert str(caught.value) == f"{job_name(SendEmail)}: {name}={value!r} is not usable; give {wanted}."


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────


class Renamed(Job):
    """Of version 1 it had the fields `name` and `when`, of version 2 no `when`."""

    version = 3
    address: str
    seen: str = ""

    @classmethod
    def upgrade(cls, data: dict[str, Any], version: int) -> dict[str, Any]:
        if "unfit" in data:
            raise KeyError("name")
        return {"address": data["name"], "seen": json.dumps([data, version])}


class Careless(Job):
    version = 2

    @staticmethod
    def upgrade(data: dict[str, Any], version: int) -> dict[str, Any]:
        return None  # type: ignore[return-value]


class Misspelt(Job):
    version = 2
    percent: int = 0

    @classmethod
    def upgrade(cls, data: dict[str, Any], version: int) -> dict[str, Any]:
        data["precent"] = 100 if data["open"] else 0
        return data


class Built(Job):
    version = 2

    def __init__(self) -> None:
        self.a = 0

    @classmethod
    def upgrade(cls, data: dict[str, Any], version: int) -> dict[str, Any]:
        return {**data, "b": 2}


VERSIONED = JobRegistry([SendEmail, Renamed, Careless, Misspelt, Built])


def stored(cls: type[Job], data: dict[str, Any], **more: Any) -> bytes:
    return changed(job=job_name(cls), data=data, **more)


def test_a_job_that_needs_neither_turn_nor_version_is_written_for_the_oldest_reader() -> None:
    """Workers of the release before go on with it in a rolling deploy."""
    envelope = json.loads(written())
    assert envelope["v"] == 1
    assert envelope.keys() == {"v", "id", "job", "queue", "dispatched_at", "data"}


def test_a_job_with_an_ordering_key_is_written_for_readers_that_keep_its_turn() -> None:
    payload = write_envelope(SendEmail(to="a"), "0190-id", "emails", NOW, "pump-7")
    envelope = json.loads(payload)
    assert (envelope["v"], envelope["ordering_key"]) == (2, "pump-7")
    assert "version" not in envelope
    assert ordering_key_of(payload) == "pump-7"
    assert loaded(payload).to == "a"


def test_a_job_of_a_later_version_is_written_for_readers_that_know_of_versions() -> None:
    envelope = json.loads(written(Renamed(address="a")))
    assert (envelope["v"], envelope["version"]) == (2, 3)
    assert "ordering_key" not in envelope


def test_data_of_the_version_of_today_is_not_upgraded() -> None:
    job: Any = load_job(read_envelope(written(Renamed(address="a"))), VERSIONED)
    assert (job.address, job.seen) == ("a", "")


@pytest.mark.parametrize(("more", "version"), [({}, 1), ({"v": 2, "version": 1}, 1), ({"v": 2, "version": 2}, 2)])
def test_what_an_older_version_stored_is_upgraded(more: dict[str, Any], version: int) -> None:
    data = {"name": "a@example.com", "when": {"$date": "2026-01-01"}}
    job: Any = load_job(read_envelope(stored(Renamed, data, **more)), VERSIONED)
    assert (job.address, json.loads(job.seen)) == ("a@example.com", [data, version])


def test_an_upgrade_that_raises_is_an_envelope_error_with_its_cause() -> None:
    with pytest.raises(EnvelopeError, match=r"upgrade\(\) of .*Renamed .* version 1 .* version 3: KeyError") as caught:
        load_job(read_envelope(stored(Renamed, {"unfit": True})), VERSIONED)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_upgrade_that_returns_no_data_is_an_envelope_error() -> None:
    with pytest.raises(EnvelopeError, match="it returned a NoneType, not the data"):
        load_job(read_envelope(stored(Careless, {})), VERSIONED)


def test_what_is_upgraded_and_still_does_not_fit_is_an_envelope_error() -> None:
    with pytest.raises(EnvelopeError) as caught:
        load_job(read_envelope(stored(Renamed, {"name": 7})), VERSIONED)
    assert str(caught.value) == (
        f"What upgrade() of {job_name(Renamed)} made of what version 1 stored does not fit version 3: Expected `str`, "
        "got `int` - at `$.address`"
    )


def test_an_upgrade_that_adds_what_its_class_does_not_declare_is_an_envelope_error() -> None:
    with pytest.raises(EnvelopeError, match=r"TypeError.*it returned 'precent', which the class does not declare"):
        load_job(read_envelope(stored(Misspelt, {"open": True})), VERSIONED)


def test_what_an_upgrade_leaves_over_is_left_out() -> None:
    job: Any = load_job(read_envelope(stored(Misspelt, {"open": True, "precent": 5})), VERSIONED)
    assert vars(job) == {"percent": 0, "job_id": job.job_id}


def test_a_class_with_a_constructor_takes_whatever_its_upgrade_returns() -> None:
    job: Any = load_job(read_envelope(stored(Built, {"a": 1})), VERSIONED)
    assert (job.a, job.b) == (1, 2)


@pytest.mark.parametrize(("cls", "here"), [(SendEmail, 1), (Renamed, 3)])
def test_a_job_of_a_newer_version_is_not_misread_and_says_what_to_do(cls: type[Job], here: int) -> None:
    with pytest.raises(JobVersionError) as caught:
        load_job(read_envelope(stored(cls, {"to": "a", "address": "a"}, v=2, version=here + 1)), VERSIONED)
    assert f"by version {here + 1} of {job_name(cls)}; this worker has version {here}" in str(caught.value)
    assert "Deploy the newer one to this worker" in str(caught.value)
    assert type(caught.value.job) is cls


@pytest.mark.parametrize("version", [0, -1, "2", None, 1.5])
def test_a_version_that_cannot_be_is_an_envelope_error(version: Any) -> None:
    with pytest.raises(EnvelopeError, match="no whole envelope"):
        read_envelope(changed(v=2, version=version))


@pytest.mark.parametrize("name", ["version", "ordering_key"])
@pytest.mark.parametrize("cls", [SendEmail, Welcome])
def test_what_the_class_alone_can_say_is_refused_of_a_job(cls: type[Job], name: str) -> None:
    job = SendEmail(to="a") if cls is SendEmail else Welcome()
    setattr(job, name, "1.4")
    with pytest.raises(DispatchError, match=f"'{name}' is for the class to say, not for one of its jobs"):
        written(job)


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_truncated_envelope_is_refused_wherever_it_is_cut_off() -> None:
    whole = written()
    for length in range(len(whole)):
        with pytest.raises(EnvelopeError, match="The payload is no"):
            read_envelope(whole[:length])


@pytest.mark.parametrize("version", [VERSION + 1, 99])
def test_an_envelope_of_a_newer_version_says_what_to_do(version: int) -> None:
    with pytest.raises(EnvelopeVersionError) as caught:
        read_envelope(changed(v=version))
    assert f"version {version}" in str(caught.value)
    assert f"up to {VERSION}" in str(caught.value)
    assert "Bring this worker up to date, then run `python main.py --queue-retry`" in str(caught.value)


def test_a_newer_envelope_is_told_by_its_version_alone() -> None:
    with pytest.raises(EnvelopeVersionError):
        read_envelope(b'{"v": 3, "entirely": ["new"]}')


def test_an_unknown_job_class_is_named() -> None:
    with pytest.raises(UnknownJobError, match=r"'app\.jobs\.gone\.Gone'"):
        loaded(changed(job="app.jobs.gone.Gone"))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe",
        b'{"v": 1, "id": "\xff"}',
        written().replace(b"a@example.com", b"\xc3\x28"),
        written().replace(b'"emails"', b'"\xff"'),
    ],
    ids=["no json", "id", "data", "queue"],
)
def test_invalid_utf8_is_an_envelope_error(payload: bytes) -> None:
    with pytest.raises(EnvelopeError):
        loaded(payload)


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b"7", b'"v"', b"{}", b'{"v": "1"}', b'{"v": null}', b"not json", b"\x00"]
)
def test_what_is_no_envelope_is_an_envelope_error(payload: bytes) -> None:
    with pytest.raises(EnvelopeError, match="The payload is no envelope"):
        read_envelope(payload)


@pytest.mark.parametrize(
    "changes",
    [{"id": 7}, {"job": None}, {"queue": []}, {"dispatched_at": "soon"}, {"options": {"max_tries": "3"}}],
    ids=str,
)
def test_a_part_of_a_wrong_type_is_an_envelope_error(changes: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError, match="The payload is no whole envelope"):
        read_envelope(changed(**changes))


@pytest.mark.parametrize("data", [None, 7, [], {"to": 7}, {}, "x"])
def test_data_that_does_not_fit_the_class_is_an_envelope_error(data: Any) -> None:
    with pytest.raises(EnvelopeError, match="SendEmail as it is now"):
        loaded(changed(data=data))


def test_what_a_later_release_adds_to_this_version_is_passed_over() -> None:
    assert loaded(changed(tenant="a")).to == "a@example.com"


@pytest.mark.parametrize(
    "options", [{"max_tries": 0}, {"max_tries": 2.5}, {"timeout": -1}, {"retry_after": 1e300}, {"soft_timeout": 10**30}]
)
def test_options_that_cannot_be_are_an_envelope_error(options: dict[str, float]) -> None:
    with pytest.raises(EnvelopeError, match=r"stored options cannot be: .*SendEmail: .* is not usable; give"):
        loaded(changed(options=options))


@pytest.mark.parametrize("payload", [b'{"a":' * 5000, b'{"v":1,"job":"a","data":' + b"[" * 5000])
def test_what_nests_too_deeply_is_an_envelope_error(payload: bytes) -> None:
    with pytest.raises(EnvelopeError, match="The payload is no"):
        read_envelope(payload)
    assert job_of(payload) == ""
    assert ordering_key_of(payload) is None


def test_only_options_come_out_of_the_options() -> None:
    job = loaded(changed(options={"max_tries": 2, "handle": 1, "to": 3}))
    assert (job.max_tries, job.to) == (2, "a@example.com")
    assert callable(job.handle)


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (written(), job_name(SendEmail)),
        (changed(v=VERSION + 1), job_name(SendEmail)),
        (changed(job="app.jobs.gone.Gone"), "app.jobs.gone.Gone"),
        (written()[:-1], ""),
        (b"\xff", ""),
        (b"", ""),
        (b"[]", ""),
    ],
    ids=["known", "newer", "unknown", "truncated", "invalid", "empty", "list"],
)
def test_the_class_of_a_payload_is_told_where_it_can_be(payload: bytes, name: str) -> None:
    assert job_of(payload) == name


def test_a_job_that_the_started_program_defines_is_refused() -> None:
    class Local(Job):
        __module__ = "__main__"

    with pytest.raises(DispatchError, match=r"Local is defined in the program that was started.*move it"):
        written(Local())
