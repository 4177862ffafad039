"""`./run completion`: the lines that make a shell complete tasks, their options and the names of environments."""

from __future__ import annotations

import sys

from invoke.context import Context

from percore.deploy.command_line import to_type
from percore.deploy.schema import suggest
from percore.errors import UsageError
from percore.tasks.decorators import operator_task

# invoke itself tells what can follow; the program is asked as it was typed, so that ./run of this directory answers.
_BASH = """\
# bash: add to ~/.bashrc:  eval "$(PERCORE --shell bash)"
_percore_tasks() {
  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" found
  if [ "$before" = --env ]; then
    found=$(for file in "$(dirname "${COMP_WORDS[0]}")"/inventories/*; do
      name=${file##*/}; case $name in group_vars|host_vars) ;; *) echo "${name%.*}" ;; esac
    done)
  else
    found=$("${COMP_WORDS[0]}" --complete -- invoke "${COMP_WORDS[@]:1}" 2>/dev/null)
  fi
  COMPREPLY=($(compgen -W "$found" -- "$word"))
}
complete -o default -F _percore_tasks inv run invoke
"""

_ZSH = """\
# zsh: add to ~/.zshrc, after compinit:  eval "$(PERCORE --shell zsh)"
_percore_tasks() {
  local -a found
  local project=${words[1]:h}
  if [[ $words[CURRENT-1] == --env ]]; then
    found=($project/inventories/*(N:t:r))
    found=(${found:#(group|host)_vars})
  else
    found=(${(f)"$($words[1] --complete -- invoke ${words[2,CURRENT]} 2>/dev/null)"})
  fi
  compadd -- $found
}
compdef _percore_tasks inv run invoke
"""

_FISH = """\
# fish:  PERCORE --shell fish > ~/.config/fish/completions/run.fish
function __percore_tasks
  set -l typed (commandline -opc)
  if test "$typed[-1]" = --env
    for file in (string match -vr '_vars$' (dirname $typed[1])/inventories/*)
      string replace -r '\\\\.[^.]*$' '' (basename $file)
    end
  else
    eval $typed[1] --complete -- invoke $typed[2..-1] (commandline -ct) 2>/dev/null
  end
end
complete --no-files --arguments '(__percore_tasks)' --command run
complete --no-files --arguments '(__percore_tasks)' --command invoke
"""

_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@operator_task
def completion(context: Context, shell: str = "bash") -> None:
    """Print what makes a shell complete tasks, options and environments: bash, zsh or fish."""
    if shell not in _SHELLS:
        raise UsageError(f"there is no completion for '{shell}'", next=suggest(shell, _SHELLS, "bash, zsh or fish"))
    sys.stdout.write(_SHELLS[shell].replace("PERCORE", to_type("completion")))
