"""Chats: a list of messages as plain lines, and what of its messages is not read."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

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
    if isinstance(content, list):  # Parts, of which some are no text.
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    if not isinstance(role, str) or not (content is None or isinstance(content, str)):
        return None
    return role, content or ""


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
