"""Settings from YAML: every mistake is one line that names the file, the line in it, the key and the mend.

PyYAML's nodes know where they stand; pydantic knows which key is wrong. A key's place is the node that the error's
location leads to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dicom_bridge.settings.base import MisplacedError
from rcmed.errors import ConfigurationError

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
# Of a URL with one: it may not get into a log.
_PASSWORD = re.compile(r"//[^/@]*@|password=[^&']*")


@dataclass(frozen=True)
class SettingsFile:
    """A YAML file with keys and values, and where each stands.

    Attributes:
        path: of the file.
        content: its keys and values.
        root: its node; None where the file is empty.
    """

    path: Path
    content: dict[str, Any]
    root: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> SettingsFile:
        """Read a file.

        Raises:
            ConfigurationError: unreadable, no YAML, not keys and values, or a key twice; a line for each mistake.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{path}: can't be read ({error.strerror}): give the path of a YAML file"
            ) from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path}: not valid YAML (no UTF-8 text): save it as UTF-8") from None
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            repeated = [] if root is None else list(_repeated_keys(root))
            content = {} if root is None else loader.construct_document(root)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark is not None else ""
            reason = getattr(error, "problem", None)
            because = f" ({reason})" if reason else ""
            raise ConfigurationError(f"{path}{place}: not valid YAML{because}: mend the syntax") from None
        finally:
            loader.dispose()
        if content is None:
            content = {}
        if not isinstance(content, dict):
            kind = type(content).__name__
            raise ConfigurationError(f"{path}, line 1: must hold keys and values, not {kind}")
        if repeated:
            raise ConfigurationError(
                *(
                    f"{path}, line {key.start_mark.line + 1}: key '{key.value}' is there twice, "
                    f"first in line {first.start_mark.line + 1}: remove one"
                    for first, key in repeated
                )
            )
        return cls(path, content, root)

    def place(self, location: Location) -> tuple[int, Location]:
        """The line (from 1) where a location stands, and the part of the location that is in the file.

        pydantic puts the kind of a value that may be of several kinds among the keys; such parts lead to no node.
        """
        node, line, found = self.root, 1, []
        for part in location:
            if isinstance(node, yaml.MappingNode):
                entry = next(((key, value) for key, value in node.value if key.value == part), None)
                if entry is None:
                    continue
                line, node = entry[0].start_mark.line + 1, entry[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                continue
            found.append(part)
        return line, tuple(found)


def validate(
    model: type[Model], content: Mapping[str, Any], files: Mapping[str, SettingsFile], context: dict[str, Any]
) -> Model:
    """Make settings of what files hold.

    Args:
        model: the class of the settings.
        content: what the files hold, put together.
        files: first key -> the file in which what is below it stands; under "" the file of everything else.
        context: of the validation.
    Raises:
        ConfigurationError: a line for each mistake, in the order of the files' lines.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        found: dict[tuple[Path, int, Location], list[str]] = {}
        one_of_kinds = set()
        for location, mistake in _mistakes(error):
            file = files.get(str(location[0]) if location else "", files[""])
            inner = location if file is files[""] else location[1:]
            line, key = file.place(inner)
            missing = inner[-1:] if mistake["type"] == "missing" else ()
            text = _mistake(mistake, (*key, *missing), model, location)
            if len(key) < len(inner) - len(missing):
                one_of_kinds.add((file.path, line, key))
            texts = found.setdefault((file.path, line, (*key, *missing)), [])
            if text not in texts:
                texts.append(text)
        # Of a value that may be a text or a list, a list with a mistake in it is told by that mistake alone.
        for path, line, key in one_of_kinds:
            if any(other[0] == path and len(other[2]) > len(key) and other[2][: len(key)] == key for other in found):
                found.pop((path, line, key), None)
        order = [file.path for file in files.values()]
        lines = [
            f"{path}, line {line}: {', or '.join(texts)}"
            for (path, line, _), texts in sorted(found.items(), key=lambda one: (order.index(one[0][0]), one[0][1]))
        ]
        raise ConfigurationError(*lines) from None


def _mistakes(error: ValidationError) -> Iterator[tuple[Location, Mapping[str, Any]]]:
    for mistake in error.errors(include_url=False):
        cause = mistake.get("ctx", {}).get("error")
        if isinstance(cause, MisplacedError):
            for below, text in cause.mistakes:
                yield (*mistake["loc"], *below), {"type": "value_error", "msg": text}
        else:
            yield mistake["loc"], dict(mistake)


def _mistake(mistake: Mapping[str, Any], key: Location, model: type[BaseModel], location: Location) -> str:
    name = ".".join(str(part) for part in key)
    message = str(mistake["msg"]).removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        near = get_close_matches(str(location[-1]), _keys_beside(model, location), n=1)
        return f"unknown key '{name}': " + (f"did you mean '{near[0]}'?" if near else "remove it or mend its spelling")
    if mistake["type"] == "missing":
        return f"key '{name}' is missing: add it"
    shown = _PASSWORD.sub("***", repr(mistake["input"])) if "input" in mistake else None
    return f"key '{name}': {message}" + (f" (it is {shown})" if shown is not None and len(shown) <= 60 else "")


def _keys_beside(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that are known where an unknown one was found."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    known: list[Mapping[str, Any]] = [schema]
    for part in location[:-1]:
        below = []
        for one in _resolved(known, definitions):
            if part in one.get("properties", {}):
                below.append(one["properties"][part])
            elif isinstance(part, int) and isinstance(one.get("items"), dict):
                below.append(one["items"])
            elif isinstance(one.get("additionalProperties"), dict):
                below.append(one["additionalProperties"])
            elif one.get("properties", {}).get("type", {}).get("const") == part:
                below.append(one)  # the kind of a destination
        known = below or known
    return [name for one in _resolved(known, definitions) for name in one.get("properties", {})]


def _resolved(schemas: Iterable[Mapping[str, Any]], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for schema in schemas:
        if "$ref" in schema:
            yield from _resolved([definitions[schema["$ref"].rpartition("/")[2]]], definitions)
        elif "anyOf" in schema or "oneOf" in schema:
            yield from _resolved(schema.get("anyOf") or schema["oneOf"], definitions)
        else:
            yield schema


def _repeated_keys(root: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """(first, again) of every key that a mapping holds twice: YAML forbids it (1.2, 3.2.1.1), PyYAML takes the last."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias leads to the same node
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            first: dict[str, yaml.Node] = {}
            for key, value in node.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode) and first.setdefault(key.value, key) is not key:
                    yield first[key.value], key
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
