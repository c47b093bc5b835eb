"""The command line: verbs only, by what they are for, in the order in which the help lists them."""

import inspect

from pellucid.cli import ask, audit, check, look, share, start, train
from pellucid.cli.common import app, main

VERBS = (
    *(start.demo, start.new),
    *(train.plan, train.run, train.fork, train.status),
    *(look.show, ask.where, ask.trace, look.sample, ask.sql, look.diff),
    *(check.verify, audit.audit),
    *(share.export, share.publish),
)
for verb in VERBS:
    # Examples keep their lines: click fills every paragraph that does not say so.
    app.command(help=inspect.cleandoc(verb.__doc__ or "").replace("\n\npellucid ", "\n\n\b\npellucid "))(verb)

__all__ = ["VERBS", "app", "main"]
