"""`percore completion`: the lines that make a shell complete commands, options and the names of apps."""

from __future__ import annotations

from percore.errors import PercoreError
from percore.supervisor.client import select_workers
from percore.supervisor.commands.arguments import make_parser
from percore.supervisor.commands.registry import all_names

_WITH_FILES = "start|apply|runtime|serve|startOrRestart|startOrReload"

_BASH = """\
# bash: add to ~/.bashrc:  eval "$(percore completion bash)"
_percore() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands}" -- "$word"))
  elif [ "${{word#-}}" != "$word" ]; then
    COMPREPLY=($(compgen -W "$(percore "$command" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | sort -u)" -- "$word"))
  else
    COMPREPLY=($(compgen -W "$(percore completion names 2>/dev/null)" -- "$word"))
    case "$command" in {files}) COMPREPLY+=($(compgen -f -- "$word")) ;; esac
  fi
}}
complete -o filenames -F _percore percore
"""

_ZSH = """\
# zsh: add to ~/.zshrc, after compinit:  eval "$(percore completion zsh)"
_percore() {{
  local -a found
  if (( CURRENT == 2 )); then
    found=({commands})
    compadd -a found
  elif [[ $words[CURRENT] == -* ]]; then
    found=(${{(f)"$(percore $words[2] --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | sort -u)"}})
    compadd -- $found
  else
    found=(${{(f)"$(percore completion names 2>/dev/null)"}})
    compadd -a found
    case $words[2] in {files}) _files ;; esac
  fi
}}
compdef _percore percore
"""

_FISH = """\
# fish:  percore completion fish > ~/.config/fish/completions/percore.fish
complete -c percore -f
complete -c percore -n '__fish_is_nth_token 1' -a '{commands}'
complete -c percore -n 'not __fish_is_nth_token 1' -a '(percore completion names 2>/dev/null)'
complete -c percore -n 'not __fish_is_nth_token 1; and string match -q -- "-*" (commandline -ct)' \
-a '(percore (commandline -opc)[2] --help 2>/dev/null | string match -ra -- "--[a-z][a-z-]*")'
complete -c percore -n '__fish_seen_subcommand_from {fish_files}' -F
"""

_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def print_completion(arguments: list[str]) -> int:
    parser = make_parser("completion")
    parser.add_argument("shell", choices=[*_SHELLS, "names"], help="the shell; names: those of all apps and namespaces")
    shell = parser.parse_args(arguments).shell
    if shell == "names":
        print("\n".join(names()))
        return 0
    commands = " ".join(all_names())
    print(_SHELLS[shell].format(commands=commands, files=_WITH_FILES, fish_files=_WITH_FILES.replace("|", " ")), end="")
    return 0


def names() -> list[str]:
    """Names that can be typed as one word; an error must not appear in the prompt."""
    try:
        workers = select_workers()
    except PercoreError:
        return []
    found = {name for worker in workers for name in (worker["name"], worker["namespace"])}
    return ["all", *sorted(name for name in found if not any(char.isspace() for char in name))]
