"""`gatewayd passwd`: the hash of a password, for a consumer's `basic` table."""

from __future__ import annotations

import sys

import click


@click.command()
def passwd() -> None:
    """Ask for a password, and print the hash that stands for it in the configuration.

    Without a terminal the password is the first line of the standard input. It is shown nowhere and kept nowhere.
    """
    from gatewayd.identity.passwords import hash_password

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not password:
        raise click.UsageError("the password is empty")
    if not password.isprintable():
        raise click.UsageError("a password has no control characters: they could not be sent (RFC 7617 §2)")
    click.echo(hash_password(password))
