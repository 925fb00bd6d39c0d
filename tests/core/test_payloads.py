"""What lies in the queue is read back as it was written, or refused without showing any of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from llm_gateway import FinishReason, LLMRequest, Message, Priority, Usage
from llm_gateway._core.payloads import (
    Echo,
    StoredJob,
    StoredResult,
    read_echo,
    read_job,
    read_result,
    write_echo,
)
from llm_gateway._core.responses import CacheSignal, Receipt, SignalWeight
from llm_gateway._core.schema import TEXT, output_type_of
from llm_gateway._facts import Attempt, Fault, Sent
from llm_gateway.errors import InvalidRequest, QueueError

CANARY = "the quiet heron folded seven umbrellas"
AT = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
REQUEST = LLMRequest(
    provider="p",
    model="m",
    messages=(Message.system("Be fair."), Message.user(CANARY), Message.assistant("A."), Message.user("Why?")),
    max_output_tokens=5,
    temperature=0.1,
    reasoning_effort="low",
    verbosity="high",
    seed=-3,
    drop_unsupported=True,
    served_model="m-1",
    priority=Priority.LIVE,
    ttl=timedelta(seconds=1.5),
    idempotency_key="k",
    group="g",
    subjects=("s1", "s2"),
    correlation_id="c",
    callback_topic="t",
    sample=2,
    metadata={"a": [1, None, {"b": 0.1}]},
    trace_context={"traceparent": "00-1-2-01"},
)
RECEIPT = Receipt(
    provider="p",
    endpoint="p.test",
    key_id="k",
    requested_model="m",
    served_model="m-1",
    finish_reason=FinishReason.LENGTH,
    usage=Usage(input_tokens=1, output_tokens=2, reasoning_tokens=1),
    prompt_sha256="0",
    text_sha256="1",
    sent_at=AT,
    first_byte_at=AT,
    received_at=AT,
    response_id="r",
    created=AT,
    attempts=(
        Attempt(id="a", started_at=AT, ended_at=AT, fault=Fault.CONNECT),
        Attempt(id="b", started_at=AT, ended_at=AT, sent=Sent.YES, possibly_billed=True),
    ),
    cache_signals=(CacheSignal("age", "1", SignalWeight.PROOF),),
    dropped=("seed",),
    queue_wait=1.25,
    ticket_id="t",
)


def test_job_round_trip() -> None:
    """A request is read back with every field, and with the schema of its answer."""
    schema = output_type_of(list[int]).schema
    job = read_job(StoredJob(request=REQUEST, schema=schema).write())
    assert (job.request, job.schema.json_schema, job.schema.wrapped) == (REQUEST, schema.json_schema, True)


def test_result_round_trip() -> None:
    """An answer is read back with its whole receipt."""
    stored = StoredResult(text="ä\u2028\x00\U0001f600", receipt=RECEIPT)
    assert read_result(stored.write()) == stored


@given(metadata=st.dictionaries(WORDS, JSON, max_size=4), prompt=WORDS.filter(str.strip))
def test_any_content(metadata: dict[str, JsonValue], prompt: str) -> None:
    """Whatever text and metadata a request may hold, the queue gives back the same."""
    request = LLMRequest(provider="p", model="m", prompt=prompt, metadata=metadata)
    assert read_job(StoredJob(request=request, schema=TEXT).write()).request == request
    assert read_echo(write_echo(request)).metadata == request.metadata


@pytest.mark.parametrize("depth", range(180, 260, 4))
def test_deep_metadata(depth: int) -> None:
    """Metadata that a request accepts can be read back, however deep: the rest is refused at once."""
    nested: JsonValue = 1
    for _ in range(depth):
        nested = [nested]
    try:
        request = LLMRequest(provider="p", model="m", prompt="p", metadata={"a": nested})
    except InvalidRequest:
        return
    assert read_job(StoredJob(request=request, schema=TEXT).write()).request == request
    assert read_echo(write_echo(request)).metadata == {"a": nested}


def test_echo_round_trip() -> None:
    """What is to be echoed comes back, and nothing is made of nothing."""
    echo = Echo(correlation_id="c", callback_topic="t", trace_context=REQUEST.trace_context, metadata=REQUEST.metadata)
    assert echo == read_echo(write_echo(REQUEST))
    assert read_echo(b"") == Echo()


JOB = StoredJob(request=REQUEST, schema=TEXT).write()
RESULT = StoredResult(text=CANARY, receipt=RECEIPT).write()


def changed(data: bytes, **changes: object) -> bytes:
    """Write the same payload with some fields changed."""
    return json.dumps(cast("dict[str, object]", json.loads(data)) | changes).encode()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"null",
        JOB[:-1],
        JOB[1:],
        b"\xff" + JOB,
        RESULT,
        changed(JOB, version=2),
        changed(JOB, request={"provider": "p", "model": "m", "prompt": CANARY, "unknown": 1}),
        changed(JOB, request={"provider": CANARY}),
    ],
)
def test_damaged_job(damaged: bytes) -> None:
    """A damaged or newer request is a queue error that shows nothing of it and tells what to do."""
    with pytest.raises(QueueError) as caught:
        read_job(damaged)
    error = caught.value
    assert CANARY not in f"{error!s}{error!r}{error.__cause__!r}{error.__context__!r}"
    assert "release" in error.next_step


@pytest.mark.parametrize("damaged", [b"", RESULT[:-1], JOB, changed(RESULT, version=2), changed(RESULT, receipt={})])
def test_damaged_result(damaged: bytes) -> None:
    """A damaged or newer answer is a queue error that shows nothing of it."""
    with pytest.raises(QueueError) as caught:
        read_result(damaged)
    assert CANARY not in f"{caught.value!s}{caught.value!r}{caught.value.__context__!r}"


@pytest.mark.parametrize("damaged", [CANARY.encode(), b"[]", f'{{"metadata": "{CANARY}"}}'.encode()])
def test_damaged_echo(damaged: bytes) -> None:
    """A damaged echo is a queue error that shows nothing of it."""
    with pytest.raises(QueueError) as caught:
        read_echo(damaged)
    assert CANARY not in f"{caught.value!s}{caught.value!r}{caught.value.__context__!r}"


def test_reprs() -> None:
    """Neither text nor metadata is in the repr of what is stored."""
    shown = f"{read_job(JOB)!r}{read_result(RESULT)!r}{read_echo(write_echo(REQUEST))!r}"
    assert (CANARY in shown, "'b': 0.1" in shown) == (False, False)
