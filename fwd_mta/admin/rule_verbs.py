"""`fwdmta check`, `schedule` and `bounce-info`: what is set, and how we decide."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from fwd_mta import config
from fwd_mta.admin import show
from fwd_mta.admin.asking import Json
from fwd_mta.admin.command import (
    DONE,
    MISUSED,
    NO,
    Options,
    Surroundings,
    UsageError,
    complain,
    print_json,
    print_lines,
)
from fwd_mta.admin.deep_check import FAIL, Finding, findings
from fwd_mta.admin.domain_verbs import look_up
from fwd_mta.config import Configuration, is_there, load, locate, rule_table
from fwd_mta.mail.entry import Stage
from fwd_mta.net.disk import SystemDisk
from fwd_mta.rules.classification import RuleTable, get_bounce_info
from fwd_mta.rules.retry import JITTER, RetrySchedule
from fwd_mta.settings import schedule_of

REPLY_LIMIT = 65_536


def check(options: Options, world: Surroundings) -> int:
    """`check`: whether the configuration is right, and all is there that it names."""
    path = locate(options.config)
    configuration = load(path)
    problems = config.check(configuration)
    for line in configuration.later:
        complain(DONE, f"{path}: {line}")
    if problems:
        return complain(NO, *(f"{path}: {problem}" for problem in problems))
    print(f"{path}: all is well")
    return _deep(configuration, options, world) if options.deep else DONE


def _deep(configuration: Configuration, options: Options, world: Surroundings) -> int:
    """Say what the world sees of us; 1 when something keeps mail from arriving."""
    seen = list(
        findings(configuration, look_up(configuration), SystemDisk(), world.wall.now())
    )
    if options.json:
        print_json(map(asdict, seen))
    else:
        print_lines(show.table(("STATE", "WHAT", "FOUND", "TO DO"), _cells(seen)))
    return NO if any(one.state == FAIL for one in seen) else DONE


def _cells(seen: Sequence[Finding]) -> list[tuple[str, ...]]:
    return [(one.state, one.what, one.found, one.cure) for one in seen]


def schedule(options: Options, world: Surroundings) -> int:
    """`schedule`: the times of all tries of a message that is always deferred."""
    del world
    times = _schedule(options).times(lambda: 0.0)
    if options.json:
        print_json(
            {"attempt": number, "seconds": at} for number, at in enumerate(times, 1)
        )
        return DONE
    print("  No  AFTER ARRIVAL  WAIT")
    print_lines(show.schedule(times))
    print(
        f"each wait is shortened by up to {JITTER:.0%} by chance, the last one is not"
    )
    return DONE


def _schedule(options: Options) -> RetrySchedule:
    """The schedule of the configuration, or without one the usual."""
    if options.config is None and not is_there():
        return RetrySchedule()
    return schedule_of(load(locate(options.config)))


def bounce_info(options: Options, world: Surroundings) -> int:
    """`bounce-info`: what replies mean, of arguments or of lines on standard input."""
    del world
    if options.json_lines is bool(options.replies):
        raise UsageError("bounce-info: give replies in quotes, or --json-lines")
    table, stage = rule_table(), Stage(options.stage)
    if options.json_lines:
        return _answer_lines(table, stage)
    for number, text in enumerate(options.replies):
        info = dict(get_bounce_info(text, table, stage))
        if options.json:
            print_json([info])
            continue
        if number:
            print()
        print_lines(show.bounce_info(info))
    return DONE


def _answer_lines(table: RuleTable, stage: Stage) -> int:
    """A JSON string a line in, a JSON object a line out, each at once."""
    status = DONE
    for line in _lines():
        found = _info(line, table, stage)
        status = MISUSED if "error" in found else status
        print(json.dumps(found), flush=True)
    return status


def _lines() -> Iterator[str]:
    while line := sys.stdin.readline():
        if line.strip():
            yield line


def _info(line: str, table: RuleTable, stage: Stage) -> Json:
    try:
        text = json.loads(line)
    except (ValueError, RecursionError):
        return {"error": "the line is not JSON"}
    if not isinstance(text, str):
        return {"error": "the line is no JSON string"}
    return dict(get_bounce_info(text[:REPLY_LIMIT], table, stage))
