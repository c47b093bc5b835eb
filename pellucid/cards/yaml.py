"""YAML of one spelling, whatever strings of others it holds: each is in double quotes, in ASCII."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


class _Text(str):
    pass


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def dumped(value: Any) -> str:
    """Mappings and lists of strings, numbers and truths, in blocks and in the order they have."""
    return yaml.dump(
        _quoted(value),
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=False,
        width=1 << 20,
    )


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return _Text(value)
    if isinstance(value, dict):
        return {key: _quoted(inner) for key, inner in value.items()}
    return [_quoted(inner) for inner in value] if isinstance(value, list | tuple) else value
