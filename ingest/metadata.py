"""Metadata: the fields that RAG_METADATA declares, filled by what a document's file, its folders and `_meta.yaml` say of it."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from ingest.files import SIDECAR, File, meant_by
from ingest.readers.properties import by_name
from rag_app.errors import RagError
from rag_app.settings import FieldKind
from rag_app.store.stored import named_back
from rag_app.types import Fields, FieldValue
from rag_app.words import Message, msg

# Values that a field of a document has, and characters of each.
_MOST, _LONGEST = 20, 100
# What a sidecar says beside fields: globs with the fields of files, and the fields that the names of folders below are.
_FILES, _FOLDERS = "files", "folders"


@dataclass(frozen=True)
class Described:
    """What is said of a document outside of its file: what counts more than its own words, and what counts less.

    `less` and `least` come before and after the properties that a program wrote into it.
    """

    kinds: tuple[tuple[str, FieldKind], ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    less: Mapping[str, Any] = field(default_factory=dict)
    least: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What the fields of a document depend on beside its file."""
        said = [self.kinds, *(sorted(layer.items()) for layer in (self.more, self.less, self.least))]
        return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:16]

    def fields(self, front: Mapping[str, Any], properties: Mapping[str, Any]) -> tuple[Fields, list[Message]]:
        """Return the fields of a document whose file says this of itself, and a note for each that cannot be used."""
        found: Fields = {}
        notes: list[Message] = []
        for name, kind in self.kinds:
            for layer in (self.more, front, self.less, properties, self.least):
                try:
                    if values := _values(layer.get(name), kind):
                        found[name] = values
                        break
                except _ValueError as error:
                    notes.append(msg("field {name} is left out: {reason}", name=name, reason=error.happened))
                    break
        return found, notes


class _ValueError(RagError):
    """A value that a field cannot have."""


def _values(value: Any, kind: FieldKind) -> tuple[FieldValue, ...]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if len(values) > _MOST:
        raise _ValueError(msg("it has more than {n} values", n=_MOST))
    found = [_value(one, kind) for one in values if one is not None and str(one).strip()]
    return tuple(dict.fromkeys(found))


def _value(value: Any, kind: FieldKind) -> FieldValue:
    if isinstance(value, bool):
        value = str(value).lower()
    if not isinstance(value, str | int | float | date):
        raise _ValueError(msg("its value is neither text nor a number"))
    text = " ".join(str(value).encode("utf-8", "replace").decode().split())
    if len(text) > _LONGEST:
        raise _ValueError(msg("its value is longer than {n} characters", n=_LONGEST))
    if kind == "text":
        return text
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise _ValueError(msg("{value} is not a whole number", value=text))
    return int(text)


@dataclass(frozen=True)
class _Sidecar:
    """What a `_meta.yaml` says of the documents in its folder and below."""

    folder: Path
    fields: Mapping[str, Any]
    files: Sequence[tuple[Callable[[str], bool], Mapping[str, Any]]]
    folders: Sequence[str]

    def of_file(self, path: Path) -> dict[str, Any]:
        """Return what it says of this file by name; a later glob counts more."""
        below = path.relative_to(self.folder).as_posix()
        return {name: value for is_meant, fields in self.files if is_meant(below) for name, value in fields.items()}

    def of_folders(self, path: Path) -> dict[str, Any]:
        """Return what the names of the folders between here and a file are."""
        return dict(zip(self.folders, path.relative_to(self.folder).parts[:-1], strict=False))


class Describing:
    """Finds what is said of documents; each `_meta.yaml` is read once."""

    def __init__(self, kinds: Sequence[tuple[str, FieldKind]]) -> None:
        self.kinds = tuple(kinds)
        self._read: dict[Path, _Sidecar | None] = {}

    def of(self, file: File) -> Described | None:
        """Return what is said of a file, None where no fields are declared. RagError for a `_meta.yaml` that cannot be used."""
        if not self.kinds:
            return None
        path = file.path.resolve()
        above = [folder for folder in path.parents if folder.is_relative_to(named_back(file.root))]
        more: dict[str, Any] = {}
        less: dict[str, Any] = {}
        parts = (part.partition("=") for part in file.document.split("/")[:-1])
        least = by_name({name: value for name, _, value in parts if value})
        declared = dict(self.kinds)
        # From the outermost to the folder of the file itself, which counts most.
        for folder in reversed(above):
            if sidecar := self._sidecar(folder):
                more |= sidecar.of_file(path)
                less |= sidecar.of_folders(path) | dict(sidecar.fields)
        layers = ({name: value for name, value in layer.items() if name in declared} for layer in (more, less, least))
        return Described(self.kinds, *layers)

    def _sidecar(self, folder: Path) -> _Sidecar | None:
        if folder not in self._read:
            self._read[folder] = self._load(folder / SIDECAR)
        return self._read[folder]

    def _load(self, file: Path) -> _Sidecar | None:
        if not file.is_file():
            return None
        try:
            said = yaml.safe_load(file.read_text("utf-8-sig")) or {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise _wrong(file, msg("it is not YAML: {reason}", reason=" ".join(str(error).split()))) from None
        if not isinstance(said, dict):
            raise _wrong(file, msg("it has no names with values"))
        said = by_name(said)
        files, folders = said.pop(_FILES, None) or {}, said.pop(_FOLDERS, None) or ""
        if not isinstance(files, dict) or not all(isinstance(fields, dict) for fields in files.values()):
            raise _wrong(file, msg("{name} is not a list of file names, each with its fields", name=_FILES))
        if not isinstance(folders, str):
            raise _wrong(
                file, msg("{name} is not the names of fields, such as {example}", name=_FOLDERS, example="country/year")
            )
        for fields in (said, *map(by_name, files.values())):
            for name, value in self._declared(fields):
                try:
                    _values(value, dict(self.kinds)[name])
                except _ValueError as error:
                    raise _wrong(file, msg("field {name}: {reason}", name=name, reason=error.happened)) from None
        try:
            globs = [(meant_by(str(glob)), by_name(fields)) for glob, fields in files.items()]
        except ValueError as error:
            raise _wrong(file, msg("{name} has a pattern that is none ({reason})", name=_FILES, reason=error)) from None
        return _Sidecar(file.parent, said, globs, [part.strip().lower() for part in folders.split("/")])

    def _declared(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        names = dict(self.kinds)
        yield from ((name, value) for name, value in fields.items() if name in names)


def _wrong(file: Path, reason: Message) -> RagError:
    return RagError(msg("{file}: {reason}", file=file, reason=reason), msg("fix it, or remove the file"))
