"""docs/reference: what stands there is what the code says, and nothing of the code is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from percore import errors
from percore.deploy.plan.help.meanings import meanings_in
from percore.deploy.plan.help.role_keys import EVERYWHERE_HELP, ITEM_KEY_HELP, ROLE_KEY_HELP
from percore.deploy.plan.roles import EVERYWHERE, HANDLER_KEYS, ITEM_KEYS, ROLE_KEYS, load_role
from percore.host.resources.command import COMMAND_SECONDS
from percore.supervisor.commands.help.exit_codes import EXIT_CODES
from percore.supervisor.commands.help.key_notes import EVENT_NOTES, KEY_NOTES, NO_SUCH_KEY, note_of_key
from percore.supervisor.commands.help.notes import NOTES
from percore.supervisor.commands.registry import GROUPS, all_names
from percore.supervisor.config.job_reader import JOB_KEYS
from percore.supervisor.config.options import MODIFIERS, OPTIONS
from percore.supervisor.config.value_types import EVENTS
from tests.reference import pages, tasks

ROLES = [path.parent.name for path in sorted((pages.ROOT / "roles").glob("*/role.yml"))]
# The keys of a process file that PM2 documents.
IN_PM2 = (
    "append_env_to_name args autorestart autostart cron_restart cwd disable_logs disable_source_map_support error_file "
    "exec_mode execute_command exp_backoff_restart_delay filter_env gid increment_var instance_var instances interpreter "
    "kill_timeout listen_timeout log_date_format log_file log_type max_memory_restart max_restarts merge_logs min_uptime "
    "name namespace node_args out_file pid_file port restart_delay script shutdown_with_message source_map_support "
    "stop_exit_codes treekill uid wait_ready watch watch_delay ignore_watch"
)


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.stem)
def test_the_generated_parts_of_a_page_are_what_the_code_says(page: Path) -> None:
    text = page.read_text()
    assert pages.renewed(text) == text, f"{page.name} is not what the code says -> {pages.COMMAND}"


def words_of(region: str) -> list[str]:
    """All words of all regions of this name, on all pages."""
    found = [regions for page in pages.pages() for regions in pages.regions(page.read_text())]
    return [word for name, words in found for word in words if name == region]


def test_every_region_is_on_a_page() -> None:
    used = {name for page in pages.pages() for name, _ in pages.regions(page.read_text())}
    assert used == set(pages.MAKERS)


def test_every_comment_that_begins_a_region_has_an_end() -> None:
    for page in pages.pages():
        text = page.read_text()
        assert text.count(pages.COMMAND + ":") == len(list(pages.regions(text))), page.name


def test_every_command_is_on_a_page_once() -> None:
    assert sorted(words_of("commands")) == sorted(word for group in GROUPS for word in group.split())


def test_every_task_is_on_a_page_once() -> None:
    names = words_of("tasks")
    aliases = {alias for name in names for alias in tasks.namespace()[name].aliases}
    assert sorted(names) == sorted(set(tasks.namespace().task_names) - aliases)


def test_every_task_and_each_of_its_options_has_a_help() -> None:
    for name in tasks.namespace().task_names:
        task = tasks.namespace()[name]
        assert (task.__doc__ or "").strip(), name
        assert [each.name for each in tasks.arguments_of(name) if not each.help] == [], name


def test_every_key_of_a_process_file_is_on_a_page_once() -> None:
    assert sorted(words_of("keys")) == sorted(option.key for option in (*OPTIONS, *MODIFIERS))


def test_every_key_says_what_it_takes_and_whether_pm2_has_it() -> None:
    for option in (*OPTIONS, *MODIFIERS):
        assert option.help
        assert option.type.words
        has_it = bool({*IN_PM2.split()} & {option.key, *option.aliases})
        assert (note_of_key(option.key).pm2 != NO_SUCH_KEY) == has_it or option.key in ("kill_signal", "group"), (
            option.key
        )
    assert all(key.help for key in JOB_KEYS.values())


def test_every_variable_of_every_role_is_on_a_page_with_its_meaning() -> None:
    assert set(words_of("variables")) - {"edge_", "!edge_"} == set(ROLES)
    for role in ROLES:
        known = meanings_in(pages.ROOT / "roles" / role / "role.yml")
        assert set(load_role(role, pages.ROOT / "roles").defaults) == set(known), role


def test_every_key_of_a_role_has_a_meaning() -> None:
    assert tuple(ROLE_KEY_HELP) == ROLE_KEYS
    assert tuple(EVERYWHERE_HELP) == EVERYWHERE
    wanted = {kind: {*keys.required, *keys.optional} for kind, keys in ITEM_KEYS.items()}
    assert {kind: set(keys) for kind, keys in ITEM_KEY_HELP.items()} == {**wanted, "handlers": set(HANDLER_KEYS)}
    for kind, keys in ITEM_KEYS.items():
        required = {name for name, each in ITEM_KEY_HELP[kind].items() if each.default == "required"}
        assert required >= set(keys.required)
    assert ITEM_KEY_HELP["commands"]["seconds"].default == f"{COMMAND_SECONDS:g}"


def test_every_exit_code_of_an_error_has_a_meaning() -> None:
    numbers = {code.number for code in EXIT_CODES}
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.PercoreError)]
    assert {each.exit_code for each in kinds} <= numbers


def test_notes_are_of_commands_and_keys_that_exist() -> None:
    assert set(NOTES) <= set(all_names())
    assert set(KEY_NOTES) <= {option.key for option in OPTIONS}
    assert tuple(EVENT_NOTES) == EVENTS


def test_a_region_that_nothing_makes_is_named_with_the_nearest() -> None:
    with pytest.raises(errors.UsageError, match="'kyes' -> did you mean 'keys'"):
        pages.renewed(f"<!-- made by {pages.COMMAND}: kyes script -->\n<!-- end -->")


def test_a_changed_text_is_noticed_and_written_anew() -> None:
    text = f"<!-- made by {pages.COMMAND}: keys script -->\n\n| old |\n\n<!-- end -->\n"
    made = pages.renewed(text)
    assert "what is run" in made
    assert pages.renewed(made) == made
    assert pages.renewed(made.replace("what is run", "what runs")) == made
