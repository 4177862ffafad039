"""The apps of a built process file, as the file has them and as this environment wants them."""

from __future__ import annotations

from collections.abc import Sequence

from percore.deploy.build.app import naming_the_source
from percore.deploy.build.artifact import Artifact
from percore.deploy.kubernetes.apps import AppOfFile
from percore.deploy.kubernetes.model import APP_DIRECTORY
from percore.deploy.plan.settings import AppSettings
from percore.deploy.report import Report
from percore.deploy.rollout.host import Host
from percore.supervisor.config.app import AppConfig
from percore.supervisor.config.kinds import CLUSTER, ONE
from percore.supervisor.config.process_file import load_process_file, make_mover, move_app, resolve_for_release


def read_apps(
    hosts: Sequence[Host], settings: AppSettings, artifact: Artifact, release: str, report: Report
) -> list[AppOfFile]:
    path, tree = str(artifact.tree / artifact.process_file), str(artifact.tree)
    port = {"PORT": str(settings.port)} if settings.port else {}
    with naming_the_source(settings, artifact):
        loaded = load_process_file(path, env_name=settings.process_env, default_env=settings.env_name)
        record = resolve_for_release(
            path,
            tree=tree,
            release_id=release,
            release_path=APP_DIRECTORY,
            env_name=settings.process_env,
            default_env=settings.env_name,
            extra_env={**port, **settings.env},
        )
    for warning in record["warnings"]:
        report.warn(warning.replace(tree, str(settings.path)))
    move = make_mover([tree, str(artifact.tree.resolve())], APP_DIRECTORY)
    wished = {app["name"]: AppConfig.from_record(app) for app in record["apps"]}
    return [_written(move_app(raw, move), wished[raw.name], hosts, settings) for raw in loaded.apps]


def _written(raw: AppConfig, config: AppConfig, hosts: Sequence[Host], settings: AppSettings) -> AppOfFile:
    """With what a deploy gives to every app that does not say otherwise."""
    if config.mode == CLUSTER and not config.health and settings.health_path:
        config = config._replace(health=settings.health_path)
    if config.health and not config.health_host and settings.asked_host:
        config = config._replace(health_host=settings.asked_host)
    here = [host for host in hosts if config.name not in host.absent_apps]
    is_single = any(config.name in host.single_apps for host in hosts) or (config.is_job and config.job_where == ONE)
    return AppOfFile(raw, config, len(here), is_single)
