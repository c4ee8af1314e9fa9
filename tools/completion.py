"""Shell completion for bash, zsh and fish, made from the parser. Pure.

Values are completed where they are words, files, directories or processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from ksmwatch.options import OPTIONS

# Metavars, and what they stand for: one of the parts below.
_PLACES = {"FILE": "file", "PATH": "file", "DIRECTORY": "directory", "PID": "pid"}
_WORDS = {option.field: option.words for option in OPTIONS}


@dataclass(frozen=True)
class Flag:
    """One flag. `words`: its values if they are few; `place`: file, directory, pid or empty."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    words: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True)
class Command:
    """One command; `operand`: what its operands are, as Flag.place."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    operand: str


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands of a parser, with their parsers."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from action.choices.items()


def _flag(action: argparse.Action) -> Flag:
    return Flag(
        tuple(action.option_strings),
        action.help or "",
        action.nargs != 0,
        tuple(map(str, action.choices or _WORDS.get(action.dest, ()))),
        _PLACES.get(str(action.metavar), ""),
    )


def read(parser: argparse.ArgumentParser) -> list[Command]:
    """Everything that can be completed."""
    found = []
    for name, command in commands_of(parser):
        actions = command._actions  # noqa: SLF001
        operands = [str(a.metavar).split("|")[0] for a in actions if not a.option_strings]
        flags = tuple(_flag(action) for action in actions if action.option_strings)
        place = _PLACES.get(operands[0], "") if operands else ""
        found.append(Command(name, command.description or "", flags, place))
    return found


# -- bash ------------------------------------------------------------------------------------

_BASH_PLACES = {
    "file": 'compgen -f -- "$cur"',
    "directory": 'compgen -d -- "$cur"',
    "pid": 'compgen -W "$(cd /proc && echo [1-9]*)" -- "$cur"',
    "": "true",
}
_BASH = """\
# bash completion of ksmwatch; made by `make docs`.
_ksmwatch() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command=${{COMP_WORDS[1]}}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "{commands} --help --version" -- "$cur")
        return
    fi
    case $command:$prev in
{values}
    esac
    case $command:$cur in
{flags}
    esac
}}
complete -o filenames -F _ksmwatch ksmwatch
"""


def _bash_case(pattern: str, words: str) -> str:
    return f"        {pattern}) mapfile -t COMPREPLY < <({words}); return ;;"


def _bash_values(command: Command) -> Iterator[str]:
    for flag in command.flags:
        if flag.takes_value:
            words = f'compgen -W "{" ".join(flag.words)}" -- "$cur"'
            pattern = "|".join(f"{command.name}:{name}" for name in flag.names)
            yield _bash_case(pattern, words if flag.words else _BASH_PLACES[flag.place])


def bash(commands: list[Command]) -> str:
    flags = []
    for command in commands:
        names = " ".join(name for flag in command.flags for name in flag.names)
        flags.append(_bash_case(f"{command.name}:-*", f'compgen -W "{names}" -- "$cur"'))
        if command.operand:
            flags.append(_bash_case(f"{command.name}:*", _BASH_PLACES[command.operand]))
    return _BASH.format(
        commands=" ".join(command.name for command in commands),
        values="\n".join(case for command in commands for case in _bash_values(command)),
        flags="\n".join(flags),
    )


# -- zsh -------------------------------------------------------------------------------------

_ZSH_PLACES = {"file": "_files", "directory": "_files -/", "pid": "_pids", "": " "}
_ZSH = """\
#compdef ksmwatch
# zsh completion of ksmwatch; made by `make docs`.

local context state state_descr line
typeset -A opt_args

_arguments -C '--help[show help]' '--version[show the version]' '1:command:->command' \\
    '*::argument:->argument'
case $state in
command)
    local -a commands=(
{commands}
    )
    _describe command commands
    ;;
argument)
    case $words[1] in
{arguments}
    esac
    ;;
esac
"""


def _zsh_quoted(text: str) -> str:
    """Inside single quotes, in a description."""
    for char in "\\[]:":
        text = text.replace(char, f"\\{char}")
    return text.replace("'", "'\\''")


def _zsh_flag(flag: Flag) -> Iterator[str]:
    value = ""
    if flag.takes_value:
        words = f"({' '.join(flag.words)})"
        value = f":value:{words if flag.words else _ZSH_PLACES[flag.place]}"
    for name in flag.names:
        yield f"'{name}[{_zsh_quoted(flag.help)}]{value}'"


def zsh(commands: list[Command]) -> str:
    """The function for zsh, a file called _ksmwatch."""
    arguments = []
    for command in commands:
        words = [word for flag in command.flags for word in _zsh_flag(flag)]
        if command.operand:
            words.append(f"'*:operand:{_ZSH_PLACES[command.operand]}'")
        lines = " \\\n            ".join(words)
        arguments.append(
            f"    {command.name})\n        _arguments \\\n            {lines}\n        ;;"
        )
    return _ZSH.format(
        commands="\n".join(f"        '{c.name}:{_zsh_quoted(c.help)}'" for c in commands),
        arguments="\n".join(arguments),
    )


# -- fish ------------------------------------------------------------------------------------

_FISH_PLACES = {
    "file": "-r -F",
    "directory": "-x -a '(__fish_complete_directories)'",
    "pid": "-x -a '(__fish_complete_pids)'",
    "": "-x",
}


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_flag(command: Command, flag: Flag) -> str:
    names = [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in flag.names]
    value = []
    if flag.takes_value:
        words = f"-x -a {_fish_quoted(' '.join(flag.words))}"
        value.append(words if flag.words else _FISH_PLACES[flag.place])
    seen = f"-n '__fish_seen_subcommand_from {command.name}'"
    return " ".join(["complete -c ksmwatch", seen, *names, *value, "-d", _fish_quoted(flag.help)])


def fish(commands: list[Command]) -> str:
    lines = ["# fish completion of ksmwatch; made by `make docs`.", "complete -c ksmwatch -f"]
    lines += [
        f"complete -c ksmwatch -n __fish_use_subcommand -a {c.name} -d {_fish_quoted(c.help)}"
        for c in commands
    ]
    for command in commands:
        lines += [_fish_flag(command, flag) for flag in command.flags]
        if command.operand:
            seen = f"-n '__fish_seen_subcommand_from {command.name}'"
            lines.append(f"complete -c ksmwatch {seen} {_FISH_PLACES[command.operand]}")
    return "\n".join(lines) + "\n"
