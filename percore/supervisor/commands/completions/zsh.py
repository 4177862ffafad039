"""The completion of zsh: a function that is autoloaded from `site-functions`, or defined by `eval`."""

from __future__ import annotations

from collections.abc import Sequence

from percore.supervisor.commands.arguments import CommandHelp
from percore.supervisor.commands.completions.follow import Follow, Offer, follow_of, values_of

_START = """\
#compdef percore
# Completion of percore for zsh. It is made from the commands: percore completion zsh
_percore() {{
  local -a commands options texts found words_here asked
  local command="" each before="$words[CURRENT-1]" is_value=""
  commands=({commands})
  for each in "${{(@)words[2,CURRENT-1]}}"; do
    [[ $each == -* ]] || {{ command=$each; break }}
  done
  case $command in
    '')
      options=(--help --version --silent --mini-list --no-color)
      if [[ $words[CURRENT] != -* ]]; then _describe -t commands 'command' commands; return; fi ;;
    help)
      _describe -t commands 'command' commands; return ;;
"""

_END = """\
  esac
  if [[ -z $is_value && $words[CURRENT] == -* ]]; then
    (( $#texts )) || texts=($options)
    compadd -l -d texts -a options
    return
  fi
  (( $#words_here )) && compadd -a words_here
  for each in $found; do
    case $each in
      files) _files ;;
      directories) _files -/ ;;
      users) _users ;;
      groups) _groups ;;
      *) asked=(${(f)"$(percore completion $each 2>/dev/null)"}); compadd -a asked ;;
    esac
  done
}
if [[ $funcstack[1] == _percore ]]; then _percore "$@"; else compdef _percore percore; fi
"""


def zsh_script(commands: Sequence[CommandHelp]) -> str:
    names = [f"{name}:{command.summary}" for command in commands for name in (command.name, *command.aliases)]
    listed = " ".join(map(quoted, [*names, "help:show what a command does, and its options"]))
    return _START.format(commands=listed) + "".join(map(_case, follow_of(commands))) + _END


def _case(follow: Follow) -> str:
    options = [(spelling, option.help) for option in follow.options for spelling in option.spellings]
    width = max(len(spelling) for spelling, _ in options)
    lines = [
        f"    {'|'.join(follow.commands)})",
        f"      {_offer(follow.offer)}",
        f"      options=({' '.join(spelling for spelling, _ in options)})",
        f"      texts=({' '.join(quoted(f'{spelling:<{width}}  {text}') for spelling, text in options)})",
    ]
    if values := values_of(follow):
        cases = [f"        {'|'.join(before)}) is_value=1 {_offer(offer)} ;;" for offer, before in values.items()]
        lines += ["      case $before in", *cases, "      esac"]
    return "\n".join([*lines, "      ;;\n"])


def _offer(offer: Offer) -> str:
    return f"words_here=({' '.join(offer.words)}) found=({' '.join(offer.found)})"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
