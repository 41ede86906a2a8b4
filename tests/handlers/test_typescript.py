"""The TypeScript declarations are those of the Structs, and the file in web/ is not stale."""

from handlers.schemas import RECEIVED_MANY, SENT, name, schemas
from handlers.typescript import declarations
from tests.client import ROOT

FILE = ROOT / "web" / "client" / "protocol.d.ts"


def test_the_file_is_up_to_date() -> None:
    """After a change of a body or message, `make types` writes it."""
    assert FILE.read_text("utf-8") == declarations()


def test_every_schema_is_declared() -> None:
    """Objects as interfaces, choices as types."""
    text = declarations()
    for each in schemas():
        assert f"export interface {each} {{" in text or f"export type {each} =" in text


def test_fields_that_may_be_absent_are_optional() -> None:
    """Null is another thing than absent."""
    text = declarations()
    assert "\n  failed_images?: FailedImage[]\n" in text
    assert "\n  error: ImageError | null\n" in text
    assert "\n  variants: Record<string, Variant>\n" in text


def test_messages_differ_by_their_type() -> None:
    """Two unions hold them all."""
    text = declarations()
    assert "\n  type: 'image_update'\n" in text
    for union, kinds in (("ServerMessage", SENT), ("ClientMessage", RECEIVED_MANY)):
        declared = text.partition(f"export type {union} =")[2].partition("\n\n")[0]
        assert set(declared.replace("|", " ").split()) == {name(kind.__name__) for kind in kinds}
