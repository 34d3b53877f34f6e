"""`fwdmta limits LOGIN`: what an account may send, and what it has sent."""

from contextlib import closing

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


def limits(options: Options, world: Surroundings) -> int:
    """`limits LOGIN`: asks the running server, which does the counting."""
    del world
    channel = connect(configuration_of(options).state_dir)
    if channel is None:
        return complain(NO, "no server runs here, and only it knows: start it first")
    with closing(channel):
        found = answer(channel.ask, {"verb": "limits", "login": options.login})
    if options.json:
        print_json([found])
        return DONE
    lines = [found["login"]]
    for what in ("messages", "recipients"):
        used, limit = found[what]["used"], found[what]["limit"]
        told = f"{used} of {limit}" if limit else "no limit"
        lines.append(f"  {what}: {told}")
    lines.append(f"  window: {int(found['window'])} seconds")
    lines.append(f"  connections: {found['connections']}")
    lines += [found[what] for what in ("refusal", "held") if found[what]]
    print_lines(lines)
    return DONE
