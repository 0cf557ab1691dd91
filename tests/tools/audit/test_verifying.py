"""Whatever is done to a chain is found, and the first record that it was done to is named."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tools.audit.chain import Link, canonical, chained, checkpoint, hash_of, head
from app.tools.audit.verifying import Verifier, read_head
from tests.tools.audit.made import KEY, KEYS, OTHER, chain, changed, members, rewritten


def links(lines: list[bytes]) -> list[Link]:
    return [Link(record["seq"], record["hash"], record["time_ms"]) for record in map(orjson.loads, lines)]


def found(lines: list[bytes], **options: Any) -> tuple[str, int] | None:
    """The kind of the first fault, and its record."""
    verifier = Verifier(KEYS, **{"tenant": "a", **options})
    verifier.begin(None)
    for line in lines:
        verifier.add(line)
    fault = verifier.finish()
    return (fault.kind, fault.seq) if fault else None


def test_a_chain_as_it_was_written_is_intact():
    assert found(chain(20)) is None


def test_a_hash_is_that_of_the_record_and_a_stranger_can_compute_it():
    record = orjson.loads(chain(2)[1])
    text = canonical({name: value for name, value in record.items() if name not in ("hash", "signature")})
    assert record["hash"] == hashlib.sha256(text).hexdigest()
    assert record["previous"] == orjson.loads(chain(1)[0])["hash"]


@pytest.mark.parametrize("at", [1, 7, 20])
@pytest.mark.parametrize(
    "values", [{"decision": "denied"}, {"details": {"to": "eve"}}, {"time_ms": 1_700_000_000_001}, {"actor": None}, {"x": 1}]
)
def test_an_edited_record_is_found(at: int, values: dict[str, Any]):
    lines = chain(20)
    lines[at - 1] = changed(lines[at - 1], **values)
    assert found(lines) == ("edited", at)


def test_an_edited_record_with_a_new_hash_is_found():
    lines = chain(20)
    edited = orjson.loads(changed(lines[6], decision="denied"))
    lines[6] = canonical({**edited, "hash": hash_of(edited)})
    assert found(lines) == ("forged", 7)


@pytest.mark.parametrize("gone", [1, 7, 19])
def test_a_removed_record_is_found(gone: int):
    lines = chain(20)
    del lines[gone - 1]
    assert found(lines) == ("missing", gone)


def test_a_record_that_was_moved_is_told_from_a_removed_one():
    lines = chain(20)
    lines[4], lines[11] = lines[11], lines[4]
    assert found(lines) == ("reordered", 5)


def test_a_record_under_anothers_number_is_found():
    lines = chain(3)
    verifier = Verifier(KEYS, tenant="a")
    verifier.begin(None)
    for place, line in enumerate([lines[0], lines[2], lines[1]], 1):
        verifier.add(line, place=place)
    assert (verifier.fault and verifier.fault.kind, verifier.fault and verifier.fault.seq) == ("reordered", 2)


def test_a_repeated_record_is_found():
    lines = chain(5)
    assert found([*lines[:3], lines[2], *lines[3:]]) == ("repeated", 4)


def test_a_cut_tail_is_found_by_a_head_that_was_kept():
    lines = chain(20)
    head_at_18 = links(lines)[17]
    assert found(lines[:15]) is None
    assert found(lines[:15], heads=[head_at_18]) == ("truncated", 16)
    assert found(lines, heads=[head_at_18]) is None


def test_another_tail_in_place_of_one_that_was_cut_off_is_found_by_a_head():
    """By somebody who has the secret, or by the service itself, which went on after the cut."""
    lines = chain(20)
    other = [*lines[:10], *chain(12, after=links(lines)[9])]
    assert found(other) is None
    assert found(other, heads=[links(lines)[17]]) == ("replaced", 18)


def test_a_chain_made_anew_without_the_secret_is_found():
    lines = chain(20)
    forged = rewritten(lines, OTHER, lambda record: {**record, "decision": "denied"})
    assert found(forged) == ("unknown_key", 1)
    named = [canonical({**orjson.loads(line), "key": next(iter(KEYS))}) for line in forged]
    assert found([canonical({**r, "hash": hash_of(r)}) for r in map(orjson.loads, named)]) == ("forged", 1)


def test_a_record_appended_without_the_secret_is_found():
    lines = chain(5)
    assert found([*lines, *chain(1, key=OTHER, after=links(lines)[-1])]) == ("unknown_key", 6)


def test_a_true_record_of_another_branch_is_found():
    """Of before the chain was cut, or of a copy of the store: signed, with the right number, and yet not of this chain."""
    lines = chain(20)
    lines[6] = chain(5, after=Link(5, "f" * 64, 1_700_000_000_000))[1]
    assert found(lines) == ("unlinked", 7)


def test_a_record_older_than_the_one_before_it_is_found():
    lines = chain(5)
    line, _ = chained(KEY, links(lines)[-1], members(), 1_700_000_000_000)
    assert found([*lines, line]) == ("backdated", 6)


@pytest.mark.parametrize("spelling", [b" %s", b"%s ", b'{"seq":9,%s', b"%s\n"])
def test_another_spelling_of_a_record_is_found(spelling: bytes):
    lines = chain(3)
    lines[1] = spelling % (lines[1][1:] if b"{" in spelling else lines[1])
    assert found(lines) == ("edited", 2)


def test_a_record_of_another_tenant_is_found():
    assert found(chain(3, tenant="b")) == ("foreign", 1)


def test_a_signature_of_another_kind_is_none():
    """A checkpoint's signature on a record, and the other way round."""
    line = chain(1)[0]
    as_checkpoint = KEY.sealed("audit.checkpoint", {})
    assert found([changed(line, signature=as_checkpoint["signature"])]) == ("forged", 1)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"null", b"nonsense", b'{"seq":1}', b'{"seq":"1","time_ms":0}', b"\xff\xfe"]
)
def test_what_is_no_record_is_found(line: bytes):
    verdict = found([*chain(2), line])
    assert verdict is not None
    assert verdict[1] == 3


def test_a_chain_goes_on_from_a_checkpoint():
    lines = chain(20)
    verifier = Verifier(KEYS, tenant="a")
    verifier.begin(orjson.loads(checkpoint(KEY, "a", links(lines)[9])))
    for line in lines[10:]:
        verifier.add(line)
    assert verifier.finish() is None
    assert (verifier.first, verifier.last.seq, verifier.records) == (11, 20, 10)


def test_a_checkpoint_that_others_made_is_found():
    lines = chain(20)
    verifier = Verifier(KEYS, tenant="a")
    verifier.begin(orjson.loads(checkpoint(OTHER, "a", links(lines)[9])))
    assert verifier.fault
    assert verifier.fault.kind == "unknown_key"
    assert found(lines[10:]) == ("missing", 1)  # and without one


@pytest.mark.parametrize("text", [{}, {"seq": "x"}, {"object": "audit.checkpoint"}, {"seq": None}])
def test_a_checkpoint_that_is_none_is_found(text: dict[str, Any]):
    verifier = Verifier(KEYS, tenant="a")
    verifier.begin(text)
    assert verifier.fault


def test_a_piece_of_a_chain_is_held_to_its_head():
    lines = chain(20)
    end = head(KEY, "a", links(lines)[14], at_ms=0, first_seq=6)
    for piece, wanted in [
        (lines[5:15], None),
        (lines[6:15], ("missing", 6)),
        (lines[5:14], ("truncated", 15)),
        (lines[5:16], ("replaced", 15)),
    ]:
        verifier = Verifier(KEYS)
        for line in piece:
            verifier.add(line)
        fault = verifier.finish(end)
        assert (fault and (fault.kind, fault.seq)) == wanted


def test_a_head_is_read_and_one_that_others_signed_is_not_believed():
    link = links(chain(3))[2]
    assert read_head(canonical(head(KEY, "a", link, at_ms=0)), KEYS)[1] is None
    fault = read_head(canonical(head(OTHER, "a", link, at_ms=0)), KEYS)[1]
    assert fault
    assert fault.kind == "unknown_key"
    edited = canonical(head(KEY, "a", link, at_ms=0) | {"seq": 2})
    fault = read_head(edited, KEYS)[1]
    assert fault
    assert fault.kind == "forged"


def test_a_signature_spelt_otherwise_is_found():
    line = chain(1)[0]
    assert found([changed(line, signature=orjson.loads(line)["signature"].upper())]) == ("forged", 1)


def test_every_tampering_is_found_at_the_record_it_was_done_to():
    lines = chain(20)
    kept = links(lines)[17]  # the last head that somebody has kept
    edits = [("decision", "denied"), ("time_ms", 1), ("actor", None), ("action", "audit.export"), ("seq", 99), ("tenant", "b")]
    tried: dict[str, list[tuple[list[bytes], int]]] = {
        "edited": [
            ([*lines[:at], changed(lines[at], **{name: value}), *lines[at + 1 :]], at + 1)
            for at in range(20)
            for name, value in edits
        ],
        "deleted": [([*lines[:at], *lines[at + 1 :]], at + 1) for at in range(18)],
        "reordered": [
            ([*lines[:one], lines[other], *lines[one + 1 : other], lines[one], *lines[other + 1 :]], one + 1)
            for one in range(20)
            for other in range(one + 1, 20)
        ],
        "repeated": [([*lines[:at], lines[at - 1], *lines[at:]], at + 1) for at in range(1, 20)],
        "cut off": [(lines[:length], length + 1) for length in range(18)],
    }
    for what, cases in tried.items():
        missed = [(at, found(tampered, heads=[kept])) for tampered, at in cases]
        assert [one for one in missed if one[1] is None or one[1][1] != one[0]] == [], what
    counts = ", ".join(f"{len(cases)} {what}" for what, cases in tried.items())
    print(f"audit-tamper: {counts}: {sum(map(len, tried.values()))} found, each at its first record, 0 missed")


@given(st.data())
def test_no_single_change_of_a_byte_goes_unnoticed(data: st.DataObject):
    lines = chain(3)
    at = data.draw(st.integers(0, 2))
    place = data.draw(st.integers(0, len(lines[at]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != lines[at][place]))
    lines[at] = lines[at][:place] + bytes([byte]) + lines[at][place + 1 :]
    assert found(lines) is not None
