"""Completion in the real shells, manual pages by a real formatter, and help that fits."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ksmwatch import cli, command_line
from tools import completion, generate, manual

COMPLETION = generate.DOCS / "completion"
COMMANDS = completion.read(command_line.build_parser(rare=True))
NAMES = [command.name for command in COMMANDS]
SCREEN = (80, 24)


# The offers for the last of some words.
Shell = Callable[..., list[str]]


def output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def in_bash(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ksmwatch
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    return output(
        "bash", "-uc", script, "-", str(COMPLETION / "ksmwatch.bash"), "ksmwatch", *words
    ).split()


def in_fish(*words: str) -> list[str]:
    script = "source $argv[1]/ksmwatch.fish; complete -C $argv[2]"
    line = " ".join(["ksmwatch", *words])
    found = output("fish", "--no-config", "-c", script, str(COMPLETION), line).splitlines()
    return [line.split("\t")[0] for line in found]


# Zsh completes at a prompt only, so it gets one; after each candidate comes its description.
_ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D; stty cols 200"
zpty -w z "zstyle ':completion:*' list-separator '##'; zstyle ':completion:*' verbose yes"
zpty -w z "say() { zle list-choices; zle -R; print -rn -- lis''ted }; zle -N say"
zpty -w z "bindkey '^I' say; unsetopt list_beep; LISTMAX=0; echo rea''dy"
zpty -r -m z out '*ready*'
zpty -n -w z "$2"$'\t'
# What is typed too early would end the list.
zpty -r -m z list '*listed*'
zpty -n -w z $'\C-u'"echo fin''ished"$'\n'
zpty -r -m z out '*finished*'
print -r -- "$list$out"
"""


def in_zsh(*words: str) -> str:
    return output("zsh", "-f", "-c", _ZSH, "-", str(COMPLETION), " ".join(["ksmwatch", *words]))


@pytest.mark.parametrize("shell", [in_bash, in_fish])
def test_commands_are_offered(shell: Shell) -> None:
    assert set(NAMES) <= set(shell(""))
    assert shell("pe") == ["peers"]


@pytest.mark.parametrize("shell", [in_bash, in_fish])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_flags_are_offered(shell: Shell, command: completion.Command) -> None:
    long = {name for flag in command.flags for name in flag.names if name.startswith("--")}
    assert {word for word in shell(command.name, "--") if word.startswith("--")} >= long


@pytest.mark.parametrize("shell", [in_bash, in_fish])
def test_values_are_offered(shell: Shell, tmp_path: Path) -> None:
    assert shell("run", "--backend", "") == ["auto", "bpf", "poll"]
    assert shell("run", "--log.level", "w") == ["warning"]
    assert set(shell("top", "-g", "")) >= {"owner", "tree"}
    (tmp_path / "a.toml").touch()
    assert shell("run", "--config.file", f"{tmp_path}/a") == [f"{tmp_path}/a.toml"]
    assert "1" in shell("why", "1")
    assert shell("run", "--owners.top", "") == []


def test_zsh_offers_commands_flags_and_values() -> None:
    shown = in_zsh("")
    assert all(f"{name} " in shown for name in NAMES)
    shown = in_zsh("run", "--b")
    assert "auto: bpf if possible" in shown or "--backend" in shown
    assert "kprobe" in in_zsh("run", "--probes", "")
    assert "tree" in in_zsh("top", "--group", "")


@pytest.mark.parametrize("name", sorted(manual.pages(command_line.build_parser(rare=True))))
def test_manual_pages_are_good_roff(name: str) -> None:
    # No date: a page that is made again must be the same.
    lint = ["mandoc", "-T", "lint", "-W", "warning", str(generate.DOCS / "man" / name)]
    found = subprocess.run(lint, check=False, capture_output=True, text=True).stdout
    assert [line for line in found.splitlines() if "missing date" not in line] == []


def test_the_manual_has_every_flag() -> None:
    for command in COMMANDS:
        page = output(
            "mandoc", "-T", "ascii", str(generate.DOCS / f"man/ksmwatch-{command.name}.1")
        )
        plain = page.replace("_\b", "")
        text = "".join(c for i, c in enumerate(plain) if plain[i + 1 : i + 2] != "\b" and c != "\b")
        for flag in command.flags:
            assert ", ".join(flag.names) in text


@pytest.mark.parametrize("command", ["", *NAMES])
def test_help_fits_a_screen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*filter(None, [command]), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN[1]
    assert max(map(len, lines)) <= SCREEN[0]


def test_hidden_flags_are_said_to_be() -> None:
    run = dict(completion.commands_of(command_line.build_parser()))["run"]
    hidden = [
        flag for flag in completion.read(command_line.build_parser())[0].flags if "==" in flag.help
    ]
    assert run.epilog == f"{len(hidden)} more flags: see man ksmwatch-run."
