"""A plan and its measurements on the terminal, in 100 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pellucid.schedule import Passed

_PREFIXES = (
    (1e24, "Y"),
    (1e21, "Z"),
    (1e18, "E"),
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
)
_NUMBERS = (
    (1e12, "T"),
    (1e9, "B"),
    (1e6, "M"),
    (1e3, "K"),
)  # Of parameters and tokens, as people say them.
_TIMES = (
    (31_557_600.0, "years"),
    (86400.0, "days"),
    (3600.0, "h"),
    (60.0, "min"),
    (1.0, "s"),
    (1e-3, "ms"),
)
_PARTS = {
    "weights": "weights",
    "optimizer": "state of the optimizer",
    "gradients": "gradients of earlier microbatches",
    "activations": "activations of a microbatch, with its gradients",
    "buffers": "working memory of the kernels",
    "gaps": "fragmentation (measured share)",
    "writing": "a copy of the state while it is written",
    "rows": "rows of metrics until they are written",
    "libraries": "Python, torch and other libraries",
}


def scaled(value: float, unit: str) -> str:
    """12.8 MB, 30 GFLOP: three digits and the prefix that suits."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{_three(value / size)} {prefix}{unit}"
    return f"{value:,.0f} {unit}"


def counted(value: float) -> str:
    """6.74B, 1.26T."""
    for size, letter in _NUMBERS:
        if value >= size:
            return f"{_three(value / size)}{letter}"
    return f"{value:,.0f}"


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def lasting(seconds: float) -> str:
    """A duration in the unit that suits."""
    for size, unit in _TIMES:
        if seconds >= size or size == 1e-3:
            number = seconds / size
            return f"{counted(number) if seconds >= 1000 * size else _three(number)} {unit}"
    raise AssertionError("the last unit takes what is left")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def print_plan(about: dict[str, Any]) -> None:
    console = Console(highlight=False, width=100)
    _print_model(console, about)
    _print_memory(console, about["memory"])
    _print_time(console, about)
    _print_storage(console, about)
    _print_anchors(console, about["anchors"])
    _print_sizes(console, about)


def _print_model(console: Console, about: dict[str, Any]) -> None:
    model, step, run = about["model"], about["step"], about["run"]
    console.print(
        f"[bold]{escape(about['name'])}[/bold]: an estimate; "
        "no run is started and no file is written"
    )
    if about["assumed"]:
        console.print("assumed until the data is prepared:")
        for assumption in about["assumed"]:
            console.print(f"  {escape(assumption)}")
    console.print(
        f"model   {model['parameters']:,} parameters: "
        f"{model['layers']} layers of width {model['width']:,}, "
        f"vocabulary {model['vocabulary']:,}"
    )
    console.print(
        f"step    {step['tokens']:,} tokens in "
        f"{_of(step['microbatches'], 'microbatch', 'microbatches')}: "
        f"{scaled(step['flops'], 'FLOP')}, {step['attention'] / step['flops']:.0%} of it attention"
        + (f", {step['update'] / step['flops']:.0%} the optimizer's" if step["update"] else "")
    )
    console.print(
        "        (the rule of thumb, 6 x parameters x tokens, gives "
        f"{scaled(step['six_n_d'], 'FLOP')})"
    )
    console.print(
        f"run     {run['steps']:,} steps, {run['tokens']:,} tokens: {scaled(run['flops'], 'FLOP')}"
    )
    for passed in run["passed_over"]:
        console.print(f"        {escape(str(Passed(**passed)))}")


def _of(number: int, singular: str, plural: str) -> str:
    return f"{number:,} {singular if number == 1 else plural}"


def _print_memory(console: Console, memory: dict[str, Any]) -> None:
    table = _table("peak memory of a step", "")
    for part, name in _PARTS.items():
        if memory[part]:
            table.add_row(f"  {name}", scaled(memory[part], "B"))
    table.add_row("  [bold]total[/bold]", f"[bold]{scaled(memory['peak'], 'B')}[/bold]")
    console.print()
    console.print(table)
    if memory["fits"]:
        console.print(f"  fits: this machine has {scaled(memory['machine'], 'B')}")
    elif memory["fits"] is None:
        console.print(
            "  on the GPU, except libraries and copy; not compared with the memory of a GPU"
        )
    else:
        console.print(
            "  [bold]DOES NOT FIT[/bold]: this machine has "
            f"{scaled(memory['machine'], 'B')}. What would fit:"
        )
        for change in memory["advice"] or [
            "a smaller model (model.width, model.layers) or a machine with more memory"
        ]:
            console.print(f"    {change}")


def _print_time(console: Console, about: dict[str, Any]) -> None:
    time, reference = about["time"], about["reference"]
    console.print("\n[dim]time and cost[/dim]")
    if time is None:
        console.print("  here: the speed is unknown; omit --no-calibration, or give --speed TFLOPS")
    else:
        console.print(
            f"  here: {lasting(time['step'])} a step ({time['tokens_per_second']:,.0f} tokens/s, "
            f"{scaled(time['flops_per_second'], 'FLOP/s')}); "
            f"all steps {lasting(time['training'])}, "
            f"validations {lasting(time['validating'])}"
        )
        console.print(f"        {_how(time['calibration'])}")
    console.print(
        f"  GPUs: {_hours(reference['gpu_hours'])} GPU-hours "
        f"at {reference['tflops']:,.0f} TFLOP/s a GPU, "
        f"{_dollars(reference['cost'])} at ${reference['price']:,.2f} an hour (--tflops, --price)"
    )


def _how(calibration: dict[str, Any] | None) -> str:
    if calibration is None:
        return "at the speed given"
    layers = " and ".join(map(str, calibration["layers"]))
    return (
        f"calibrated in {calibration['seconds']:.1f} s: "
        f"{_of(calibration['sequences'], 'sequence', 'sequences')} of "
        f"{calibration['context']:,} tokens through {layers} layers, {calibration['arithmetic']}, "
        f"{_of(calibration['threads'], 'thread', 'threads')}"
    )


def _hours(value: float) -> str:
    return _three(value) if value >= 0.01 else "under 0.01"


def _dollars(value: float) -> str:
    return (
        f"${value:,.0f}" if value >= 100 else f"${value:.2f}" if value >= 0.01 else "under a cent"
    )


def _print_storage(console: Console, about: dict[str, Any]) -> None:
    storage = about["storage"]
    table = _table("release", "", "")
    of = {
        "anchors": f"{storage['anchors_count']:,}, a full state each: "
        f"{scaled(storage['anchor'], 'B')}",
        "checkpoints": f"{storage['checkpoints_count']:,} of {scaled(storage['checkpoint'], 'B')}; "
        "weights that an anchor shares count once",
        "ledger": f"{storage['ledger_step']:,} bytes a step",
        "metrics": "losses of every sequence and segment (estimated)",
    }
    for name in (
        "anchors",
        "checkpoints",
        "ledger",
        "metrics",
        "tokenizer",
        "documents",
        "shards",
        "index",
    ):
        if name in storage:
            table.add_row(f"  {name}", scaled(storage[name], "B"), of.get(name, ""))
    table.add_row("  [bold]total[/bold]", f"[bold]{scaled(storage['total'], 'B')}[/bold]", "")
    table.columns[2].justify = "left"
    console.print()
    console.print(table)
    free = scaled(storage["free"], "B")
    if storage["fits"]:
        console.print(f"  fits: the disk has {free} free")
    else:
        console.print(f"  [bold]DOES NOT FIT[/bold]: the disk has {free} free. What would help:")
        console.print("    a larger placement.anchors.every (the table below) or checkpoints.every")


def _print_anchors(console: Console, rows: list[dict[str, Any]]) -> None:
    console.print(
        "\n[dim]cost of the spacing of anchors: disk, "
        "and steps to replay for an audit of one step[/dim]"
    )
    table = _table("  placement.anchors.every", "anchors", "on disk", "on average", "at worst")
    for row in rows:
        average, worst = f"{row['expected']:,.1f} steps", f"{row['worst']:,} steps"
        if "expected_seconds" in row:
            average += f", {lasting(row['expected_seconds'])}"
            worst += f", {lasting(row['worst_seconds'])}"
        every = f"{row['every']:,}" + (" (this recipe)" if row["own"] else "")
        table.add_row(
            f"  {every}", f"{row['anchors']:,}", scaled(row["bytes"], "B"), average, worst
        )
    console.print(table)
    console.print("  export and sample replay one step fewer than an audit")


def _print_sizes(console: Console, about: dict[str, Any]) -> None:
    reference = about["reference"]
    console.print(
        "\n[dim]other sizes: here at the speed above; "
        f"GPUs at {reference['tflops']:,.0f} TFLOP/s and "
        f"${reference['price']:,.2f} an hour[/dim]"
    )
    table = _table(
        "  model", "params", "tokens", "FLOP", "state+grad", "anchor", "here", "GPU-hours", "cost"
    )
    for row in about["sizes"]:
        here = "-" if row["here_hours"] is None else lasting(row["here_hours"] * 3600)
        table.add_row(
            f"  {row['name']}",
            counted(row["parameters"]),
            counted(row["tokens"]),
            f"{row['flops']:.1e}",
            scaled(row["state"], "B"),
            scaled(row["anchor"], "B"),
            here,
            _hours(row["gpu_hours"]),
            _dollars(row["cost"]),
        )
    console.print(table)


def print_measured(about: dict[str, Any]) -> None:
    console = Console(highlight=False, width=100)
    tokens = "its own tokens" if about["data"] == "own" else "generated tokens"
    console.print(
        f"[bold]{escape(about['name'])}[/bold]: the first {about['steps']} steps on {tokens}, "
        "each way in a process of "
        "its own;\nthe digest of the whole state is compared after every step"
    )
    table = _table("", "bits", "a step", "ratio", "first step", "peak memory")
    table.columns[1].justify = "left"
    for row in about["axes"]:
        if row["failed"]:
            table.add_row(f"  {row['name']}", "not measured")
            continue
        table.add_row(
            f"  {row['name']}",
            _bits(row, row is about["axes"][0]),
            lasting(row["seconds"]),
            f"{row['ratio']:.2f}" if "ratio" in row else "-",
            lasting(row["first_seconds"]),
            scaled(row["peak"], "B"),
        )
    console.print(table)
    for row in about["axes"]:
        if row["failed"]:
            console.print(f"  {escape(row['failed'])}")
    if about["noted"]:
        console.print("  written into record/journal.jsonl")


def _bits(row: dict[str, Any], first: bool) -> str:
    if first:
        return "(reference)"
    if "differs_at" not in row:
        return "no reference"
    if not row["differs_at"]:
        return "the same"
    promised = "[bold]DIFFERENT[/bold], though promised," if row["keeps"] else "different"
    return f"{promised} from step {row['differs_at']} on"
