"""Messages as plain lines: trees as ChatGPT exports them, and forms that no reader takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pellucid.data import chats, joining
from pellucid.errors import TextKeyMissing
from pellucid.new import new
from tests.data.conftest import text_of
from tests.data.test_keys import converted, told


def node(name: str, role: str, content: Any, children: list[Any]) -> dict[str, Any]:
    message = {
        "id": f"{name}-id",
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": 1700000000.5,
        "content": content,
        "status": "finished_successfully",
        "recipient": "all",
    }
    return {"id": name, "message": message, "parent": None, "children": children}


def parts(*given: Any) -> dict[str, Any]:
    return {"content_type": "text", "parts": list(given)}


def conversation(number: int) -> dict[str, Any]:
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    code = {"content_type": "code", "language": "python", "text": "print(1)"}
    answer = text_of(number, 9)
    return {
        "title": f"About the number {number}",
        "create_time": 1700000000.5,
        "mapping": {
            # A node may stand before the one that it answers.
            "d": node("d", "assistant", parts(answer), []),
            "root": {"id": "root", "message": None, "parent": None, "children": ["a"]},
            "a": node("a", "system", parts(""), ["b"]),
            "b": node("b", "user", parts(picture, "Why?"), ["c", "d"]),
            "c": node("c", "assistant", code, []),
        },
        "current_node": "d",
        "conversation_id": f"{number:032x}",
    }


def test_a_conversation_of_chatgpt_is_offered_whole(tmp_path: Path, recipe_of: Any) -> None:
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([conversation(n) for n in range(9)]))
    message = told(path, recipe_of, "json")
    assert '"mapping" holds the messages of a conversation as a tree' in message
    assert "--set" not in message, "the title is not the conversation"
    said = f"user: Why?\nassistant: print(1)\nassistant: {text_of(8, 9)}"
    assert converted(message, tmp_path)[-1] == said
    with pytest.raises(TextKeyMissing, match="as a tree, as ChatGPT exports them"):
        new(tmp_path / "run", [str(path)], "1M", [])


@pytest.mark.parametrize(
    "children", [["a"], ["b", "a", "none"], None, {}, [[], {}, 3, None], "a", ["a"] * 99]
)
def test_a_tree_of_any_shape_gives_each_message_once(children: Any) -> None:
    tree = {name: node(name, "user", parts(name * 3), children) for name in "ab"}
    lines = chats.in_full(tree, chats.TREE_ROLE, chats.TREE_CONTENTS).splitlines()
    assert sorted(lines) == ["user: aaa", "user: bbb"]


def test_a_deep_tree_is_read() -> None:
    count = 20_000
    tree = {str(n): node(str(n), "user", parts("x"), [str(n + 1)]) for n in range(count)}
    assert len(chats.messages_of(tree)) == count


MIXED = [
    {"role": "a", "content": [{"type": "text", "text": "In parts."}]},
    {"role": "b", "text": "Under another key, and much longer than the part."},
    {"role": "c", "content": "Plain."},
    {"role": "d", "note": "seldom here"},
    {"role": "e", "content": None},
]


def test_a_command_that_is_told_loses_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"messages": MIXED}) + "\n" for _ in range(60)))
    (note,) = [
        note
        for note in new(tmp_path / "run", [str(path)], "1M", ["model.context=32", "train.batch=1"])
        if "is lost" in note
    ]
    lines = [
        "a: In parts.",
        "b: Under another key, and much longer than the part.",
        "c: Plain.",
        "d: seldom here",
    ]
    assert converted(note, tmp_path)[0].splitlines() == lines
    assert joining.whole(MIXED).splitlines() == lines


def test_what_a_source_reads_is_joined_as_it_reads_it() -> None:
    usual = [{"from": "a", "value": "Hi."}, {"from": "b", "value": None, "tool_calls": []}]
    chat = chats.read(usual)
    assert chat and chats.in_full(usual) == chat.text == "a: Hi.\nb: "
    for nothing in ([], {}, None, 3, [{}], [{"role": "a"}], [None]):
        assert chats.in_full(nothing) == ""
    assert chats.in_full(["one", "two"]) == "one\ntwo"
