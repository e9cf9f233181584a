"""Signature sets: the XML lists that say which image and which person stands behind each row of a BEE matrix.

Promises: the parser reads elements and attributes only; a document type declaration, and with it every entity, is refused
before anything is expanded. What it does not do: judge labels; two labels for one person go on to the survey.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from audit_toolkit.errors import InputError
from audit_toolkit.sources.lines import existing_file

TECHNICAL = frozenset({"name", "file-name", "file-format", "modality"})
"""Attributes of a presentation that say nothing about the person."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """One image of one person: ``subject`` is the signature's name, ``sample`` the file name, ``labels`` what else it says."""

    subject: str
    sample: str
    labels: dict[str, str]


def read_sigset(path: str | Path) -> tuple[Presentation, ...]:
    """The presentations of a signature set in the order of the matrix; `InputError` with the line where it is broken."""
    path = existing_file(path)
    found: list[Presentation] = []
    stack: list[tuple[str, str]] = []

    def fail(what: str, mend: str) -> InputError:
        return InputError(what, where=f"{path.name}, line {parser.CurrentLineNumber}", mend=mend)

    def start(tag: str, given: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        inside = tuple(t for t, _ in stack)
        if not stack and tag != "biometric-signature-set":
            raise fail("This is not a biometric-signature-set.", "Give the signature set of this matrix.")
        if tag == "presentation" and inside == ("biometric-signature-set", "biometric-signature"):
            if not given.get("file-name"):
                raise fail("A presentation has no file-name.", "Write the file name of every image.")
            labels = {k: v for k, v in given.items() if k not in TECHNICAL and not k.startswith(("xmlns", "xsi:"))}
            found.append(Presentation(stack[-1][1], given["file-name"], labels))
        elif len(stack) == 1 and tag == "biometric-signature" and not given.get("name"):
            raise fail("A biometric-signature has no name.", "Name the subject of every signature.")
        elif (len(stack), tag) not in {(0, "biometric-signature-set"), (1, "biometric-signature")}:
            # An element that is passed over would shift every later row of the matrix.
            raise fail("There is an element that is no signature or presentation.", "Keep to the plain layout.")
        stack.append((tag, given.get("name", "")))

    def refuse(*_: object) -> None:
        raise fail("The file declares a document type, which is refused.", "Remove the DOCTYPE.")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        with path.open("rb") as stream:
            parser.ParseFile(stream)
    except expat.ExpatError as error:
        raise fail(f"The XML is broken ({expat.ErrorString(error.code)}).", "Ask for the file again.") from None
    except (LookupError, ValueError):
        raise fail("The XML declares an encoding that is not read.", "Save the file as UTF-8.") from None
    return tuple(found)
