"""Chats: messages as plain lines. `read` is what a source does, and says what it does not read;
`in_full` is what the commands of messages do, of messages of any form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pellucid.data.about import under

# Where the messages of a tree, as ChatGPT exports it, have who speaks and the text.
TREE_ROLE, TREE_CONTENTS = "author.role", ("content.parts", "content.text")
_ROLES, _CONTENTS = ("role", "from"), ("content", "value")  # Of the messages that `read` takes.
_SPEAKER = ("role", "from", "name")  # Keys of a message that hold no words of it.
_USUAL = ("text", "message", "body")  # Where some have them, were it one word.
_CALLS = ("tool_calls", "function_call")  # A message with these says nothing by itself.
_WORDS = re.compile(r"\w\s+\w")


class Chat(NamedTuple):
    text: str
    unread: bool = False  # A message has words elsewhere than under content or value.
    silent: bool = False  # A message has none anywhere.

    @property
    def noted(self) -> tuple[str, ...]:
        """Reasons (data/reasons.py) for which a document is kept and counted."""
        named = {"chat_unread": self.unread, "chat_silent": self.silent}
        return tuple(reason for reason, there in named.items() if there)


def read(messages: Any) -> Chat | None:
    """A list of {role, content} or {from, value} as lines "role: content".

    None where it is no such list, or none of its messages has a text."""
    if not isinstance(messages, list) or not messages:
        return None
    turns, spoken, unread, silent = [], False, False, False
    for message in messages:
        if (turn := _turn(message)) is None:
            return None
        role, content = turn
        turns.append(f"{role}: {content}")
        if content.strip():
            spoken = True
        elif _is_unread(message):
            unread = True
        else:
            silent = True
    return Chat("\n".join(turns), unread, silent) if spoken else None


def _turn(message: Any) -> tuple[str, str] | None:
    """Who speaks, and the text; None where the message is not of the form."""
    if not isinstance(message, dict):
        return None
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        content = parts(content)
    if not isinstance(role, str) or not (content is None or isinstance(content, str)):
        return None
    return role, content or ""


def parts(content: list[Any]) -> str:
    """The texts of a message in parts, of which some are no text."""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _is_unread(message: dict[str, Any]) -> bool:
    """Whether a message without a text has one where none is looked for."""
    named = "content" in message or "value" in message
    if not named and not any(key in message for key in _CALLS):
        return True
    return any(_has_words(key, value) for key, value in message.items() if key not in _SPEAKER)


def _has_words(key: str, value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(element, str) and bool(element.strip()) for element in value)
    if not isinstance(value, str):
        return False
    return bool(value.strip() if key in _USUAL else _WORDS.search(value))


# ---- messages of any form ----------------------------------------------------------------------


def in_full(messages: Any, role: str = "", contents: Sequence[str] = ()) -> str:
    """The messages of a list or a tree as lines "role: content", those with words under any key;
    "" where there are none.

    role: the key of who speaks, "" for the usual. contents: the keys of the text, before the usual
    ones; the first that has one counts."""
    if not contents and (chat := read(messages)) and not chat.unread:
        return chat.text
    lines = []
    for message in messages_of(messages):
        if text := next(filter(str.strip, _texts(message, contents)), ""):
            said_by = [under(message, key) for key in ((role,) if role else _ROLES)]
            speaker = next((name for name in said_by if isinstance(name, str)), None)
            lines.append(text if speaker is None else f"{speaker}: {text}")
    return "\n".join(lines)


def is_tree(value: Any) -> bool:
    """Whether an object has by name the nodes of a tree of messages, as ChatGPT exports it."""
    nodes = value.values() if isinstance(value, dict) else ()
    keys = {"message", "children"}
    return bool(nodes) and all(isinstance(node, dict) and keys <= node.keys() for node in nodes)


def messages_of(value: Any) -> list[Any]:
    """The messages of a list, or of a tree: each before those that answer it."""
    if not is_tree(value):
        return value if isinstance(value, list) else []
    answers = {child for node in value.values() for child in _children(node)}
    waiting = [name for name in reversed(value) if name not in answers]
    names: dict[str, None] = {}
    while waiting:
        if (name := waiting.pop()) in value and name not in names:
            names[name] = None
            waiting += reversed(_children(value[name]))
    ordered = names | dict.fromkeys(value)  # Those of a circle last.
    return [value[name]["message"] for name in ordered]


def _children(node: dict[str, Any]) -> list[str]:
    children = node["children"]
    return [name for name in children if isinstance(name, str)] if type(children) is list else []


def _texts(message: Any, contents: Sequence[str]) -> Iterator[str]:
    """The texts that a message may mean, in the order in which they count; some are empty."""
    if not isinstance(message, dict):
        yield _text(message)
        return
    for key in (*contents, *_CONTENTS):
        yield _text(under(message, key))
    named = {key: value for key, value in message.items() if key not in _SPEAKER}
    yield "\n".join(_text(value) for key, value in named.items() if _has_words(key, value))


def _text(value: Any) -> str:
    """A text, or the texts of a list; "" of anything else."""
    if isinstance(value, list):
        return "\n".join(filter(None, [parts(value), *(e for e in value if isinstance(e, str))]))
    return value if isinstance(value, str) else ""
