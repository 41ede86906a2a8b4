"""The JSON Schemas of the contracts as TypeScript declarations.

Pure: it must not know where the file lies. `make types` writes it.
"""

from typing import Any

from handlers.schemas import ROOT, schemas

Json = dict[str, Any]

HEAD = "// Types of every body and message of the protocol. `make types` writes this file from the server's Structs.\n"
WIDTH = 120


def declarations() -> str:
    """One interface for each object, one type for each choice, and the unions of all messages."""
    return "\n".join([HEAD, *(_declared(each, schema) for each, schema in schemas().items())])


def _declared(name: str, schema: Json) -> str:
    comment = _comment(schema.get("description", ""), "")
    if schema.get("type") != "object":
        return comment + _choice(f"export type {name} =", _type(schema), "") + "\n"
    required = schema.get("required", [])
    lines = [
        _comment(each.get("description", ""), "  ")
        + _choice(f"  {field}{'' if field in required else '?'}:", _type(each), "  ")
        + "\n"
        for field, each in schema["properties"].items()
    ]
    return f"{comment}export interface {name} {{\n{''.join(lines)}}}\n"


def _choice(head: str, choice: str, indent: str) -> str:
    """`head` and its type, in as many lines as the house's formatter wants."""
    for line in (f"{head} {choice}", f"{head}\n{indent}  {choice}"):
        if max(map(len, line.split("\n"))) <= WIDTH and (not indent or "\n" not in line):
            return line
    return head + "".join(f"\n{indent}  | {each}" for each in choice.split(" | "))


def _comment(text: str, indent: str) -> str:
    lines = text.split("\n")
    if len(lines) == 1:
        return f"{indent}/** {text} */\n" if text else ""
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(ROOT)
    if "const" in schema:
        return f"'{schema['const']}'"
    if "enum" in schema:
        return " | ".join(f"'{each}'" for each in schema["enum"])
    if "oneOf" in schema:
        return " | ".join(_type(each) for each in schema["oneOf"])
    if "anyOf" in schema and "type" not in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    match schema.get("type"):
        case "array":
            inner = _type(schema["items"])
            return f"({inner})[]" if "|" in inner else f"{inner}[]"
        case "object":
            return f"Record<string, {_type(schema['additionalProperties'])}>"
        case "integer" | "number":
            return "number"
        case "null":
            return "null"
        case "boolean":
            return "boolean"
    return "Blob" if "contentMediaType" in schema else "string"
