"""The tasks that talk to hosts. Each reads its options and calls the package once, and imports it then: all of them together
take longer to load than most of them to run.
"""

from __future__ import annotations

import sys

from invoke.context import Context

from percore.deploy.fleet_page import DEFAULT_PORT
from percore.deploy.report import Report, print_line
from percore.deploy.rollout.scope import Scope
from percore.tasks.decorators import host_task, local_scope, operator_task, project_of, tasks_of_line
from percore.tasks.environments import choose_environment


@host_task("yes", "tags", "skip_tags", together=["deploy"])
def setup(scope: Scope, check: bool = False, diff: bool = False, json: bool = False) -> None:
    """Bring hosts to what their roles say, without an app: packages, servers, a firewall. `setup deploy` does both."""
    from percore.deploy.rollout.diff import ChangesPending
    from percore.deploy.rollout.verbs import set_up

    try:
        set_up.setup(scope, Report(quiet=json), check=check, diff=diff, as_json=json)
    except ChangesPending as pending:
        if "deploy" not in tasks_of_line():
            raise
        print_line(str(pending))  # what deploy would change comes next


@host_task("yes", "tags", "skip_tags", together=["setup"])
def deploy(scope: Scope, check: bool = False, diff: bool = False, json: bool = False) -> None:
    """Build the app once, bring it to every host, switch all of them without losing a request, or none."""
    from percore.deploy.rollout.verbs import preview, rollout

    if check:
        preview.preview(scope, Report(quiet=json), diff=diff, as_json=json)
    else:
        rollout.deploy(scope, Report(quiet=json), diff=diff, as_json=json)


@host_task("tags", "skip_tags")
def plan(scope: Scope, json: bool = False) -> None:
    """What a deploy would change on each host, with diffs, and why workers would be replaced; touches nothing."""
    from percore.deploy.rollout.verbs import preview

    preview.preview(scope, Report(quiet=json), diff=True, as_json=json)


@host_task("yes")
def rollback(scope: Scope, release: str = "") -> None:
    """Go back to the good release before the current one, or to the one named with --release; first show what changes."""
    from percore.deploy.rollout.verbs import known_release

    known_release.rollback(scope, Report(), release=release or None)


@host_task()
def converge(scope: Scope) -> None:
    """Bring hosts that were away to the release that the rest runs; roll back what was not confirmed."""
    from percore.deploy.rollout.verbs import known_release

    known_release.converge(scope, Report())


@host_task()
def lock(scope: Scope, why: str = "") -> None:
    """Keep every rollout away from the hosts, until unlock."""
    from percore.deploy import operations

    operations.lock(scope, Report(), why=why)


@host_task()
def unlock(scope: Scope) -> None:
    """Remove what lock put there."""
    from percore.deploy import operations

    operations.unlock(scope, Report())


@operator_task
def drain(context: Context, host: str = "", env: str = "", why: str = "") -> None:
    """Send a host no new requests until undrain, at the load balancers that percore runs; --host takes a pattern, too."""
    from percore.deploy.rollout.verbs import drain as take_out

    take_out.drain(_scope_of(context, env), Report(), hosts=host, why=why)


@operator_task
def undrain(context: Context, host: str = "", env: str = "") -> None:
    """Send a host requests again; also one that a run drained which did not end."""
    from percore.deploy.rollout.verbs import drain as take_out

    take_out.undrain(_scope_of(context, env), Report(), hosts=host)


@host_task("yes")
def patch(scope: Scope, reboot: bool = False, security: bool = False, check: bool = False) -> None:
    """Upgrade the packages of the hosts one after the other, drained and proven healthy; --reboot where that is needed."""
    from percore.deploy.rollout.verbs import patch as bring_up_to_date

    bring_up_to_date.patch(scope, Report(), reboot=reboot, security=security, check=check)


@host_task()
def history(scope: Scope, lines: int = 20, json: bool = False) -> None:
    """Who switched what, when, and how it ended."""
    from percore.deploy import operations

    operations.history(scope, Report(), lines=lines, as_json=json)


@host_task()
def facts(scope: Scope) -> None:
    """The facts of each host, as JSON."""
    from percore.deploy import operations

    operations.facts(scope, Report())


@host_task()
def doctor(scope: Scope, json: bool = False) -> None:
    """What is wrong with this machine and the hosts, each with what to type: memory, ports, limits, clock, NGINX, reloads."""
    from percore.deploy.fleet.doctor import doctor as examine

    examine(scope, Report(quiet=json), as_json=json)


@host_task()
def drift(scope: Scope, json: bool = False) -> None:
    """Where hosts differ from their own release: workers, files edited by hand with the diff, pending handlers."""
    from percore.deploy import operations

    operations.drift(scope, Report(quiet=json), as_json=json)


@host_task()
def execute(scope: Scope) -> None:
    """Run a command on all hosts at once, each line behind its host's name: invoke exec --env E -- uptime."""
    from percore.deploy import operations

    operations.exec_command(scope, Report(), words_after_dashes())


@host_task()
def run(scope: Scope, app: str = "") -> None:
    """Run a command once, on one host, in the current release, as its app: invoke run --env E -- npm run console."""
    from percore.deploy.run_command import run_command

    sys.exit(run_command(scope, Report(), words_after_dashes(), app=app))


def words_after_dashes() -> list[str]:
    """What invoke leaves to us: the words behind `--`."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


@host_task()
def status(scope: Scope, json: bool = False) -> None:
    """Show every worker on every host; --json for scripts."""
    from percore.deploy.status import status as show_status

    show_status(scope, Report(), as_json=json)


@host_task()
def jobs(scope: Scope, app: str = "", json: bool = False) -> None:
    """When each job runs next, and how its last run ended; with --app the last lines of that job."""
    from percore.deploy.job_report import show_jobs

    show_jobs(scope, Report(), names=[app] if app else [], as_json=json)


@host_task()
def watch(scope: Scope, every: float = 60.0, once: bool = False) -> None:
    """Look at all hosts every so many seconds, and alert of what is wrong, and of what is over; --once for a timer."""
    from percore.deploy.fleet.troubles import watch as watch_hosts

    watch_hosts(scope, Report(), every=0 if once else every)


@host_task()
def alert(scope: Scope) -> None:
    """Send a test to everybody whom `alerts` names."""
    from percore.deploy.fleet.troubles import test_targets

    test_targets(scope, Report())


@host_task()
def logs(
    scope: Scope,
    app: str = "",
    lines: str = "",
    since: str = "",
    until: str = "",
    grep: str = "",
    err: bool = False,
    follow: bool = False,
    json: bool = False,
) -> None:
    """Show the apps' last log lines from all hosts, in the order of time; --follow until Ctrl-C."""
    from percore.deploy.fleet.logs import LogWish
    from percore.deploy.fleet.logs import logs as show_logs

    wish = LogWish(app, lines, since, until, grep, err, follow)
    show_logs(scope, Report(quiet=json), wish, as_json=json)


@host_task()
def top(scope: Scope, interval: float = 1.0) -> None:
    """A live view of all workers on all hosts: filter, sort, reload, restart, scale, and the log of a worker."""
    from percore.deploy.fleet.top import top as show_top  # it draws with curses, which not every system has

    show_top(scope, interval=interval)


top.aliases = ("monit",)  # the parser sees no alias that only a collection knows


@host_task("yes")
def flush(scope: Scope, app: str = "") -> None:
    """Empty the logs of all apps, or of one, on every host, and delete the older ones."""
    from percore.deploy.fleet.logs import flush as flush_logs

    flush_logs(scope, Report(), app=app)


@host_task()
def web(
    scope: Scope, port: int = DEFAULT_PORT, allow_actions: bool = False, output: str = "", seconds: int = 10
) -> None:
    """Show all hosts in a browser, served on this machine alone; --output FILE.html writes a report instead."""
    from percore.deploy.fleet_page import serve

    if output:
        serve.write_report(scope, Report(), output=output, seconds=seconds)
    else:
        serve.serve(scope, Report(), port=port, allow_actions=allow_actions)


def _scope_of(context: Context, env: str) -> Scope:
    project = project_of(context)
    return local_scope(project, choose_environment(env, project, remote=True))
