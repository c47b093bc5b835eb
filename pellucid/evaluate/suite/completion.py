"""Bodies of functions: the model reads a signature and its documentation with two examples, and
writes the body. Three more examples, which it does not see, tell whether that is right.

A program is right or wrong by the Python that runs it, so these numbers are measured, and no audit
computes them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pellucid.evaluate.suite.base import Draws, made
from pellucid.evaluate.suite.sandbox import run
from pellucid.evaluate.task import Task
from pellucid.record.metrics import MEASURED
from pellucid.record.requests import Answer, Example, Generate, Text

_SHOWN, _HIDDEN = 2, 3
_INTEGERS = ("0", "1", "3", "4", "6", "9", "12", "20", "-5", "-8")
_LISTS = (
    *("[3, 1, 2]", "[10, 4, 7, 1]", "[5, 5, 2, 8, 3]", "[9, 6, 2, 4, 1, 7]", "[2, 3, 10]"),
    *("[6, 2, 6, 3]", "[1, 0, 4, 6, 12, 4, 4]", "[8, 3, 5, 7, 2, 11, 6, 5]", "[-4, 3, 0, 2]"),
)
_TEXTS = ("'abc'", "'Hello'", "'model'", "'x y'", "'Step'", "'data'", "'tOken'", "'a-b-c'")
_NUMBERS = (2, 3, 4, 5, 6)
_PREFIXES = ("", "get_")  # Of names without a number.
_Family = tuple[str, str, str, str, tuple[str, ...]]
# Name, parameter, what it returns, a body, and the arguments to try. {k}: one of _NUMBERS.
_FAMILIES: tuple[_Family, ...] = (
    ("add_{k}", "n", "n plus {k}", "n + {k}", _INTEGERS),
    ("subtract_{k}", "n", "n minus {k}", "n - {k}", _INTEGERS),
    ("multiply_by_{k}", "n", "n times {k}", "n * {k}", _INTEGERS),
    ("remainder_by_{k}", "n", "the remainder of n divided by {k}", "n % {k}", _INTEGERS),
    ("is_below_{k}", "n", "whether n is less than {k}", "n < {k}", _INTEGERS),
    ("is_multiple_of_{k}", "n", "whether n is a multiple of {k}", "n % {k} == 0", _INTEGERS),
    ("at_least_{k}", "n", "the larger of n and {k}", "max(n, {k})", _INTEGERS),
    ("at_most_{k}", "n", "the smaller of n and {k}", "min(n, {k})", _INTEGERS),
    ("first_{k}", "items", "the first {k} items", "items[:{k}]", _LISTS),
    ("last_{k}", "items", "the last {k} items", "items[-{k}:]", _LISTS),
    ("append_{k}", "items", "the items with {k} behind them", "items + [{k}]", _LISTS),
    ("contains_{k}", "items", "whether {k} is one of the items", "{k} in items", _LISTS),
    ("count_{k}", "items", "how many of the items are {k}", "items.count({k})", _LISTS),
    ("repeat_{k}", "text", "the text repeated {k} times", "text * {k}", _TEXTS),
    ("square", "n", "the square of n", "n * n", _INTEGERS),
    ("absolute", "n", "the absolute value of n", "abs(n)", _INTEGERS),
    ("negate", "n", "n with the other sign", "-n", _INTEGERS),
    ("is_even", "n", "whether n is even", "n % 2 == 0", _INTEGERS),
    ("total", "items", "the sum of the items", "sum(items)", _LISTS),
    ("largest", "items", "the largest item", "max(items)", _LISTS),
    ("smallest", "items", "the smallest item", "min(items)", _LISTS),
    ("length", "items", "the number of items", "len(items)", _LISTS),
    ("ordered", "items", "the items in ascending order", "sorted(items)", _LISTS),
    ("backwards", "items", "the items in reverse order", "items[::-1]", _LISTS),
    ("first", "items", "the first item", "items[0]", _LISTS),
    ("without_first", "items", "the items without the first", "items[1:]", _LISTS),
    ("doubled", "items", "the items, each times 2", "[2 * item for item in items]", _LISTS),
    ("positive", "items", "the items above 0", "[item for item in items if item > 0]", _LISTS),
    ("upper", "text", "the text in upper case", "text.upper()", _TEXTS),
    ("lower", "text", "the text in lower case", "text.lower()", _TEXTS),
    ("reverse", "text", "the text in reverse order", "text[::-1]", _TEXTS),
    ("first_letter", "text", "the first character of the text", "text[0]", _TEXTS),
    ("letters", "text", "the list of the characters of the text", "list(text)", _TEXTS),
    ("greet", "text", "the text with 'Hello ' in front", "'Hello ' + text", _TEXTS),
)


class Completion(Task):
    """Programs that the model wrote, run in a sandbox."""

    def rated(self, answers: Sequence[Answer]) -> tuple[str, list[Mapping[str, float]]]:
        """Raises SandboxMissing."""
        texts = (answer.text for answer in answers if isinstance(answer, Text))
        return MEASURED, list(rate(self.examples, texts))


def completion() -> Task:
    """Whether the body that the model writes parses, compiles and passes its examples."""
    draws, examples = Draws("completion"), list[Example]()
    for family in _FAMILIES:
        for name, number in _names(family[0]):
            while (example := _example(family, name, number, draws)) is None:
                continue
            examples.append(example)
    return made("completion", 1, MEASURED, 0.0, examples, Completion)


def solutions() -> dict[str, str]:
    """A right completion for each example, by its name."""
    return {
        name: f"    return {family[3].format(k=number)}"
        for family in _FAMILIES
        for name, number in _names(family[0])
    }


def _names(template: str) -> list[tuple[str, int]]:
    if "{k}" in template:
        return [(template.format(k=number), number) for number in _NUMBERS]
    return [(prefix + template, 0) for prefix in _PREFIXES]


def rate(examples: Iterable[Example], texts: Iterable[str]) -> Iterator[dict[str, float]]:
    """The numbers of each example for what the model wrote. Raises SandboxMissing."""
    for example, text in zip(examples, texts, strict=True):
        yield _rated(example, text)


def _rated(example: Example, text: str) -> dict[str, float]:
    assert isinstance(example.request, Generate) and isinstance(example.target, str)
    lines = example.target.split("\n")
    body, expressions = _body(text), [line.removeprefix(">>> ") for line in lines[::2]]
    if not body.strip():  # The documentation alone would be a program too.
        return {"parses": 0.0, "compiles": 0.0, "passes": 0.0}
    outcome = run(example.request.context + body, expressions)
    passes = outcome.compiles and [*outcome.values] == lines[1::2]
    return {
        "parses": float(outcome.parses),
        "compiles": float(outcome.compiles),
        "passes": float(passes),
    }


def _body(text: str) -> str:
    """The lines before the first that is not indented."""
    kept = []
    for line in text.split("\n"):
        if line.strip() and not line.startswith(" "):
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _example(family: _Family, name: str, k: int, draws: Draws) -> Example | None:
    """Nothing where the drawn arguments cannot tell the body from a constant, or from its
    parameter."""
    _, parameter, returned, body, arguments = family
    asked = draws.sample(arguments, _SHOWN + _HIDDEN)
    # The body is of the table above, not of a model or a release.
    results = [repr(eval(body.format(k=k), {parameter: eval(value)})) for value in asked]
    if len({*results}) == 1 or results == asked:
        return None
    tries = [f">>> {name}({value})\n{result}" for value, result in zip(asked, results, strict=True)]
    shown = "\n".join(tries[:_SHOWN]).replace("\n", "\n    ")
    about = returned.format(k=k)
    context = f'def {name}({parameter}):\n    """Return {about}.\n\n    {shown}\n    """\n'
    request = Generate(context, ("\n\n", "\ndef ", "\nclass "), 48)
    return Example(name, request, "\n".join(tries), family[0])
