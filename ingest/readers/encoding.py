"""From bytes to text, whatever encoding they are in."""

import re
from collections.abc import Sequence
from contextlib import suppress

import chardet
from chardet import EncodingEra

from ingest.readers.document import UnreadableError
from rag_app.words import msg

# Of 15 files whose text is known (tests/test_readers.py names them) chardet tells 14, charset-normalizer 12.
_ERAS = EncodingEra.ALL & ~(EncodingEra.DOS | EncodingEra.MAINFRAME)
# Regional encodings that it takes short Polish and Russian texts for.
_RARE = ("cp720", "ptcp154", "kz1048")

# What no text holds.
_CONTROL = re.compile(r"[\x01-\x08\x0e-\x1a]")


def decode(content: bytes, declared: str = "") -> str:
    """Return bytes as text: by BOM, as UTF-8, by what the file declares, else by detection. UnreadableError if binary."""
    if content[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return content.decode("utf-32", "replace")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    if b"\0" in content:
        return _decode_nul(content)
    # Japanese mail and Chinese news of old are ASCII with escapes, so they are valid UTF-8 too.
    if content.isascii() and (b"\x1b$" in content or b"~{" in content):
        return _detect(content)
    with suppress(UnicodeDecodeError):
        return content.decode("utf-8-sig")
    if declared:
        with suppress(LookupError, UnicodeDecodeError):
            return content.decode(declared)
    return _decode_mixed(content) or _detect(content)


def _detect(content: bytes) -> str:
    encoding = chardet.detect(content, encoding_era=_ERAS, exclude_encodings=_RARE)["encoding"]
    if encoding:
        with suppress(LookupError):
            text = content.decode(encoding, "replace")
            if text.count("\ufffd") + len(_CONTROL.findall(text)) <= 1 + len(text) / 1000:
                return text
    raise UnreadableError(msg("its encoding is unknown; it may be a binary file"), msg("save it as UTF-8"))


def _decode_mixed(content: bytes) -> str:
    """Return a text whose lines are partly UTF-8 and partly something else, each as what it is; "" if there is no UTF-8."""
    lines = content.split(b"\n")
    strange = [line for line in lines if not line.isascii()]
    other = [line for line in strange if not _is_utf8(line)]
    # By chance two Chinese characters in GB18030 may be valid UTF-8, a third of all bytes is no chance.
    if 3 * sum(map(len, other)) > 2 * sum(map(len, strange)):
        return ""
    encoding = chardet.detect(b"\n".join(other), encoding_era=_ERAS, exclude_encodings=_RARE)["encoding"] or "utf-8"
    return "\n".join(line.decode("utf-8" if _is_utf8(line) else encoding, "replace") for line in lines)


def _is_utf8(line: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        line.decode()
        return True
    return False


def _decode_nul(content: bytes) -> str:
    """Return UTF-16 text without a BOM, or text into which a few NUL bytes have got; other content with NULs is no text."""
    for encoding in ("utf-16-le", "utf-16-be"):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if "\0" not in text and sum(map(_is_plain, text)) > 0.9 * len(text):
                return text
    if content.count(b"\0") <= len(content) / 100:
        with suppress(UnicodeDecodeError):
            text = content.replace(b"\0", b"").decode("utf-8-sig")
            if not _CONTROL.search(text):
                return text
    raise UnreadableError(msg("it contains NUL bytes, so it is not text"), msg("give it the extension of its real type"))


def _is_plain(character: str) -> bool:
    return character.isascii() or character.isalpha() or "\u3000" <= character <= "\u303f" or "\uff00" <= character <= "\uffef"


def decode_names(names: Sequence[bytes]) -> list[str]:
    """Return names of files in a ZIP that does not say how they are written: as UTF-8, as a Chinese, Japanese or Korean Windows
    does, else as ZIP itself does.
    """
    # No name holds a slash alone.
    joined = b"\n/\n".join(names)
    with suppress(UnicodeDecodeError):
        return joined.decode().split("\n/\n")
    with suppress(UnicodeDecodeError):
        # Korean is valid GB18030 too, but of many Chinese letters some are no Korean ones.
        korean = joined.decode("cp949")
        if len(letters := set(re.sub(r"[\0-\x7f]", "", korean))) >= 8 and all("\uac00" <= one <= "\ud7a3" for one in letters):
            return korean.split("\n/\n")
    with suppress(UnicodeDecodeError):
        text = joined.decode("gb18030")
        # The letters of other languages, read as GB18030, are rarely of its oldest part.
        strange = re.sub(r"[\0-\x7f]", "", text)
        if 10 * len(strange.encode("gb2312", "ignore")) >= 18 * len(strange):
            return text.split("\n/\n")
    found = chardet.detect(joined, encoding_era=_ERAS)["encoding"] or ""
    with suppress(UnicodeDecodeError):
        # Two letters with marks amid a word ("Größe") look like one of these.
        if found.lower() in _WIDE and not re.search(r"[a-z][^\0-\u2fff][a-z]", text := joined.decode(found), re.I):
            return text.split("\n/\n")
    return joined.decode("cp437").split("\n/\n")


# Names of encodings, as chardet has them, in which an eastern Windows writes the names of files.
_WIDE = {"big5", "big5hkscs", "big5-hkscs", "cp949", "euc-kr", "shift_jis", "cp932", "gb18030", "johab"}
