"""Mail: what it says, and what is attached to it."""

import codecs
import email
import email.header
import email.policy
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage, MIMEPart

import bs4

from ingest.readers.document import Block, Read, UnreadableError
from ingest.readers.encoding import decode
from ingest.readers.html import html_blocks, read_page
from rag_app.words import msg


@dataclass(frozen=True)
class Letter:
    """A mail as read; its attachments by name, unread."""

    subject: str
    blocks: list[Block]
    attachments: list[tuple[str, bytes]]


def read_eml(content: bytes) -> Letter:
    """Internet mail: its head, its text (as HTML where there is some, for its tables), its attachments."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        content = decode(content).encode()
    message = email.message_from_bytes(content, policy=email.policy.default)
    head = [(name, _header(message, name)) for name in ("From", "To", "Cc", "Date")]
    body = message.get_body(("html", "plain"))
    text = _text(body) if body is not None else ""
    attachments: list[tuple[str, bytes]] = []
    for part in message.iter_attachments():
        inside = part.get_payload()
        if part.get_content_type() == "message/rfc822" and isinstance(inside, list) and isinstance(inside[0], EmailMessage):
            attachments.append((f"{inside[0]['Subject'] or 'forwarded'}.eml", inside[0].as_bytes()))
        elif part.get_content_disposition() != "inline" or part.get_content_maintype() != "image":
            attached = part.get_payload(decode=True)
            attachments.append((part.get_filename() or "attachment", attached if isinstance(attached, bytes) else b""))
    html = body is not None and body.get_content_subtype() == "html"
    return Letter(_header(message, "Subject"), [*_head(head), *_body(text, html=html)], attachments)


def _header(message: EmailMessage, name: str) -> str:
    """Return a header as it was meant: bytes of no stated encoding, and encoded words that are cut inside a character, too."""
    raw = next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")
    if not raw.isascii():
        return " ".join(decode(raw.encode("utf-8", "surrogateescape")).split())
    words = re.sub(r"\?=\s+=\?", "?==?", " ".join(raw.split()))
    return re.sub(rf"(?:{_WORD})+", _decoded, words)


_WORD = r"=\?[\w.:-]+(?:\*\w+)?\?[bBqQ]\?[^?]*\?="


def _decoded(match: re.Match[str]) -> str:
    """Return encoded words as text; those of one encoding are one text, wherever they were cut."""
    parts = email.header.decode_header(" ".join(re.findall(_WORD, match[0])))
    text = ""
    for encoding, group in itertools.groupby(parts, lambda part: (part[1] or "ascii").lower()):
        joined = b"".join(part if isinstance(part, bytes) else part.encode() for part, _ in group)
        text += (
            decode(joined, encoding)
            if encoding in ("gb2312", "gbk", "unknown-8bit")
            else joined.decode(_known(encoding), "replace")
        )
    return text


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return "utf-8"


def read_mailbox(content: bytes) -> Iterator[Letter]:
    """A mailbox (mbox): its messages, one after the other."""
    for message in re.split(rb"(?m)^From \S+.*\d{4}\r?\n", content)[1:]:
        yield read_eml(re.sub(rb"(?m)^>(>*From )", rb"\1", message))


def read_saved_page(content: bytes) -> Read:
    """A web page that a browser saved as one file (MHTML): the page."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    page = next((part for part in message.walk() if part.get_content_type() == "text/html"), None)
    if page is None:
        raise UnreadableError(msg("it holds no page"), msg("save the page again"))
    return read_page(_text(page))


def _text(part: MIMEPart) -> str:
    content = part.get_payload(decode=True)
    return decode(content, part.get_content_charset() or "") if isinstance(content, bytes) else ""


def read_msg(content: bytes) -> Letter:
    """Outlook mail: its head, its text, its attachments."""
    import oxmsg  # Of the extra `files`.

    message = oxmsg.Message.load(io.BytesIO(content))
    names = [f"{r.name} <{r.email_address}>" if r.name != r.email_address else r.name for r in message.recipients]
    head = [
        ("From", str(email.header.make_header(email.header.decode_header(message.sender or "")))),
        ("To", ", ".join(name for name in names if name.strip("<> "))),
        ("Date", message.sent_date.strftime("%Y-%m-%d %H:%M") if message.sent_date else ""),
    ]
    html = message.html_body or ""
    blocks = [*_head(head), *_body(html or message.body or "", html=bool(html))]
    return Letter(
        message.subject or "", blocks, [(a.file_name or "attachment", a.file_bytes or b"") for a in message.attachments]
    )


def _head(fields: list[tuple[str, str]]) -> list[Block]:
    return [Block("paragraph", "\n".join(f"{name}: {text}" for name, text in fields if text))]


def _body(text: str, *, html: bool) -> list[Block]:
    if html:
        return list(html_blocks(bs4.BeautifulSoup(text, "lxml")))
    return [Block("paragraph", part.strip()) for part in text.replace("\r\n", "\n").split("\n\n")]
