"""Answers every POST with a chat completion of one shape and a fresh id, as fast as asyncio can.

Run as ``python bench/server.py [CPU]``: pins itself to that core, prints its port, and ends when its stdin closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from itertools import count
from typing import cast

__all__ = ["Completions"]

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
END_OF_HEAD = b"\r\n\r\n"
VERDICT = json.dumps({"winner": "a", "confidence": 3.5, "reason": "Essay A argues; essay B repeats its claim. " * 4})
COMPLETION = {
    "id": "chatcmpl-%016d",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": VERDICT, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 812,
        "completion_tokens": 61,
        "total_tokens": 873,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}
# As many headers as a vendor sends: reading them is part of a call.
HEAD = """HTTP/1.1 200 OK
date: {date}
content-type: application/json
content-length: {length}
x-request-id: req_{number:016d}
openai-organization: org-bench
openai-processing-ms: 420
openai-version: 2020-10-01
x-ratelimit-limit-requests: 10000
x-ratelimit-limit-tokens: 2000000
x-ratelimit-remaining-requests: 9999
x-ratelimit-remaining-tokens: 1999100
x-ratelimit-reset-requests: 6ms
x-ratelimit-reset-tokens: 27ms
cf-cache-status: DYNAMIC
server: bench

"""


class Completions(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    numbers = count(1)
    body = json.dumps(COMPLETION)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        self._received += data
        end = self._received.find(END_OF_HEAD)
        if end < 0:
            return
        length = LENGTH.search(self._received, 0, end)
        if len(self._received) < end + len(END_OF_HEAD) + int(length[1] if length else 0):
            return
        self._received = b""
        self._transport.write(self._answer())

    def _answer(self) -> bytes:
        number = next(self.numbers)
        body = self.body.replace("%016d", f"{number:016d}").replace('"created": 0', f'"created": {int(time.time())}')
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        head = HEAD.format(date=date, length=len(body), number=number).replace("\n", "\r\n")
        return (head + body).encode()


async def main() -> None:
    """Serve until stdin closes."""
    server = await asyncio.get_running_loop().create_server(Completions, "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(main())
