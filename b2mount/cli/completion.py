"""`b2mount completion`: what a shell needs to complete b2mount's words, and the words that only this knows.

click asks for completions by running the program with _B2MOUNT_COMPLETE set; nothing is looked at then but
the kernel's table of mounts and the names of profiles.
"""

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from b2mount.cli.mountpoints import MOUNT_TYPE, read_mounts
from b2mount.cli.profiles import SOURCE_PREFIX, SYSTEM_PROFILES, profile_paths

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_B2MOUNT_COMPLETE"
MENDED = (
    # click's fish would show help, and take names, as far as their first comma only
    ('string split ","', 'string split --max 1 ","'),
    # its bash would take * and \\ in a name for more than they are, and leave spaces in it unquoted
    (
        "for completion in $response; do\n        IFS=',' read type value <<< \"$completion\"\n",
        "while IFS=',' read -r type value; do",
    ),
    ("    done\n\n    return 0\n", '    done <<< "$response"\n\n    return 0\n'),
    ("COMPREPLY+=($value)", 'COMPREPLY+=("$value")\n            [[ $value != /* ]] || compopt -o filenames'),
)


@click.command(short_help="Print what makes a shell complete b2mount's words.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """\b
    b2mount completion bash > ~/.local/share/bash-completion/completions/b2mount
    b2mount completion zsh > ~/.zfunc/_b2mount
    b2mount completion fish > ~/.config/fish/completions/b2mount.fish

    Print the completion script of a shell: verbs, options, mount points and profiles.
    """
    from b2mount.cli.main import b2mount

    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    source = kind(b2mount, {}, "b2mount", VARIABLE).source()
    for said, meant in MENDED:
        source = source.replace(said, meant)
    click.echo(source)


def mount_points(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a directory on which something of ours is mounted."""
    found = {mount.mountpoint for mount in read_mounts() if mount.kind == MOUNT_TYPE}
    return [CompletionItem(place) for place in sorted(found) if place.startswith(incomplete)]


def profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a profile."""
    return [CompletionItem(name) for name in _profile_names() if name.startswith(incomplete)]


def places(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the words of `mount`: a profile as the source, else a directory."""
    named = [f"{SOURCE_PREFIX}{name}" for name in _profile_names()]
    found = [CompletionItem(name) for name in named if incomplete and name.startswith(incomplete)]
    return found or directories(ctx, param, incomplete)


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete a file."""
    return [CompletionItem(incomplete, type="file")]


def directories(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete a directory."""
    return [CompletionItem(incomplete, type="dir")]


COMPLETED = {"FILE": files, "DIR": directories}  # by what help calls the value


def _profile_names() -> list[str]:
    names = set()
    for path in profile_paths(os.environ, Path.home(), SYSTEM_PROFILES, "any"):
        try:
            names |= {found.stem for found in path.parent.glob("*.toml")}
        except OSError:
            continue  # not for this user's eyes
    return sorted(names)
