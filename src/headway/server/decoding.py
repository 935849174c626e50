"""From bytes to a body: strict JSON, known fields, and nothing read twice."""

from __future__ import annotations

import logging
import re
from typing import TypeVar

import msgspec

from headway.server.errors import ApiError, invalid

Body = TypeVar("Body", bound=msgspec.Struct)

MOST_FIELDS = 256
MOST_NAMES_WARNED = 200
_SPACE = re.compile(rb"[ \t\n\r]*")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_fields: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])

_log = logging.getLogger(__name__)


class BodyDecoder:
    """Decodes bodies; warns once per unknown field name, however often it comes."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def decode(self, data: bytes, kind: type[Body]) -> tuple[Body, list[str]]:
        """Read one body.

        Returns the body and the names of fields that were ignored.

        Raises:
            ApiError: 400; the message says where.
        """
        try:
            data.decode()  # skipped fields too: msgspec looks into those it keeps only
            body = msgspec.json.decode(data, type=kind)
            fields = _fields.decode(data)
        except UnicodeDecodeError as error:
            raise invalid(None, f"The body is not UTF-8 at byte {error.start}.") from None
        except RecursionError:
            raise invalid(None, "The body is nested too deeply.") from None
        except msgspec.ValidationError as error:
            raise _wrong_type(error) from None
        except msgspec.DecodeError as error:
            raise invalid(None, f"The body is not JSON: {error}.", "invalid_json") from None
        if len(fields) > MOST_FIELDS:
            raise invalid(None, f"The body has {len(fields)} fields; at most {MOST_FIELDS}.")
        _refuse_repeats(data, fields, None)
        if getattr(body, "logit_bias", None):
            raw = bytes(fields["logit_bias"])
            _refuse_repeats(raw, _fields.decode(raw), "logit_bias")
        known = set(kind.__struct_fields__)
        return body, [name for name in fields if name not in known]

    def warn(self, ignored: list[str]) -> list[str]:
        """Log names that were not warned of before; return those that are fit for a header."""
        plain = [name for name in ignored if _PLAIN_NAME.fullmatch(name)]
        for name in plain:
            if name not in self._warned and len(self._warned) < MOST_NAMES_WARNED:
                self._warned.add(name)
                _log.warning("request field %s is not supported and was ignored", name)
        return plain


def _wrong_type(error: msgspec.ValidationError) -> ApiError:
    """`Expected int, got str - at $.n` → a sentence, with the field's name as `param`."""
    said, _, place = str(error).partition(" - at ")
    path = place.strip("`").removeprefix("$").lstrip(".")
    param = re.split(r"[.\[]", path)[0] or None
    return invalid(param, f"{path or 'The body'}: {said[:1].lower()}{said[1:]}.")


def _refuse_repeats(data: bytes, fields: dict[str, msgspec.Raw], param: str | None) -> None:
    """Raise if an object names a field twice. Walks the known values, so it costs a copy, not a parse."""
    at = _skip(data, _skip(data, 0) + 1)  # after the brace
    for raw in fields.values():
        name = _STRING.match(data, at)
        if name is None:
            break
        at = _skip(data, _skip(data, name.end()) + 1)  # after the colon
        if not data.startswith(bytes(raw), at):
            break
        at = _skip(data, at + len(bytes(raw)))
        if data[at : at + 1] == b",":
            at = _skip(data, at + 1)
    else:
        if data[at : at + 1] == b"}":
            return
    raise invalid(param, f"{param or 'The body'} names a field twice.", "invalid_json")


def _skip(data: bytes, at: int) -> int:
    space = _SPACE.match(data, at)
    assert space is not None
    return space.end()
