"""A plan's settings and state, made as a run makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from percore.deploy.plan.host_plan import HostPlan
from percore.deploy.plan.host_state import HostState
from percore.deploy.plan.render import render_plan
from percore.deploy.plan.settings import AppSettings, HostSettings, read_host_settings, read_settings
from percore.deploy.plan.variables import resolve_variables


def settings_of(plan: HostPlan) -> AppSettings:
    return read_settings(resolve_variables(plan), plan.project)


def render_state(plan: HostPlan, *, known: Mapping[str, Any]) -> HostState:
    return render_plan(plan, resolve_variables(plan).knowing(known), settings_of(plan) if plan.has_app else None)


def host_settings_of(plan: HostPlan) -> HostSettings:
    return read_host_settings(resolve_variables(plan))
