"""The tokenizer in the browser gives the ids of training."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, pre_tokenizers

import pellucid
from pellucid.data import kinds
from pellucid.data.kinds import DOCUMENT
from pellucid.data.patterns import NAMED, split_pattern
from pellucid.data.tokenizer import Tokenizer
from pellucid.site import pack
from tests.conftest import prose
from tests.site.conftest import HOSTILE, watched

DOCS = Path(__file__).parents[2] / "docs"
LONGEST = 20_000  # Characters of a text, in the script.
PATTERNS = ["pellucid", *NAMED]
ENCODE = """([parsed, texts]) => {
  const encode = tokenizer(parsed);
  return texts.map((text) => encode(text).map(([id]) => id));
}"""
SPECIAL = [
    "",
    " ",
    "a",
    "It's I'M you'Re WE'VE they'll he'D don'T 'sun 'ſ I'ſx ''s 's't",
    "one\r\ntwo\r\n\r\nthree\rfour\n\n\nfive\n  \n six\r\n\t seven \n",
    "\tindent\n\t\tif x:\n\t\t    return  1\n",
    "  two   three    four     five \u00a0\u2003 \u3000 x \u0085 y \u2028 z\u2029",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 ٣٤٥٦ ²³ ½ Ⅷ 一二三",
    "\ufeffmark \ufeff\ufeff in the \ufeff middle\ufeff",
    "e\u0301 a\u0308\u0323o n\u0303 \u0301\u0302 ก็ हिन्दी क्षि \u200d\u200c\u00ad x\u20dd",
    "👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ 😀😀😀😀 a😀b 1️⃣",
    "שלום עולם، مرحبا بالعالم السلام عليكم \u202egnp.exe\u202c",
    "ǅ ǈ ʰ ª º ﬁ ß ẞ İ ı K Å ʕ ʔʕʔ aʕB HTMLParser camelCase SCREAMING_CASE iPhone McDonald",
    "東京都に住んでいます。한국어 텍스트 ไทย 中文字符，。！",
    "foo(bar)[0] += {'a': 1}; // done\n/* x */ #!$%^&*()_+-=~`<>?,./;:\"|\\\n///\n",
    "<|document|> <|unknown|> <|endoftext|>",
    "\x00\x01\x1f\x7f\x80\x9f \U0010ffff \ue000 \uffff \ufdd0 \u0378",
    "\u088f\u0c5c \U0001e6c0\U0001e6e3 a\U000323b0b \U00011de0\U00011de1 x\u1acfy A\ua7ceb",
    "a" * LONGEST,
    "ab" * (LONGEST // 2),
    " " * LONGEST,
    " " * 500 + "x",
    "\n" * 500 + " " * 500 + "\n",
    "1" * 1_001,
    "!" * 1_000 + "\n\n//",
    "É" * 1_000,
    "ǅ" * 300 + "a" * 300 + "A" * 300,
    "word " * 3_000,
]


def texts() -> list[str]:
    """Prose, documentation, what a tokenizer takes for special, and draws of everything."""
    documentation = [
        part for path in sorted(DOCS.glob("*.md")) for part in path.read_text().split("\n## ")
    ]
    draw = random.Random(7)
    letters = "".join(SPECIAL[1:18]) + "aaeeiioo  \n\n''  "
    drawn = ["".join(draw.choices(letters, k=draw.randrange(1, 200))) for _ in range(200)]
    made = [prose(number, 60) for number in range(40)]
    return [*SPECIAL, *HOSTILE, *made, *documentation[:120], *drawn]


TEXTS = texts()


def bpe(pattern: str) -> bytes:
    trained, trainer = kinds.untrained_bpe(2_000, pattern, 16)
    trained.train_from_iterator(TEXTS, trainer)
    return kinds.bpe_file(kinds.merges_of(trained), pattern, 16)


def changed(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    parsed = json.loads(content)
    change(parsed)
    return json.dumps(parsed).encode()


def with_old_merges(parsed: dict[str, Any]) -> None:
    """As older files spell merges, and with a token that no merge makes."""
    model = parsed["model"]
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    model["vocab"]["Ġriver.Ċ"] = len(model["vocab"])
    model["vocab"]["word"] = model["vocab"].pop("word", len(model["vocab"]))
    model["merges"] = [merge for merge in model["merges"] if merge.replace(" ", "") != "word"]
    model["ignore_merges"] = True


def with_two_ways(parsed: dict[str, Any]) -> None:
    """Merges that make one token of other pairs, one of them twice."""
    letters = sorted(kinds.byte_letters().values())
    tokens = [DOCUMENT, *letters, "ab", "bc", "abc", "bca", "aa"]
    parsed["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    pairs = ["b c", "ab c", "a b", "bc a", "a bc", "a a", "b c"]
    parsed["model"]["merges"] = [pair.split() for pair in pairs]


FILES: dict[str, Callable[[], bytes]] = {
    **{pattern: lambda pattern=pattern: bpe(pattern) for pattern in PATTERNS},
    "bytes": kinds.bytes_file,
    "characters": lambda: kinds.characters_file("".join(TEXTS[:5] + TEXTS[60:])),
    "ignore_merges": lambda: changed(bpe("llama3"), with_old_merges),
    "two ways": lambda: changed(bpe("gpt2"), with_two_ways),
}


@pytest.mark.parametrize("name", FILES)
def test_the_ids_are_those_of_training(browser: Any, finished: Path, name: str) -> None:
    assert len(TEXTS) > 350
    own = Tokenizer(FILES[name](), Path(name), DOCUMENT)
    given = [*TEXTS, *("".join(random.Random(at).choices("abc", k=40)) for at in range(50))]
    with watched(browser, finished, "file") as at:
        found = at.open("data.html").evaluate(ENCODE, [own.parsed, given])
        assert at.wrong == []
    for text, ids in zip(given, found, strict=True):
        assert ids == own.encode(text), text[:200]
    assert len({number for ids in found for number in ids}) > 150


def test_every_character_is_of_its_kind(browser: Any, finished: Path) -> None:
    """All of Unicode's planes with letters: a browser may know a later version of it."""
    pattern = split_pattern("o200k", 0)
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    codes = [code for code in range(0x34000) if not 0xD800 <= code < 0xE000]
    with watched(browser, finished, "file") as at:
        page = at.open("data.html")
        for start in range(0, len(codes), 20_000):
            letters = map(chr, codes[start : start + 20_000])
            text = "".join(f"a{letter}A {letter}a 1{letter}2." for letter in letters)
            found = page.evaluate(
                "([pattern, text]) => split(text, expression(pattern))", [pattern, text]
            )
            assert found == [piece for piece, _ in cut.pre_tokenize_str(text)]


def test_a_text_is_typed_and_its_tokens_are_drawn(browser: Any, finished: Path, way: str) -> None:
    own = Tokenizer.load(finished)
    text = "The stone, the café\n東京 and <b>it's</b> \x1b\u202e!"
    with watched(browser, finished, way) as at:
        page = at.open("data.html")
        page.get_by_label("Type a text, see its tokens").fill(text)
        page.wait_for_selector(".tokens li")
        ids = own.encode(text)
        assert [int(told) for told in page.locator(".tokens .id").all_inner_texts()] == ids
        size = len(text.encode()) / len(ids)
        said = page.locator("#counted").inner_text()
        assert said == f"{len(ids)} tokens, {size:.2f} bytes a token."
        assert page.locator(".tokens b").count() == 0
        assert "U+001B" in page.locator(".tokens").inner_text()
        page.locator("#typed").fill("T")
        page.wait_for_function("document.querySelectorAll('.tokens li').length === 1")
        assert page.locator("#counted").inner_text() == "1 token, 1.00 bytes a token."
        page.locator("#typed").fill("")
        page.wait_for_selector(".tokens li", state="detached")
        assert page.locator("#counted").inner_text() == ""
        assert at.wrong == []


def test_a_long_text_is_bounded(browser: Any, finished: Path) -> None:
    own = Tokenizer.load(finished)
    text = ("東京 stone " * LONGEST)[:LONGEST]
    with watched(browser, finished, "file") as at:
        page = at.open("data.html")
        page.locator("#typed").fill(text)
        page.wait_for_selector(".tokens li")
        assert page.locator(".tokens li").count() == 4_000
        said = page.locator("#counted").inner_text()
        assert said.startswith(f"{len(own.encode(text)):,} tokens, ")
        assert "The first 4,000 are shown. A text has at most 20,000 characters here." in said
        page.locator("#typed").press("End")
        page.keyboard.type("x")
        assert len(page.locator("#typed").input_value()) == LONGEST


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tokens_pass_axe_on_a_phone(browser: Any, finished: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": 390, "height": 800}
    with watched(
        browser, finished, "http", viewport=size, color_scheme=scheme, bypass_csp=True
    ) as at:
        page = at.open("data.html")
        page.locator("#typed").fill("the river 東 \u202e\n\tעולם " + "x" * 300)
        page.wait_for_selector(".tokens li")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        report = Axe().run(page).response
        assert [(one["id"], one["nodes"][0]["html"]) for one in report["violations"]] == []


def with_part(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda parsed: parsed.__setitem__(key, value)


def in_model(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda parsed: parsed["model"].update(fields)


def splits(*parts: dict[str, Any]) -> dict[str, Any]:
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*parts, last]}


def split_by(pattern: str, behavior: str = "Isolated") -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": behavior,
        "invert": False,
    }


def with_added(parsed: dict[str, Any]) -> None:
    parsed["added_tokens"].append({"id": 9_999, "content": "<tool>", "special": False})


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "normalizer": (with_part("normalizer", {"type": "NFC"}), "changes a text"),
    "metaspace": (with_part("pre_tokenizer", {"type": "Metaspace"}), "not bytes"),
    "no split": (with_part("pre_tokenizer", None), "not bytes"),
    "prefix": (
        with_part("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True}),
        "not bytes",
    ),
    "two splits": (
        with_part("pre_tokenizer", splits(split_by(r"\p{N}{1,3}"), split_by(NAMED["gpt2"]))),
        "not bytes",
    ),
    "unknown pattern": (with_part("pre_tokenizer", splits(split_by("(a+)+$"))), "splitting texts"),
    "almost ours": (
        with_part("pre_tokenizer", splits(split_by(r"(a+)+$|\s{1,16}(?!\S)|\s{1,16}"))),
        "splitting texts",
    ),
    "removed": (
        with_part("pre_tokenizer", splits(split_by(NAMED["llama3"], "Removed"))),
        "splitting texts",
    ),
    "word pieces": (in_model(type="WordPiece", merges=None), "not byte-level BPE"),
    "words": (in_model(type="WordLevel"), "single characters"),
    "fallback": (in_model(byte_fallback=True), "not byte-level BPE"),
    "a prefix of words": (in_model(continuing_subword_prefix="##"), "not byte-level BPE"),
    "a byte less": (lambda parsed: parsed["model"]["vocab"].pop("a"), "lacks a byte"),
    "added token": (with_added, "contains its added token <tool>"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_file_that_it_cannot_run_is_said_to_be_none(
    browser: Any, release: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, reason = UNFIT[name]
    content = changed(bpe("llama3"), change)
    (release / "site/data/tokenizer.js").write_bytes(pack.packed("tokenizer", [content]))
    with watched(browser, release, "file") as at:
        page = at.open("data.html")
        page.locator("#typed").fill("the <tool> of stone")
        page.wait_for_selector("#counted code")
        said = page.locator("#counted").inner_text()
        assert said.startswith("This page cannot compute the ids of this tokenizer: ")
        assert reason in said
        offered = page.locator("#counted code").inner_text().replace("…", "the stone")
        monkeypatch.chdir(release)
        ids = eval(offered, {"pellucid": pellucid})  # As a reader runs it.
        assert ids == Tokenizer.load(release).encode("the stone")
        assert page.locator(".tokens li").count() == 0
        if name == "added token":  # Of another text it can.
            page.locator("#typed").fill("the stone")
            page.wait_for_selector(".tokens li")
        assert at.wrong == []
