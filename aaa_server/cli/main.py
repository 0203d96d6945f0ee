"""`sky-aaa`: one module per noun, imported only when it is spoken to."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from aaa_server.cli.context import Session, explain_errors
from aaa_server.cli.output import FORMATS


class Entry(NamedTuple):
    """Where a command lives, and its line in the help; so that the help imports nothing."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Entry] = {
    "account": Entry("account", "account", "Accounts: add, list, show, set, top up, statement."),
    "adjustment": Entry("adjustment", "adjustment", "Corrections by hand, each with a reason."),
    "audit": Entry("audit", "audit", "Prove balances, reservations and charges from the ledger."),
    "billing": Entry("billing", "billing", "How accounts are invoiced: address, VAT id, tax."),
    "calls": Entry("calls", "calls", "Calls in progress; have a switch end them."),
    "cards": Entry("cards", "cards", "Calling cards: make, activate, print, block, void."),
    "cdr": Entry("cdr", "cdr", "Call records: list, show, explain a charge."),
    "client": Entry("client", "client", "RADIUS clients: add, list, show, set, remove."),
    "completion": Entry("completion", "completion", "Completion for bash, zsh and fish."),
    "config": Entry("config", "config", "The configuration: show it, check it."),
    "coupon": Entry("coupon", "coupon", "Codes that are worth money once: create, redeem, void."),
    "currency": Entry("currency", "currency", "Exchange rates: enter, list."),
    "demo-call": Entry("demo_call", "demo_call", "Place a call over RADIUS and show what it did."),
    "did": Entry("did", "did", "Numbers called from outside: inventory, prices, owners."),
    "doctor": Entry("doctor", "doctor", "Look for what is wrong and say what to do."),
    "emergency": Entry("emergency", "emergency", "Emergency numbers, which always pass."),
    "event": Entry("event", "event", "What somebody should know: low balances, limits, locks."),
    "export": Entry("export", "export", "Files for accounting programs, from the ledger."),
    "import-rates": Entry("import_rates", "import_rates", "Import a rate file, all or nothing."),
    "invoice": Entry("invoice", "invoice", "Invoices: run, list, PDF, credit, pay, send."),
    "issuer": Entry("issuer", "issuer", "What stands on invoices: address, bank, logo, numbers."),
    "limit": Entry("limit", "limit", "Limits against fraud: calls, minutes, money a period."),
    "jobs": Entry("jobs", "jobs", "The worker's jobs: list, run."),
    "map": Entry("map", "map_", "Extension and ANI maps: whose call it is."),
    "migrate": Entry("migrate", "migrate", "Bring the database's schema up to date."),
    "number-rule": Entry("number_rule", "number_rule", "Rewrite or block numbers; try it."),
    "package": Entry("package", "package", "Prepaid seconds: offer them, grant them, holdings."),
    "payment": Entry("payment", "payment", "Payments: add, list, refund."),
    "period": Entry("period", "period", "Close months that are over and invoiced."),
    "rate": Entry("rate", "rate", "Rates: add, set, close, look up."),
    "rate-group": Entry("rate_group", "rate_group", "Price lists and the routes of their calls."),
    "report": Entry("report", "report", "Reports: calls, traffic, margin, receivables, and more."),
    "reconciliation": Entry(
        "reconciliation", "group", "A provider's call records against ours; what to dispute."
    ),
    "rerate": Entry("rerate", "rerate", "Charge calls anew by the price lists as they are now."),
    "resource-group": Entry(
        "resource_group", "resource_group", "Carrier connections, RG_xx: add, list, show, set."
    ),
    "route": Entry("simulate_call", "route", "Who would carry this number, in what order."),
    "route-quality": Entry("routes", "route_quality", "How many attempts each route answered."),
    "route-refusals": Entry(
        "routes", "route_refusals", "How often a minimum margin kept a route from being offered."
    ),
    "secrets": Entry("secrets", "secrets", "The key file: rotate it, see what it seals."),
    "serve": Entry("serve", "serve", "Run the server."),
    "simulate-call": Entry(
        "simulate_call", "simulate_call", "What a call would do, step by step. Touches nothing."
    ),
    "switch-agent": Entry(
        "switch_agent", "switch_agent", "Run beside a FreeSWITCH: accounting, slices, cut-off."
    ),
    "subscription": Entry(
        "subscription", "subscription", "What is paid again each period: add, list, end."
    ),
    "tax": Entry("tax", "tax", "Tax rates by country: add, list, close."),
    "transfer": Entry("transfer", "transfer", "Move money between two accounts of one seller."),
}


class Nouns(click.Group):
    """The command group whose members are imported when they are used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"aaa_server.cli.{entry.module}")
        command = getattr(module, entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own would import every module for its line of help.
        found = [
            CompletionItem(name, help=entry.help)
            for name, entry in sorted(COMMANDS.items())
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = get_close_matches(name, COMMANDS)
            hint = f"did you mean {' or '.join(near)}?" if near else "`sky-aaa --help` lists them"
            raise click.UsageError(f"there is no command {name!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in sorted(COMMANDS)])


def _once(_ctx: click.Context, _option: click.Parameter, values: tuple[Any, ...]) -> Any:
    """The value of an option that is given once, or None.

    A wrapper that sets it, as `sky-aaa --as north "$@"` does, must not be overruled by a second
    one; and `--as "$WHO"` without a WHO must not make an operator of anybody.
    """
    if len(values) > 1:
        raise click.BadParameter("it is given more than once: say it once")
    if "" in values:
        raise click.BadParameter("it is empty: say it, or leave it away")
    return values[0] if values else None


@click.group(
    cls=Nouns,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    callback=_once,
    help="The configuration file.  [default: SKY_AAA_CONFIG, or sky-aaa.toml where there is one]",
)
@click.option(
    "--as",
    "as_code",
    multiple=True,
    callback=_once,
    metavar="CODE",
    help="With this account's eyes and rights; audited.",
)
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How results are printed; also after the command.",
)
@click.option("--debug", is_flag=True, help="Say more; show where an error came from.")
@click.version_option(package_name="sky-aaa", prog_name="sky-aaa")
@click.pass_context
def cli(
    ctx: click.Context, config_path: Path | None, as_code: str | None, output: str, debug: bool
) -> None:
    """AAA and online charging for VoIP.

    Results go to stdout, everything else to stderr. Exit status: 0 done, 1 failed or
    differences found, 2 wrong usage or bad data.
    """
    ctx.obj = Session(config_path=config_path, as_code=as_code or "", output=output, debug=debug)


def main() -> None:
    """The console script."""
    sys.exit(explain_errors(cli, sys.argv[1:]))


if __name__ == "__main__":
    main()
