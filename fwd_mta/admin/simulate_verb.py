"""`fwdmta simulate`: what a configuration would do, before it does it."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random  # noqa: TID251 - the seed's chance

from fwd_mta.admin.command import (
    DONE,
    Options,
    Surroundings,
    UsageError,
    configuration_of,
    print_json,
    print_lines,
)
from fwd_mta.config import Configuration, Limits, Queue, is_there, parse
from fwd_mta.net.disk import SystemDisk
from fwd_mta.net.small_file import read_whole, replace_whole
from fwd_mta.simulation.forecast import Fault, FaultError, Forecast, Outcome
from fwd_mta.simulation.report import svg, table, warnings
from fwd_mta.simulation.traffic import DAY, Mail, TrafficError, made_up, read

_BAR = 40


def simulate(options: Options, world: Surroundings) -> int:
    """`simulate`: live some days with a configuration; a table, and a plot."""
    del world
    configuration = _configuration(options)
    mails, faults = _mails(options), _faults(options)
    usual = replace(configuration, queue=Queue(), limits=Limits())
    compared = usual != configuration
    total = 1 + compared
    outcome = _lived(configuration, mails, faults, lambda part: _bar(part / total))
    other: Outcome | None = None
    if compared:
        other = _lived(usual, mails, faults, lambda part: _bar((1 + part) / total))
    _bar(None)
    if options.svg:
        title = f"fwdmta simulate: {len(mails)} messages"
        path = os.path.abspath(options.svg)
        replace_whole(SystemDisk(), path, svg(outcome, title).encode())
    if options.json:
        print_json([_row(outcome)])
        return DONE
    print_lines(f"! {line}" for line in warnings(configuration))
    print_lines(table(outcome, other))
    return DONE


def _configuration(options: Options) -> Configuration:
    if options.config is None and not is_there():
        return parse('hostname = "mail.example.com"', "fwdmta.toml")
    return configuration_of(options)


def _mails(options: Options) -> Sequence[Mail]:
    if options.traffic is None:
        chance = Random(options.seed)  # noqa: S311 - repeatable on purpose
        return made_up(options.days, chance)
    try:
        octets = read_whole(SystemDisk(), os.path.abspath(options.traffic))
        mails = read(octets.decode("utf-8").splitlines(), options.traffic)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--traffic {options.traffic}: {error}") from error
    except TrafficError as error:
        raise UsageError(str(error)) from error
    some = [one for one in mails if one.at < options.days * DAY]
    if not some:
        raise UsageError(f"--traffic {options.traffic}: no mail in {options.days} days")
    return some


def _faults(options: Options) -> list[Fault]:
    try:
        return [Fault.parse(one) for one in options.fault]
    except FaultError as error:
        raise UsageError(f"--fault {error}") from error


def _lived(
    configuration: Configuration,
    mails: Sequence[Mail],
    faults: Sequence[Fault],
    progress: Callable[[float], None],
) -> Outcome:
    return Forecast(configuration, mails, faults).run(progress)


def _bar(part: float | None) -> None:
    """How much is done, on a terminal only; None takes the bar away."""
    if not sys.stderr.isatty():
        return
    if part is None:
        sys.stderr.write("\r\x1b[K")
    else:
        done = "#" * int(part * _BAR)
        sys.stderr.write(f"\r[{done:.<{_BAR}}] {100 * part:3.0f} %")
    sys.stderr.flush()


def _row(outcome: Outcome) -> dict[str, object]:
    """The figures for programs; times in seconds."""
    return {
        "messages": outcome.messages,
        "refused": outcome.refused,
        "recipients": outcome.recipients,
        "ended": dict(outcome.ended),
        "worst_wait": max(outcome.waits, default=0.0),
        "attempts": outcome.attempts,
        "longest_gap": outcome.worst_gap,
        "notices": dict(outcome.notices),
        "peak_connections": outcome.peak,
        "left": outcome.left,
        "hours": [
            {
                "submitted": one.submitted,
                "delivered": one.delivered,
                "failed": one.failed,
                "waiting": one.waiting,
                "connections": one.connections,
            }
            for one in outcome.hours
        ],
    }
