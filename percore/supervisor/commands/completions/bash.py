"""The completion of bash: a function with all that is known, which asks percore only for names and ids.

What it finds is compared by the shell itself: `compgen -W` would run what is written in the name of an app.
"""

from __future__ import annotations

from collections.abc import Sequence

from percore.supervisor.commands.arguments import CommandHelp
from percore.supervisor.commands.completions.follow import Follow, Offer, follow_of, values_of

_START = """\
# Completion of percore for bash. It is made from the commands: percore completion bash
_percore() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="" command="" each found="" words="" options=""
  local typed="${{COMP_LINE:0:COMP_POINT}}" prefix=""
  typed="${{typed##*[[:space:]]}}"
  if [[ $typed == *:* && $COMP_WORDBREAKS == *:* ]]; then
    word="$typed" prefix="${{typed%"${{typed##*:}}"}}" # bash replaces what stands behind the colon
  fi
  [ "$COMP_CWORD" -gt 1 ] && before="${{COMP_WORDS[COMP_CWORD-1]}}"
  for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$each" in -*) ;; *) command="$each"; break ;; esac
  done
  case "$command" in
    "")
      words="{commands} help" options="--help --version --silent --mini-list --no-color" ;;
    help)
      words="{commands}" ;;
"""

_END = """\
  esac
  case "$word" in -*) words="$options" found="" ;; esac
  COMPREPLY=()
  while IFS= read -r each; do
    if [[ -n $each && $each == "$word"* ]]; then COMPREPLY+=("${each#"$prefix"}"); fi
  done < <(
    printf '%s\\n' $words
    for each in $found; do
      case "$each" in
        files) compgen -f -- "$word" ;;
        directories) compgen -d -- "$word" ;;
        users) compgen -u -- "$word" ;;
        groups) compgen -g -- "$word" ;;
        *) percore completion "$each" 2>/dev/null ;;
      esac
    done
  )
}
complete -o filenames -F _percore percore
"""


def bash_script(commands: Sequence[CommandHelp]) -> str:
    names = " ".join(name for command in commands for name in (command.name, *command.aliases))
    return _START.format(commands=names) + "".join(map(_case, follow_of(commands))) + _END


def _case(follow: Follow) -> str:
    spellings = " ".join(spelling for option in follow.options for spelling in option.spellings)
    lines = [f"    {'|'.join(follow.commands)})", f'      {_offer(follow.offer)} options="{spellings}"']
    if values := values_of(follow):
        cases = [f'        {"|".join(before)}) {_offer(offer)} options="" ;;' for offer, before in values.items()]
        lines += ['      case "$before" in', *cases, "      esac"]
    return "\n".join([*lines, "      ;;\n"])


def _offer(offer: Offer) -> str:
    return f'words="{" ".join(offer.words)}" found="{" ".join(offer.found)}"'
