"""`loraudit completion`: scripts that complete commands, options and their values in bash and zsh.

What they offer is written into the script, so that a key press starts no Python; a new release needs a new
script. It is read off the signatures of the commands. File names are the shell's own affair.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from typer import Typer
from typer.models import ArgumentInfo, OptionInfo

__all__ = ["SHELLS", "Completed", "read_commands"]

_BASH: Final = """\
_loraudit() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} last=${{COMP_WORDS[COMP_CWORD-1]}} command= words= i
    # In `--depth=me` bash sees three words.
    if [[ $word == = ]]; then word=; elif [[ $last == = ]]; then last=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {commands}) command=${{COMP_WORDS[i]}}; break ;;
        esac
    done
    COMPREPLY=()
    case "$command $last" in
{values}
        *)
            case "$command" in
                "") words="{words} --version --help" ;;
{options}
            esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _loraudit loraudit
"""
_ZSH: Final = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"
"""zsh's own way to take scripts of bash."""


@dataclass(frozen=True)
class Completed:
    """What can be written after one command."""

    name: str
    options: Mapping[str, Sequence[str]]
    """The fixed values of each option; none if it takes any text or file, or nothing."""
    arguments: Sequence[str]
    """Values of its argument, if they are fixed."""


def read_commands(package: str, names: Iterable[str]) -> tuple[Completed, ...]:
    """Those of the modules `package.name`, as their functions are written."""
    return tuple(_read(package, name) for name in names)


def _read(package: str, name: str) -> Completed:
    word = name.replace("-", "_")
    function = getattr(import_module(f"{package}.{word}"), word)
    if isinstance(function, Typer):
        # A group: its commands stand where another's argument does.
        inner = [
            (command.name or getattr(command.callback, "__name__", ""))
            for command in function.registered_commands
        ]
        return Completed(name, {"--help": ()}, inner)
    options: dict[str, Sequence[str]] = {}
    arguments: list[str] = []
    for hint in get_type_hints(function, include_extras=True).values():
        if get_origin(hint) is not Annotated:
            continue
        kind, info = get_args(hint)[:2]
        if isinstance(info, ArgumentInfo):
            arguments += _choices(kind)
        elif isinstance(info, OptionInfo):
            # Inside `Annotated` Typer has the first flag where a default value would be.
            flags = [info.default, *(info.param_decls or ())]
            options |= {flag: _choices(kind) for written in flags for flag in str(written).split("/")}
    return Completed(name, {**options, "--help": ()}, arguments)


def _choices(kind: Any) -> list[str]:  # noqa: ANN401
    """The values of a choice, be it optional or repeatable."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(choice.value) for choice in kind]
    return [value for inner in get_args(kind) for value in _choices(inner)]


def _bash(commands: Sequence[Completed]) -> str:
    values, options = [], []
    for command in commands:
        for option, choices in command.options.items():
            if choices:
                values.append(f'        "{command.name} {option}") words="{" ".join(choices)}" ;;')
        long = [option for option in command.options if option.startswith("--")]
        fixed = " ".join([*command.arguments, *long])
        # Where the argument may be any file, options are offered once a dash is there.
        dash = "" if command.arguments else "[[ $word == -* ]] && "
        options.append(f'                {command.name}) {dash}words="{fixed}" ;;')
    names = [command.name for command in commands]
    return _BASH.format(
        commands="|".join(names),
        words=" ".join(names),
        values="\n".join(values),
        options="\n".join(options),
    )


def _zsh(commands: Sequence[Completed]) -> str:
    return _ZSH + _bash(commands)


SHELLS: Final[Mapping[str, Callable[[Sequence[Completed]], str]]] = {"bash": _bash, "zsh": _zsh}
"""The script for each shell."""
