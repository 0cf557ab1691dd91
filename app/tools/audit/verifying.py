"""Whether a chain is what was written: record by record, and against heads that were signed before. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import orjson

from app.core.chat import JsonObject
from app.tools.audit.chain import Link, canonical, hash_of, signature_holds

FaultKind = Literal[
    "unreadable", "edited", "forged", "unknown_key", "foreign", "missing", "reordered", "repeated", "unlinked", "backdated",
    "truncated", "replaced", "incomplete",
]  # fmt: skip
MOST_OPEN: Final = 10_000
"""Operations without an outcome that are remembered."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong with a chain: at which record, and in words."""

    kind: FaultKind
    seq: int
    message: str


class _Broken(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class Verifier:
    """Takes the records of a chain in their order (`add`), then tells what was wrong (`finish`).

    Parameters:
        keys: the public keys that may have signed, by their id.
        tenant: whose chain it must be; None: that of the first record.
        heads: records that are known to have been there: signed heads that were kept elsewhere.
        signatures: whether every signature is checked; else only that of what `finish` is told to be the end.
    """

    def __init__(
        self, keys: Mapping[str, str], *, tenant: str | None = None, heads: Sequence[Link] = (), signatures: bool = True
    ) -> None:
        self._keys = keys
        self._signatures = signatures
        self._heads = {head.seq: head.hash for head in heads}
        self._open: dict[str, int] = {}
        self.tenant = tenant
        self.first: int | None = None
        self.last = Link()
        self.records = 0
        self.fault: Fault | None = None

    @property
    def unfinished(self) -> tuple[int, ...]:
        """The numbers of the records that began something of which no outcome is recorded."""
        return tuple(self._open.values())

    def begin(self, checkpoint: JsonObject | None, *, signed: bool = True) -> None:
        """What stands for the records before the first; without it the chain has to begin with number 1.

        `signed` says whether its signature is checked.
        """
        if checkpoint is None:
            self.first = 1
            return
        try:
            if signed:
                self._check_sealed(checkpoint, int(checkpoint.get("seq", 0)), "audit.checkpoint")
            self.last = Link(checkpoint["seq"], checkpoint["last_hash"], checkpoint["time_ms"])
            self.first = self.last.seq + 1
        except _Broken as broken:
            self.fault = broken.fault
        except (KeyError, TypeError, ValueError):
            self.fault = Fault("unreadable", 0, "the checkpoint, which stands for the oldest records, cannot be read")

    def add(self, line: bytes, *, place: int | None = None) -> None:
        """The next record; `place` is the number it is kept under. After the first fault it only looks what kind that is."""
        self.records += 1
        if self.fault is not None:
            self._look_again(line)
            return
        try:
            self._check(line, place)
        except _Broken as broken:
            self.fault = broken.fault

    def finish(self, head: JsonObject | None = None) -> Fault | None:
        """What was wrong first, None for nothing. `head` is the signed head that says how the chain ends."""
        if self.fault is None and head is not None:
            try:
                self._check_head(head)
            except _Broken as broken:
                self.fault = broken.fault
        if self.fault is None:
            missing = [seq for seq in self._heads if seq > self.last.seq]
            if missing:
                message = f"record {max(missing)} was signed as a head; the chain ends with {self.last.seq}"
                self.fault = Fault("truncated", self.last.seq + 1, message)
        return self.fault

    def cut_short(self) -> Fault | None:
        """The same for an export without its head."""
        if self.finish() is None:
            message = f"there is no signed head at the end: the export broke off, or was cut, after record {self.last.seq}"
            self.fault = Fault("incomplete", self.last.seq + 1, message)
        return self.fault

    def _check(self, line: bytes, place: int | None) -> None:
        wanted = self.last.seq + 1
        record = _parsed(line, wanted)
        seq: Any = record.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool):
            raise _broken("edited", wanted, f"record {wanted} has no number")
        if self.first is None:  # a piece of a chain: it begins wherever it begins
            self.first = wanted = seq
            self.last = Link() if seq == 1 else Link(seq - 1, str(record.get("previous")))
        if self.tenant is None:
            self.tenant = str(record.get("tenant"))
        if place is not None and place != seq:
            raise _broken("reordered", place, f"record {seq} is kept under the number {place}")
        if seq > wanted:
            raise _broken("missing", wanted, f"after record {wanted - 1} comes {seq}: {_range(wanted, seq - 1)} missing")
        if seq < wanted:
            kind = "repeated" if seq == wanted - 1 else "reordered"
            raise _broken(kind, wanted, f"after record {wanted - 1} comes {seq} (again)")
        if hash_of(record) != record.get("hash") or canonical(record) != line:
            raise _broken("edited", seq, f"record {seq} is not what was hashed: it was edited")
        if record.get("previous") != self.last.hash:
            before = f"record {seq - 1}" if seq > 1 else "the beginning"
            raise _broken("unlinked", seq, f"record {seq} does not follow {before}: one of them was put in another's place")
        if self._signatures:
            self._check_sealed(record, seq, "audit.record")
        if record.get("tenant") != self.tenant:
            raise _broken("foreign", seq, f"record {seq} belongs to another tenant: {record.get('tenant')!r}")
        if record["time_ms"] < self.last.time_ms:
            raise _broken("backdated", seq, f"record {seq} says that it is older than the one before it")
        if self._heads.get(seq, record["hash"]) != record["hash"]:
            raise _broken("replaced", seq, f"record {seq} is another one than was signed as a head")
        self.last = Link(seq, record["hash"], record["time_ms"])
        self._follow(record)

    def _check_sealed(self, members: JsonObject, seq: int, kind: str) -> None:
        what = f"record {seq}" if kind == "audit.record" else f"the {kind.removeprefix('audit.')} at {seq}"
        public = self._keys.get(str(members.get("key")))
        if public is None:
            known = ", ".join(self._keys) or "none"
            said = f"{what} is signed with the key {members.get('key')!r}, which is not known here (known: {known})"
            raise _broken("unknown_key", seq, said)
        if members.get("object") != kind or hash_of(members) != members.get("hash") or not signature_holds(members, public):
            raise _broken("forged", seq, f"{what} has no valid signature: it was not written by this service")

    def _check_head(self, head: JsonObject) -> None:
        seq: Any = head.get("seq")
        if not isinstance(seq, int):
            raise _broken("unreadable", self.last.seq, "the head at the end cannot be read")
        self._check_sealed(head, seq, "audit.head")
        if self.tenant is not None and head.get("tenant") != self.tenant:
            raise _broken("foreign", seq, f"the head belongs to another tenant: {head.get('tenant')!r}")
        if seq > self.last.seq:
            raise _broken("truncated", self.last.seq + 1, f"the head names record {seq}; the last here is {self.last.seq}")
        if (seq, head.get("last_hash")) != (self.last.seq, self.last.hash):
            raise _broken("replaced", seq, f"the head names another record {seq} than the last one here, {self.last.seq}")
        first = head.get("first_seq")
        if first is not None and self.records and first != self.first:
            raise _broken("missing", first, f"the head names {first} as the first record; the first here is {self.first}")

    def _look_again(self, line: bytes) -> None:
        """A number that was missing and comes later was moved, not removed."""
        if self.fault is not None and self.fault.kind == "missing" and _number(line) == self.fault.seq:
            message = f"record {self.fault.seq} is not in its place: it comes after later ones"
            self.fault = Fault("reordered", self.fault.seq, message)

    def _follow(self, record: JsonObject) -> None:
        operation = record.get("operation")
        if not isinstance(operation, str) or not operation:
            return
        if record.get("decision") == "begun":
            if len(self._open) < MOST_OPEN:
                self._open[operation] = record["seq"]
        else:
            self._open.pop(operation, None)


def read_head(text: bytes | str, keys: Mapping[str, str]) -> tuple[JsonObject, Fault | None]:
    """A signed head, as it was kept or as a line of the log has it, and what is wrong with it.

    Raises:
        ValueError: it is none.
    """
    head: Any = orjson.loads(text)
    if isinstance(head, dict) and "head" in head:
        head = cast("JsonObject", head)["head"]
    if not isinstance(head, dict) or cast("JsonObject", head).get("object") != "audit.head":
        raise ValueError("it is no signed head")
    members = cast("JsonObject", head)
    verifier = Verifier(keys)
    verifier.last = link_of_head(members)
    return members, verifier.finish(members)


def link_of_head(head: JsonObject) -> Link:
    """The record that a head names. Raises `ValueError`."""
    seq, said = head.get("seq"), head.get("last_hash")
    if not isinstance(seq, int) or not isinstance(said, str):
        raise ValueError("it names no record")  # noqa: TRY004 (what is wrong is what it says)
    return Link(seq, said)


def _parsed(line: bytes, wanted: int) -> JsonObject:
    try:
        found: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise _broken("unreadable", wanted, f"in place of record {wanted} is something that is no record")
    record = cast("JsonObject", found)
    if not isinstance(record.get("time_ms"), int):
        raise _broken("edited", wanted, f"record {wanted} has no time")
    return record


def _number(line: bytes) -> int | None:
    try:
        found: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return cast("JsonObject", found).get("seq") if isinstance(found, dict) else None


def _broken(kind: FaultKind, seq: int, message: str) -> _Broken:
    return _Broken(Fault(kind, seq, message))


def _range(first: int, last: int) -> str:
    return f"{first} is" if first == last else f"{first} to {last} are"
