"""A YAML file of settings: its values become the defaults, flags beside it still win.

    preset: tiny
    frame_size: 112          # a setting by its flag's name …
    optimization:            # … or in its section, as run.json shows it
      batch_size: 16

A value is read as its flag would read it, by the type of the setting and not by YAML's own guesses: ``no``
and ``1e-3`` mean what they say. Whatever the command does not know is refused by name.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from .errors import ConfigError

Config = TypeVar("Config")
Address = tuple[str, ...]  # the setting's section, if it is in one, and its name

_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false"}


def read_settings(file: str | Path, config: Any) -> dict[Address, Any]:
    """What the file says of this configuration, each value in the type of its setting.

    Raises:
        ConfigError: no such file, no YAML, a setting that is unknown or given twice, or a value of another
            type; the message names the line.
    """
    known = dict(_settings_of(config))
    found: dict[Address, Any] = {}
    for keys, node in _values_in(Path(file), sections={address[0] for address in known if address[1:]}):
        place = f"{file}, line {node.start_mark.line + 1}"
        address = _address(keys, known, place)
        if address in found:
            raise ConfigError(f"{place}: {address[-1]} is given twice")
        found[address] = _converted(node, known[address], f"{place}: {address[-1]}")
    return found


def with_settings(config: Config, settings: Mapping[Address, Any]) -> Config:
    """The configuration with these values.

    Raises:
        ConfigError: values that cannot work together.
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        inside = {address[1:]: value for address, value in settings.items() if address[0] == field.name}
        if () in inside:
            changes[field.name] = inside[()]
        elif inside:
            changes[field.name] = with_settings(getattr(config, field.name), inside)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def _settings_of(config: Any) -> Iterator[tuple[Address, Any]]:
    """Address and type of every setting; sections are one deep, and their flags have no prefix."""
    types = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            for (name,), annotation in _settings_of(value):
                yield (field.name, name), annotation
        else:
            yield (field.name,), types[field.name]


def _values_in(file: Path, *, sections: set[str]) -> Iterator[tuple[Address, yaml.Node]]:
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"--config {file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {file} is no text in UTF-8") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {file} is no YAML: {' '.join(str(error).split())}") from error
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"--config {file} must hold settings, one `name: value` a line")
    for key, node in root.value:
        if isinstance(node, yaml.MappingNode) and key.value in sections:
            for inner, value in node.value:
                yield (key.value, inner.value), value
        else:
            yield (key.value,), node


def _address(keys: Address, known: Mapping[Address, Any], place: str) -> Address:
    if keys in known:
        return keys
    by_name = [address for address in known if address[-1] == keys[0]]
    if keys[1:] or len(by_name) != 1:
        name = ".".join(map(str, keys))
        close = difflib.get_close_matches(str(keys[-1]), {address[-1] for address in known}, n=1)
        hint = f"; did you mean {close[0]}?" if close else "; --help lists what this command takes"
        raise ConfigError(f"{place}: no setting is called {name!r}{hint}")
    return by_name[0]


def _converted(node: yaml.Node, annotation: Any, what: str) -> Any:
    if get_origin(annotation) is tuple:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        types = get_args(annotation)
        if types[-1] is Ellipsis:
            types = (types[0],) * len(items)
        if len(items) != len(types):
            raise ConfigError(f"{what} must be {len(types)} values, got {len(items)}")
        return tuple(_converted(item, kind, what) for item, kind in zip(items, types, strict=True))
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{what} must be one value")
    return _scalar(node.value, annotation, what)


def _scalar(text: str, annotation: Any, what: str) -> Any:
    if get_origin(annotation) is Literal:
        if text not in get_args(annotation):
            choices = ", ".join(repr(choice) for choice in get_args(annotation))
            raise ConfigError(f"{what} must be one of {choices}, got {text!r}")
        return text
    try:
        return _TRUTH[text.lower()] if annotation is bool else annotation(text)
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{what} must be {_NAMES.get(annotation, 'text')}, got {text!r}") from error
