"""Reads every key of a queue in Redis and counts anew what its scripts have counted: what does not add up is named."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from redis import Redis

from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis.rows import micros
from llm_gateway.testing.clock import FakeClock

__all__ = ["audit"]

ALONE: Final = frozenset({"cnt", "lse", "due", "ev", "wk", "nudge", "lanes", "tenants", "meta", "held", "kept"})
FADING: Final = frozenset({"clm", "pin"})
PLACES: Final = {"r": "rdy", "d": "dly", "k": "prk"}
LATEST: Final = 1_000
Hash = Mapping[str, str]


class Reader(Protocol):
    """What is needed of a connection, with its types."""

    def scan_iter(self, *, match: str, count: int) -> Iterator[str]: ...
    def pttl(self, name: str) -> int: ...
    def type(self, name: str) -> str: ...
    def get(self, name: str) -> str | None: ...
    def strlen(self, name: str) -> int: ...
    def hgetall(self, name: str) -> Hash: ...
    def smembers(self, name: str) -> set[str]: ...
    def zrange(self, name: str, start: int, end: int, *, withscores: bool) -> list[tuple[str, float]]: ...
    def xrevrange(self, name: str, *, count: int) -> list[tuple[str, Hash]]: ...


def audit(url: str, namespace: str, options: QueueOptions, clock: FakeClock, *, shards: int = 1) -> list[str]:
    """Return what is wrong with the keys of a queue that nobody uses at the moment."""
    port = urlsplit(url).port or 6379
    with Redis(host="127.0.0.1", port=port, decode_responses=True, encoding_errors="replace", protocol=2) as redis:
        reader = cast("Reader", redis)
        found = [Shard(reader, f"{{{namespace}:{shard}}}:", options, clock) for shard in range(shards)]
        return [complaint for shard in found for complaint in shard.complaints()]


class Shard:
    """The keys of one shard, read at once."""

    def __init__(self, redis: Reader, prefix: str, options: QueueOptions, clock: FakeClock) -> None:
        self.options = options
        self.now = round(clock.now().timestamp() * 1_000_000)
        self.strings, self.hashes = dict[str, str](), dict[str, Hash]()
        self.sets, self.scores = dict[str, set[str]](), dict[str, dict[str, float]]()
        self.streams = dict[str, list[tuple[int, Hash]]]()
        self.lasting = set[str]()
        for name in redis.scan_iter(match=glob(prefix) + "*", count=1_000):
            self._read(redis, name, name.removeprefix(prefix))
        self.count = {name: float(value) for name, value in self.hashes.get("cnt", {}).items() if name != "rl"}
        self.jobs = {name.removeprefix("j:"): fields for name, fields in self.hashes.items() if name.startswith("j:")}
        self.relaying = self.count.get("ob") == 1.0

    def _read(self, redis: Reader, name: str, short: str) -> None:
        if redis.pttl(name) < 0:
            self.lasting.add(short)
        match redis.type(name):
            case "hash":
                self.hashes[short] = redis.hgetall(name)
            case "set":
                self.sets[short] = redis.smembers(name)
            case "zset":
                self.scores[short] = dict(redis.zrange(name, 0, -1, withscores=True))
            case "stream":
                entries = redis.xrevrange(name, count=LATEST)
                self.streams[short] = [(int(number.partition("-")[0]), fields) for number, fields in entries[::-1]]
            case "string":
                self.strings[short] = str(redis.strlen(name)) if short[:2] == "c:" else redis.get(name) or ""
            case _:
                self.strings[short] = ""

    def complaints(self) -> Iterator[str]:
        """Name what does not add up."""
        yield from self._names()
        yield from self._counts()
        yield from self._places()
        yield from self._ends()
        yield from self._owners()
        yield from self._contents()
        yield from self._log()
        yield from self._order()

    def _names(self) -> Iterator[str]:
        known = {"rdy", "dly", "prk", "old", "dlq", "vt", "pg", "lane", "l", "g", "sub", "i", "j", "c", "k"}
        for name in (*self.strings, *self.hashes, *self.sets, *self.scores, *self.streams):
            kind = name.partition(":")[0]
            if name not in ALONE and kind not in known | FADING:
                yield f"{name} is unknown"
            if (name in self.lasting) == (kind in FADING):
                yield f"{name} {'does not fade' if kind in FADING else 'fades'}"

    def _counts(self) -> Iterator[str]:
        live = [job for job in self.jobs.values() if job["s"] in "QP"]
        yield from differs("depth", self.count.get("depth", 0.0), len(live))
        yield from differs("bytes", self.count.get("bytes", 0.0), sum(int(job["z"]) for job in live))
        rows = {name.removeprefix("lane:"): row for name, row in self.hashes.items() if name.startswith("lane:")}
        yield from differs("lanes", self.sets.get("lanes", set()), set(rows))
        for lane, row in rows.items():
            busy = sum(job["s"] == "P" and job["l"] == lane for job in live)
            yield from differs(f"busy of {lane}", int(row["busy"]), busy)

    def _places(self) -> Iterator[str]:
        """Each live job stands in one place of its lane, and among the oldest."""
        expected = defaultdict[str, set[str]](set)
        for ticket, job in self.jobs.items():
            for name in places_of(job):
                expected[name].add(ticket)
            if (job["s"] == "P") != all(job.get(field) for field in "khi"):
                yield f"{ticket} is {job['s']} with the lease {[job.get(field) for field in 'khi']}"
        there = {
            name: set(self.scores.get(name) or self.sets[name])
            for name in (*self.scores, *self.sets)
            if name.partition(":")[0] in {"rdy", "dly", "prk", "lse", "old", "dlq"}
        }
        yield from differs("places", there, dict(expected))
        for name, scores in self.scores.items():
            for ticket in scores.keys() & self.jobs.keys():
                yield from self._score(name.partition(":")[0], ticket, scores[ticket])

    def _score(self, kind: str, ticket: str, score: float) -> Iterator[str]:
        job = self.jobs[ticket]
        fixed = {"dly": job.get("nb"), "old": job["cd"], "l": job["cd"], "dlq": job["u"]}
        if kind in fixed:
            yield from differs(f"{kind} of {ticket}", score, float(fixed[kind] or -1))
        if kind == "lse" and not 0 < score <= self.now + self.count.get("longest", 0.0):
            yield f"the lease of {ticket} ends at {score}"

    def _ends(self) -> Iterator[str]:
        """Each job is looked at when it is over, but for what has yet to leave."""
        due = self.scores.get("due", {})
        yield from differs("due beyond the jobs", set(due) - set(self.jobs), set[str]())
        for ticket, job in self.jobs.items():
            leaving = self.relaying and int(job["n"]) > self.count["relayed"] and job["s"] not in "QP"
            retained = micros(self.options.result_retention)
            dead = micros(self.options.dead_letter_retention)
            kept = dead if job["s"] == "F" else retained
            if leaving:
                yield from differs(f"due of {ticket}, which has to leave", due.get(ticket), None)
            elif job["s"] in "QP":
                yield from differs(f"due of {ticket}, which waits", due.get(ticket), float(job["e"]))
            elif job.get("b"):
                yield from differs(f"due of {ticket}, which is buried", due.get(ticket), float(job["e"]) + retained)
            elif not float(job["u"]) + kept <= due.get(ticket, 0.0) <= self.now + kept:
                yield f"{ticket}, which has ended, is due at {due.get(ticket)}"
            elif not self.relaying:
                yield from differs(f"due of {ticket}, which has ended", due.get(ticket), float(job["u"]) + kept)

    def _owners(self) -> Iterator[str]:
        """Tenants, groups and subjects list what is not buried, and each key names its ticket."""
        expected, keys = defaultdict[str, set[str]](set), dict[str, str]()
        for ticket, job in self.jobs.items():
            keys[f"i:{job['key']}"] = ticket
            if job.get("b"):
                continue
            tenant = job.get("t", "")
            expected[f"l:{tenant}"].add(ticket)
            if job.get("g"):
                expected[f"g:{sized(tenant, job['g'])}"].add(ticket)
            for subject in cast("list[str]", json.loads(job.get("sb") or "[]")):
                expected[f"sub:{sized(tenant, subject)}"].add(ticket)
        there = {name: set(listed) for name, listed in self.scores.items() if name.startswith("l:")}
        there |= {name: listed for name, listed in self.sets.items() if name.partition(":")[0] in {"g", "sub"}}
        yield from differs("lists", there, dict(expected))
        yield from differs("keys", {n: value for n, value in self.strings.items() if n.startswith("i:")}, keys)
        owners = {name.removeprefix("l:") for name in there if name.startswith("l:")}
        yield from differs("tenants", self.sets.get("tenants", set()), owners)
        groups = {
            f"{name.removeprefix('pg:')}|{group}"
            for name, held in self.hashes.items()
            if name.startswith("pg:")
            for group in held
        }
        yield from differs("groups that are held", groups - set(self.scores.get("held", {})), set[str]())
        wrapped = {name for name in self.strings if name.startswith("k:")}
        yield from differs("keys of tenants", self.sets.get("kept", set()), wrapped)

    def _contents(self) -> Iterator[str]:
        """The echo lies before the payload until a job ends, before the result afterwards, and alone when buried."""
        for ticket, job in self.jobs.items():
            length, echo = self.strings.get(f"c:{ticket}"), int(job["ec"])
            leaving = self.relaying and int(job["n"]) > self.count["relayed"]
            if job.get("b"):
                yield from differs(f"content of {ticket}, buried", length, str(echo) if leaving else None)
            elif job["s"] in "QPF" and job.get("er", "").find("damaged") < 0:
                yield from differs(f"content of {ticket}", length, str(echo + int(job["z"])))
            elif job["s"] in "XK":
                yield from differs(f"content of {ticket}, ended", length, str(echo))
            elif job["s"] == "C" and int(length or -1) < echo:
                yield f"the result of {ticket} has {length} bytes"
        strays = {name for name in self.strings if name.startswith("c:") and name[2:] not in self.jobs}
        yield from differs("contents without a job", strays, set[str]())

    def _log(self) -> Iterator[str]:
        """Events are numbered without a gap, and the latest of each job tells where it stands."""
        log, latest = self.streams.get("ev", []), dict[str, tuple[int, Hash]]()
        numbers, seq = [number for number, _ in log], int(self.count.get("seq", 0))
        yield from differs("numbers of events", numbers, list(range(seq - len(numbers) + 1, seq + 1)))
        if self.relaying and len(numbers) < LATEST and seq - len(numbers) > self.count["relayed"]:
            yield "an event is gone that has not left"
        for number, event in log:
            before = latest.get(event["t"])
            if before is not None:
                yield from differs(f"version at {number}", int(event["v"]), int(before[1]["v"]) + 1)
            latest[event["t"]] = number, event
        for ticket, (number, event) in latest.items():
            if (job := self.jobs.get(ticket)) is not None:
                told = {"n": str(number)} | {name: event[name] for name in "vsu"}
                yield from differs(f"event of {ticket}", told, {name: job[name] for name in ("n", "v", "s", "u")})
                facts = {"a": event["a"], "c": event["c"], "o": event["o"], "g": event["g"]}
                stands = {"a": job.get("a"), "c": job.get("cr"), "o": job.get("t", ""), "g": job.get("g", "")}
                if int(job["v"]) > 1:
                    yield from differs(f"facts of {ticket}", facts, stands)
        turns = self.streams.get("wk", [])
        first = max(numbers[:1] + [number for number, _ in turns[:1] if len(turns) == LATEST], default=0)
        turned = [(number, turn["t"], turn["s"]) for number, turn in turns if number >= first]
        claimless = [(number, event["t"], event["s"]) for number, event in log if number >= first]
        yield from differs("turns", turned, [turn for turn in claimless if turn[2] != "P"])
        nudges = [number for number, _ in self.streams.get("nudge", [])]
        yield from differs("nudges", nudges[-1:] or [0], [int(self.count.get("nudges", 0))])

    def _order(self) -> Iterator[str]:
        """Nobody stands before what has been served, and what a flow has saved up is forgotten."""
        for name, scores in self.scores.items():
            kind, _, lane = name.partition(":")
            virtual = float(self.hashes.get(f"lane:{lane}", {}).get("V", 0))
            behind = [
                ticket for ticket, score in scores.items() if score < virtual or (score == virtual and kind == "vt")
            ]
            if kind in {"rdy", "vt"} and behind:
                yield f"{behind} of {name} are behind {virtual}"


def places_of(job: Hash) -> Iterator[str]:
    """Name the indices that list a job for what it is."""
    if job["s"] == "Q":
        yield f"{PLACES.get(job.get('y', ''), 'nowhere')}:{job['l']}"
    if job["s"] == "P":
        yield "lse"
    if job["s"] in "QP":
        yield f"old:{job['l']}"
    if job["s"] == "F" and not job.get("b"):
        yield f"dlq:{job['l']}"


def differs(what: str, found: object, expected: object) -> Iterator[str]:
    """Complain unless both are equal."""
    if found != expected:
        yield f"{what}: {found!r}, should be {expected!r}"


def sized(tenant: str, name: str) -> str:
    """Write a tenant and a name as the keys do."""
    return f"{len(tenant.encode())}:{tenant}:{name}"


def glob(prefix: str) -> str:
    """Write a prefix for a pattern."""
    return "".join(f"\\{letter}" if letter in "*?[]{}\\" else letter for letter in prefix)


def read(redis: Reader, name: str) -> str:
    """Read a string that may be no text."""
    try:
        return str(redis.get(name))
    except UnicodeDecodeError:
        return ""
