"""The command line: verbs only, by what they are for, in the order in which the help lists them."""

from pellucid.cli import (
    ask,
    audit,
    check,
    evaluate,
    look,
    plan,
    report,
    share,
    start,
    train,
    view,
)
from pellucid.cli.common import app, help_of, main

VERBS = (
    *(start.demo, start.new),
    *(plan.plan, train.run, train.fork, train.status, view.view),
    *(look.show, ask.where, ask.trace, look.sample, ask.sql, look.diff, report.report),
    *(check.verify, audit.audit, evaluate.evaluate, check.prove, check.check_proof),
    *(share.export, share.publish, share.download),
)
for verb in VERBS:
    app.command(help=help_of(verb))(verb)

__all__ = ["VERBS", "app", "main"]
