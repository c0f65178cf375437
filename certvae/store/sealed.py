"""JSON that carries its own digest: one changed bit, and it cannot be read.

seal, unseal     {..., "digest": SHA-256 of the canonical text without it}: rows, documents, STORE.json
stamp, unstamp   the SHA-256 in a line before the canonical text: manifests, which are no records for readers
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from certvae.canonical import canonical_json, digest
from certvae.errors import StoreFault

DIGEST = "digest"


def seal(record: Mapping[str, Any]) -> bytes:
    """The text of a record with its digest.

    Raises:
        ConfigFault: for values that are not plain finite JSON.
        StoreFault: when the record has a field called `digest` already.
    """
    if DIGEST in record:
        raise StoreFault(
            f"a record must have no field {DIGEST!r}, got one",
            "give the field another name",
            where="record",
            cause="that field is the record's own checksum",
        )
    return canonical_json({**record, DIGEST: digest(record)})


def unseal(data: bytes) -> tuple[dict[str, Any], str]:
    """The record without its digest, and the digest.

    Raises:
        ValueError: when the text is not exactly what `seal` wrote.
    """
    record = json.loads(data)
    wanted = record.pop(DIGEST, None) if isinstance(record, dict) else None
    if not isinstance(wanted, str) or hashlib.sha256(_without(data, wanted)).hexdigest() != wanted:
        raise ValueError("it has another SHA-256")
    return record, wanted


def stamp(value: Any) -> bytes:
    """The canonical text of a value, after a line with its digest."""
    text = canonical_json(value)
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def unstamp(data: bytes) -> Any:
    """The value.

    Raises:
        ValueError: when the text is not exactly what `stamp` wrote.
    """
    line, _, text = data.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != line:
        raise ValueError("has another SHA-256")
    return json.loads(text)


def _without(data: bytes, wanted: str) -> bytes:
    """The text without `"digest":"<wanted>"` and its comma: cheaper than canonical JSON made again, and stricter."""
    head, _, tail = data.partition(b'"%s":"%s"' % (DIGEST.encode(), wanted.encode()))
    return head.removesuffix(b",") + tail if head.endswith(b",") else head + tail.removeprefix(b",")
