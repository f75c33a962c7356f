"""Word and PowerPoint files up to 2003, the least that is one: streams in a compound file, written by hand ([MS-CFB], [MS-DOC],
[MS-PPT]); nothing that runs here writes them."""

import struct

SECTOR = 512
FREE, END, TABLE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound_file(streams: dict[str, bytes]) -> bytes:
    """Return a compound file; short streams are filled up to 4,096 bytes, so that none is in the mini stream."""
    sectors: list[bytes] = []
    fat: list[int] = []
    filled = {name: data + bytes(max(4096, len(data) + -len(data) % SECTOR) - len(data)) for name, data in streams.items()}

    def put(data: bytes) -> int:
        first, n = len(sectors), len(data) // SECTOR
        sectors.extend(data[i * SECTOR : (i + 1) * SECTOR] for i in range(n))
        fat.extend([*range(first + 1, first + n), END])
        return first

    def entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
        label = (name + "\0").encode("utf-16-le")
        return label.ljust(64, b"\0") + struct.pack("<HBBIII36xIQ", len(label), kind, 1, FREE, right, child, start, size)

    starts = {name: put(data) for name, data in filled.items()}
    names = sorted(filled, key=lambda name: (len(name), name.upper()))
    entries = [entry("Root Entry", 5, FREE, 1, END, 0)]
    for n, name in enumerate(names, 1):
        entries.append(entry(name, 2, n + 1 if n < len(names) else FREE, FREE, starts[name], len(filled[name])))
    entries += [entry("", 0, FREE, FREE, 0, 0)] * (-len(entries) % 4)
    directory = put(b"".join(entries))
    n_tables = -(-(len(fat) + 2) * 4 // SECTOR)
    places = [len(sectors) + n for n in range(n_tables)]
    fat += [TABLE] * n_tables
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<IIIIIIIII", 0, n_tables, directory, 0, 4096, END, 0, END, 0)
    head += struct.pack("<109I", *places, *([FREE] * (109 - n_tables)))
    return head + b"".join(sectors) + struct.pack(f"<{len(fat)}I", *fat).ljust(n_tables * SECTOR, b"\xff")


def doc(text: str) -> bytes:
    """Return a Word file: its paragraphs end in \\r, cells of tables in \\x07."""
    raw, first = text.encode("utf-16-le"), 1536
    block = bytearray(first)
    # That the pieces are in the stream 1Table, and that it is of Word 97.
    struct.pack_into("<HHHHHH", block, 0, 0xA5EC, 0xC1, 0, 0x409, 0, 0x1200)
    struct.pack_into("<H", block, 12, 0xBF)
    struct.pack_into("<II", block, 24, first, first + len(raw))
    struct.pack_into("<H", block, 32, 14)
    struct.pack_into("<H", block, 62, 22)
    struct.pack_into("<I", block, 64, first + len(raw))
    struct.pack_into("<I", block, 76, len(text))
    struct.pack_into("<H", block, 152, 93)
    pieces = struct.pack("<IIHIH", 0, len(text), 0, first, 0)
    table = b"\x02" + struct.pack("<I", len(pieces)) + pieces
    struct.pack_into("<II", block, 154 + 33 * 8, 0, len(table))
    return compound_file({"WordDocument": bytes(block) + raw, "1Table": table})


def ppt(slides: list[list[tuple[int, str]]], n_objects: int = 0) -> bytes:
    """Return a PowerPoint file; a slide is texts by kind: 0 the title, 1 the body. Objects of other programs are empty."""

    def record(version: int, kind: int, data: bytes) -> bytes:
        return struct.pack("<HHI", version, kind, len(data)) + data

    def texts(number: int, slide: list[tuple[int, str]]) -> bytes:
        place = record(0, 1011, struct.pack("<IIIII", number + 2, 0, 0, 256 + number, 0))
        return place + b"".join(
            record(0, 3999, struct.pack("<I", k)) + record(0, 4000, t.encode("utf-16-le")) for k, t in slide
        )

    listed = b"".join(texts(n, slide) for n, slide in enumerate(slides))
    out = record(15, 1000, record(1, 1001, bytes(40)) + record(15, 4080, listed) + record(0, 1002, b""))
    places = [0]
    for _ in slides:
        places.append(len(out))
        out += record(15, 1006, record(2, 1007, bytes(24)) + record(15, 1036, record(15, 0xF002, b"")))
    out += record(0, 0x1011, b"nothing") * n_objects
    directory = len(out)
    out += record(0, 6002, struct.pack("<I", 1 | len(places) << 20) + struct.pack(f"<{len(places)}I", *places))
    edit = len(out)
    out += record(0, 4085, struct.pack("<IHBBIIIIHH", 256, 0, 0, 3, 0, directory, 1, len(places) + 1, 1, 0))
    user = record(0, 4086, struct.pack("<IIIHHBBHI", 20, 0xE391C05F, edit, 0, 1012, 3, 0, 0, 8))
    return compound_file({"Current User": user, "PowerPoint Document": out})
