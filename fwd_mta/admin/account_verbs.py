"""`fwdmta account ...`: adds, lists and changes accounts; needs no server."""

import sys
from contextlib import closing
from dataclasses import asdict

from fwd_mta.admin import show
from fwd_mta.admin.accounts import AccountsFile, NewAccount
from fwd_mta.admin.command import (
    DONE,
    NO,
    Options,
    Surroundings,
    answer,
    complain,
    configuration_of,
    print_json,
    print_lines,
)
from fwd_mta.admin.link import connect
from fwd_mta.config import Configuration
from fwd_mta.inbound.limits import lift_in_file
from fwd_mta.interfaces import Entropy
from fwd_mta.net.disk import SystemDisk

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


def add(options: Options, world: Surroundings) -> int:
    """`account add LOGIN`; with --send-as also for one that is there.

    A refusal tells its sender to ask for just that.
    """
    configuration = configuration_of(options)
    accounts = _accounts(configuration, world)
    asks_password = options.password_stdin or options.generate
    if options.send_as and not asks_password and accounts.has(options.login):
        patterns = accounts.allow(options.login, options.send_as)
        print(f"account {options.login} may send as {', '.join(patterns)}")
        return _in_force(configuration)
    password = _password(options, world)
    send_as, notify = tuple(options.send_as), tuple(options.notify)
    account = NewAccount(options.login, password, send_as, notify)
    accounts.add(account)
    print(f"account {options.login} is added")
    _show_generated(options, password)
    return _in_force(configuration)


def password(options: Options, world: Surroundings) -> int:
    """`account password LOGIN`."""
    configuration = configuration_of(options)
    accounts = _accounts(configuration, world)
    accounts.check_known(options.login)
    new = _password(options, world)
    accounts.set_password(options.login, new, keep_old=options.keep_old)
    print(f"account {options.login} has a new password")
    _show_generated(options, new)
    return _in_force(configuration)


def enable(options: Options, world: Surroundings) -> int:
    """`account enable LOGIN`: switches it on, and lifts the hold of the brake."""
    configuration = configuration_of(options)
    accounts = _accounts(configuration, world)
    lifted = _lift(configuration, options.login)
    if not lifted or accounts.holds(options.login):
        accounts.switch(options.login, on=True)
    print(f"account {options.login} may send{' again' if lifted else ''}")
    return _in_force(configuration)


def _lift(configuration: Configuration, login: str) -> bool:
    channel = connect(configuration.state_dir)
    if channel is None:
        path = f"{configuration.state_dir}/state/limits.json"
        return lift_in_file(SystemDisk(), path, login)
    with closing(channel):
        return bool(answer(channel.ask, {"verb": "enable", "login": login})["lifted"])


def disable(options: Options, world: Surroundings) -> int:
    """`account disable LOGIN`."""
    configuration = configuration_of(options)
    _accounts(configuration, world).switch(options.login, on=False)
    print(f"account {options.login} may not send any more")
    return _in_force(configuration)


def remove(options: Options, world: Surroundings) -> int:
    """`account remove LOGIN`."""
    configuration = configuration_of(options)
    _accounts(configuration, world).remove(options.login)
    print(f"account {options.login} is removed")
    return _in_force(configuration)


def list_all(options: Options, world: Surroundings) -> int:
    """`account list`."""
    rows = _accounts(configuration_of(options), world).rows()
    if options.json:
        print_json(asdict(row) for row in rows)
        return DONE
    cells = [
        (row.login, "on" if row.smtp else "off", ", ".join(row.send_as)) for row in rows
    ]
    print_lines(show.table(("LOGIN", "SMTP", "SENDS AS"), cells))
    return DONE


def _accounts(configuration: Configuration, world: Surroundings) -> AccountsFile:
    return AccountsFile(configuration.accounts.file, world.entropy)


def _password(options: Options, world: Surroundings) -> str:
    """Make, read or ask for the password."""
    if options.generate:
        return _generated(world.entropy)
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return world.ask_password(f"Password for {options.login}: ")


def _generated(entropy: Entropy) -> str:
    """Make a password of 100 bits that can be read aloud."""
    letters = "".join(_LETTERS[octet % 32] for octet in entropy.octets(20))
    return "-".join(letters[place : place + 5] for place in range(0, 20, 5))


def _show_generated(options: Options, new: str) -> None:
    if options.generate:
        print(f"password: {new}")


def _in_force(configuration: Configuration) -> int:
    """Have a running server read the accounts anew; without one there is no need."""
    channel = connect(configuration.state_dir)
    if channel is None:
        return DONE
    with closing(channel):
        problems = answer(channel.ask, {"verb": "reload"})["problems"]
    lines = [f"the server keeps what it had: {problem}" for problem in problems]
    return complain(NO, *lines) if lines else DONE
