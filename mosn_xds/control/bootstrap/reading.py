"""From a bootstrap file, and what is merged over it, to the protobuf message.

YAML and JSON become proto JSON. Scalars are read as YAML 1.2 has them, which is what Envoy does: ``on`` and ``12:30`` are
strings. An Any of a type that nobody knows becomes a TypedStruct, so that it meets the rule for unknown extensions where
it stands, instead of ending the start.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.message import Message

from mosn_xds.base.errors import ConfigError
from mosn_xds.xds.messages import TYPE_PREFIX, message_class, parse_json

BOOTSTRAP_TYPE = "envoy.config.bootstrap.v3.Bootstrap"
_TYPED_STRUCT = f"{TYPE_PREFIX}xds.type.v3.TypedStruct"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def read_message(path: Path | None, config_yaml: str) -> tuple[Message, tuple[str, ...]]:
    """The Bootstrap of the file with that of `config_yaml` merged over it (lists are appended), and the paths of keys that
    it does not have.

    Raises `ConfigError` whose path begins with the file, with the line for what is no YAML.
    """
    bootstrap = message_class(BOOTSTRAP_TYPE)
    if bootstrap is None:
        raise ConfigError("xds-protos has no Bootstrap", hint="reinstall xds-protos")
    message = bootstrap()
    unknown: tuple[str, ...] = ()
    for place, text in _texts(path, config_yaml):
        fields = _parse(place, text)
        if "@type" in fields:
            hint = "resources are for `mosn-xds pilot DIRECTORY`, or a path_config_source"
            raise ConfigError(f"a bootstrap is wanted here, and this is a {fields['@type']}", path=place, hint=hint)
        try:
            part, keys = parse_json(bootstrap, prepare(fields))
        except RecursionError:
            raise ConfigError(
                "nested too deeply", path=place, hint="is there an alias inside its own anchor?"
            ) from None
        except ConfigError as error:
            at = f"{place}: {error.path}" if error.path else place
            raise ConfigError(error.reason, path=at, hint=error.hint) from None
        message.MergeFrom(part)
        unknown += keys
    return message, unknown


def _texts(path: Path | None, config_yaml: str) -> list[tuple[str, str]]:
    found = []
    if path is not None:
        try:
            found.append((str(path), path.read_text()))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ConfigError(f"unable to read file: {reason}", path=str(path)) from None
    if config_yaml:
        found.append(("--config-yaml", config_yaml))
    if not found:
        raise ConfigError("no configuration given", hint="-c FILE or --config-yaml YAML")
    return found


def _parse(place: str, text: str) -> dict[str, Any]:
    try:
        if text.lstrip().startswith("{"):
            try:
                fields = json.loads(text)
            except ValueError:
                fields = yaml.load(text, _Loader)  # YAML's flow style looks alike
        else:
            fields = yaml.load(text, _Loader)
    except RecursionError:
        raise ConfigError("nested too deeply", path=place) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"not YAML: {getattr(error, 'problem', None) or error}", path=f"{place}{line}") from None
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise ConfigError("a bootstrap is a mapping", path=place)
    return fields


def prepare(value: Any) -> Any:
    """Proto JSON in which every ``@type`` is known to the pool: unknown ones are wrapped as TypedStruct."""
    if isinstance(value, list):
        return [prepare(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {str(key): prepare(item) for key, item in value.items()}
    type_url = fields.get("@type")
    if isinstance(type_url, str) and message_class(type_url) is None:
        rest = {key: item for key, item in fields.items() if key != "@type"}
        message_class(_TYPED_STRUCT)  # JSON is read only of types that are loaded
        return {"@type": _TYPED_STRUCT, "type_url": type_url, "value": rest}
    return fields
