"""``llm-gateway doctor``: every check is a row, and a broken promise is a failure."""

from __future__ import annotations

import sqlite3
from base64 import b64encode
from contextlib import closing
from secrets import token_bytes

from tests.cli.stage import KEY, Done, Stage

from llm_gateway import Lane
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing import Faults

PRODUCTION = {
    "ENVIRONMENT": "production",
    "LLM_GATEWAY_ALLOW_PLAINTEXT_QUEUE": "true",
}


def levels(done: Done) -> dict[object, object]:
    """Return how each check stands."""
    return {check["name"]: check["level"] for check in done.rows("checks")}


async def test_good(stage: Stage) -> None:
    """In production with a key and a queue that others cannot read nothing has failed, and no key is shown."""
    await stage.submitted(1)
    done = await stage.having(**PRODUCTION).ran("doctor", "--json")
    assert (0, True) == (done.code, done.document["ok"])
    found = levels(done)
    ok = ("environment", "guarantees", "providers", "cache", "queue", "queue.open", "sqlite.path", "sqlite.permissions")
    assert dict.fromkeys(ok, "ok") == {name: found[name] for name in ok}
    assert {"codec": "warning", "workers": "warning"} == {name: found[name] for name in ("codec", "workers")}
    assert KEY not in done.out + done.err


async def test_bad_settings(stage: Stage) -> None:
    """In production without a key, with replays and prompts in plain text, each is a failure with its next step."""
    bad = {"ENVIRONMENT": "production", "LLM_GATEWAY_OPENAI_API_KEY": "", "LLM_GATEWAY_DEV_CACHE": "true"}
    done = await stage.having(**bad).ran("doctor")
    assert 1 == done.code
    rows = [line.split() for line in done.out.splitlines()]
    assert ["guarantees", "providers", "cache", "codec"] == [row[1] for row in rows if row[0] == "failure"]
    assert "LLM_GATEWAY_ALLOW_PLAINTEXT_QUEUE" in done.out


async def test_unreadable_settings(stage: Stage) -> None:
    """Settings that cannot be read are one failure, not a traceback."""
    done = await stage.having(LLM_GATEWAY_WORKER__CONCURRENCY="many").ran("doctor", "--json")
    assert (1, {"settings": "failure"}, "") == (done.code, levels(done), done.err)


async def test_damaged_file(stage: Stage) -> None:
    """A queue that cannot be opened is a failure."""
    stage.file.write_bytes(b"this is no database, and long enough to be looked at as one" * 20)
    done = await stage.ran("doctor", "--json")
    assert (1, "failure") == (done.code, levels(done)["queue.open"])


async def test_no_folder(stage: Stage) -> None:
    """A folder that is not there is a failure."""
    done = await stage.having(LLM_GATEWAY_QUEUE_PATH=str(stage.file.parent / "missing" / "queue.db")).ran(
        "doctor", "--json"
    )
    assert (1, "failure") == (done.code, levels(done)["sqlite.disk"])


async def test_readable_by_others(stage: Stage) -> None:
    """A queue file that others can read is a warning."""
    await stage.submitted(1)
    stage.file.chmod(0o644)
    assert "warning" == levels(await stage.ran("doctor", "--json"))["sqlite.permissions"]


async def test_what_waits_for_an_operator(stage: Stage) -> None:
    """Paused and parked lanes and dead letters are told, each with what to do."""
    await stage.submitted(1)
    stage.sim.outage(Faults.CONTEXT_TOO_LONG)
    await stage.ran("worker", "--until-empty")
    queue = SqliteQueue(stage.file)
    await queue.start(outbox=False)
    await queue.pause(Lane("openai", "gpt-4o"))
    await queue.aclose()
    found = levels(await stage.ran("doctor", "--json"))
    assert ("warning", "warning", "ok") == (found["lanes"], found["dead letters"], found["workers"])


async def test_no_file_is_made(stage: Stage) -> None:
    """A queue file that is not there yet is not made by looking, and nothing has failed."""
    done = await stage.ran("doctor", "--json")
    assert (0, False, "ok") == (done.code, stage.file.exists(), levels(done)["sqlite.path"])


async def test_which_settings_are_set(stage: Stage) -> None:
    """The settings are told by name, and a variable that is none is a warning; no value is shown."""
    done = await stage.having(LLM_GATEWAY_OPENAI_KEY="sk-in-the-wrong-place").ran("doctor", "--json")
    told = {check["name"]: check["detail"] for check in done.rows("checks")}
    assert ("no setting: LLM_GATEWAY_OPENAI_KEY", "warning") == (told["variables"], levels(done)["variables"])
    assert "openai_api_key, openai_base_url, queue_path" in str(told["settings"])
    assert "sk-in-the-wrong-place" not in done.out + done.err


async def test_worker_that_has_gone(stage: Stage) -> None:
    """A lane whose worker was seen long ago waits for one, as one does that never had any."""
    await stage.submitted(1)
    with closing(sqlite3.connect(stage.file)) as db, db:
        db.execute("UPDATE lanes SET heartbeat = 0")
    done = await stage.ran("doctor", "--json")
    assert "warning" == levels(done)["workers"]


async def test_open_circuit(stage: Stage) -> None:
    """A lane whose provider is out is told: the night begins with this command."""
    await stage.submitted(1)
    queue = SqliteQueue(stage.file)
    await queue.start(outbox=False)
    await queue.set_gate(Lane("openai", "gpt-4o"), circuit="open", not_before=None)
    await queue.aclose()
    done = await stage.ran("doctor", "--json")
    (found,) = [check for check in done.rows("checks") if check["name"] == "circuits"]
    assert ("warning", "out: openai/gpt-4o (open)") == (found["level"], found["detail"])


async def test_keys_of_another(stage: Stage) -> None:
    """Keys that do not open what waits are a failure: a worker with them could answer nothing."""
    ours, theirs = (stage.having(LLM_GATEWAY_QUEUE_KEYS=key) for key in (new_key(), new_key()))
    await ours.submitted(1)
    assert "ok" == levels(await ours.ran("doctor", "--json"))["keys"]
    done = await theirs.ran("doctor", "--json")
    assert (1, "failure") == (done.code, levels(done)["keys"])


def new_key() -> str:
    """Make a key as the guide says."""
    return b64encode(token_bytes(32)).decode()
