"""What becomes of each key of a process file and of each variable of an inventory. The page and what is told are made of it.

A test goes through all keys and variables that there are: none is without a row.
"""

from __future__ import annotations

from typing import NamedTuple

IN_POD = "as on a host, by percore in the pod"
"""The same supervisor reads the same file there."""

NOTHING = "nothing"
"""It has no counterpart, and the row says why."""


class Counterpart(NamedTuple):
    """`difference` is what differs from a host; of what becomes nothing, why."""

    becomes: str
    difference: str = ""

    @property
    def is_left(self) -> bool:
        return self.becomes == NOTHING


_LOG_FILE = Counterpart(
    NOTHING, "there are no log files: the output goes to the container's log, which the node rotates"
)
_IMAGE = Counterpart("part of the image")
_HOSTS = Counterpart(NOTHING, "it is about hosts")
_ROLLOUT = Counterpart(NOTHING, "the Deployment replaces pods in its own way: see `maxSurge` and `minReadySeconds`")
_CONTROLLER = Counterpart(NOTHING, "it is a setting of the controller that serves Ingress or Gateway")
_EDGE = Counterpart(NOTHING, "the load balancer in front of a cluster is the cluster's own")
_CONNECTION = Counterpart(NOTHING, "no host is connected to; `--from-running` alone asks them")

KEYS: dict[str, Counterpart] = {
    "script": Counterpart("part of the image: the pod's argument `--only NAME` chooses the app"),
    "name": Counterpart(
        "the name of the objects, and `app.kubernetes.io/name`",
        "what a label of DNS cannot hold is replaced by `-`",
    ),
    "namespace": Counterpart("part of the app's name", "the namespace of Kubernetes is `kubernetes.namespace`"),
    "cwd": Counterpart(IN_POD, "below `/app`"),
    "args": Counterpart(IN_POD),
    "interpreter": Counterpart(IN_POD, "the image has it"),
    "node_args": Counterpart(IN_POD),
    "instances": Counterpart(
        "workers of a pod",
        "`max` is one for each CPU of the pod's limit; pods are counted by `kubernetes.replicas`",
    ),
    "exec_mode": Counterpart(
        "`cluster`: a Deployment; `fork`: a StatefulSet of one pod",
        "`fork` with a port that runs on several hosts is a Deployment, too",
    ),
    "share_port": Counterpart(IN_POD),
    "port": Counterpart("the container's port `http`, and a Service"),
    "port_per_worker": Counterpart("one worker a pod", "a Service reaches one port of each pod"),
    "listen": Counterpart(
        "ports of the container and the Service",
        "an address on the pod's loopback, or a Unix socket, is reached in the pod alone",
    ),
    "health": Counterpart(
        "`startupProbe`, `readinessProbe`, `livenessProbe` by HTTP",
        "`h2c://`: the probes ask the supervisor (`percore ready`)",
    ),
    "health_host": Counterpart("the header `Host` of the probes"),
    "app_metrics": Counterpart(
        "annotations `prometheus.io/...`, or a PodMonitor",
        "a scrape of a pod reaches one of its workers: use `workers_per_pod: 1` for exact sums",
    ),
    "app_metrics_port": Counterpart("the port of these"),
    "app_metrics_per_worker": Counterpart(NOTHING, "a scrape reaches one worker of a pod"),
    "instance_var": Counterpart(IN_POD, "numbers count from 0 in each pod"),
    "increment_var": Counterpart(IN_POD, "it counts from the same value in each pod"),
    "wait_ready": Counterpart("`startupProbe` and `readinessProbe` ask the supervisor (`percore ready`)"),
    "listen_timeout": Counterpart("`startupProbe.failureThreshold`", "10 s more, for the start of the container"),
    "reload_workers": Counterpart(NOTHING, "a pod is replaced as a whole"),
    "health_interval": Counterpart("`readinessProbe.periodSeconds`", "1 to 60 s; 0 is 10 s"),
    "liveness_timeout": Counterpart(
        "`livenessProbe.failureThreshold`, after twice that time",
        "the supervisor replaces a worker first",
    ),
    "kill_timeout": Counterpart("part of `terminationGracePeriodSeconds`"),
    "kill_signal": Counterpart(IN_POD),
    "shutdown_with_message": Counterpart(IN_POD),
    "treekill": Counterpart(IN_POD),
    "autostart": Counterpart(
        "false: no pods until `kubectl scale`, or `kubernetes.apps.NAME.replicas`", "an app that ends then has no Job",
    ),
    "autorestart": Counterpart("false: a Job for each release; with `cron_restart` a CronJob"),
    "stop_exit_codes": Counterpart(IN_POD, "a Job that ends with one of them has succeeded"),
    "min_uptime": Counterpart(IN_POD),
    "max_restarts": Counterpart(
        IN_POD, "then the container ends with 2, and the kubelet starts it again, more and more slowly",
    ),
    "restart_delay": Counterpart(IN_POD),
    "exp_backoff_restart_delay": Counterpart(IN_POD),
    "max_memory_restart": Counterpart(
        "the supervisor replaces the worker; `limits.memory` is one worker more and a quarter above that",
    ),
    "heap_snapshots": Counterpart(NOTHING, "the supervisor's home is in the pod's memory, and goes with it"),
    "memory_max": Counterpart("`limits.memory` of the whole pod", "a container cannot divide its control group"),
    "cron_restart": Counterpart(IN_POD, "in UTC; with `autorestart: false` it is a CronJob"),
    "watch": Counterpart(NOTHING, "the files of an image do not change"),
    "ignore_watch": Counterpart(NOTHING, "the files of an image do not change"),
    "watch_delay": Counterpart(NOTHING, "the files of an image do not change"),
    "out_file": _LOG_FILE,
    "error_file": _LOG_FILE,
    "log_file": _LOG_FILE,
    "log_max_size": _LOG_FILE,
    "log_keep": _LOG_FILE,
    "log_max_age": _LOG_FILE,
    "log_max_total": _LOG_FILE,
    "log_min_free": _LOG_FILE,
    "log_compress": _LOG_FILE,
    "merge_logs": _LOG_FILE,
    "log_date_format": Counterpart(NOTHING, "`kubectl logs --timestamps` puts the time before each line"),
    "log_type": Counterpart("`json`: the argument `--json`"),
    "disable_logs": Counterpart(IN_POD),
    "pid_file": Counterpart(NOTHING, "a pod has process ids of its own, and a root file system that is read-only"),
    "filter_env": Counterpart(IN_POD),
    "depends_on": Counterpart(
        "an init container that waits for the Service of the other app",
        "a Job that others depend on belongs to the step before the rollout; an app without a port cannot "
        "be waited for",
    ),
    "hooks": Counterpart(IN_POD, "the network policy must let addresses be reached"),
    "user": Counterpart("`runAsUser: 10001`", "the image has one user, which is not root"),
    "group": Counterpart("`runAsGroup: 10001`", "as `user`"),
    "append_env_to_name": Counterpart(IN_POD),
    "execute_command": Counterpart(IN_POD),
    "source_map_support": Counterpart(IN_POD),
    "disable_source_map_support": Counterpart(IN_POD),
    "env_file": Counterpart("ConfigMap and Secret", "the file is read on the control machine"),
    "env": Counterpart(
        "ConfigMap; what is secret is referenced in a Secret",
        "the container's variables win (`PERCORE_OVERRIDES`)",
    ),
    "env_NAME": Counterpart("ConfigMap and Secret, of the environment that is chosen"),
    "static": Counterpart("an app like others", "percore serves the files in the pod"),
    "jobs": Counterpart("a CronJob for each"),
    "jobs: cron": Counterpart(
        "`schedule`",
        "seconds are left out; `L` and `#` have no counterpart, so that no CronJob is written",
    ),
    "jobs: timezone": Counterpart("`timeZone`", "without it UTC, and not the time zone of hosts"),
    "jobs: overlap": Counterpart(
        "`forbid`: `concurrencyPolicy: Forbid`",
        "`queue` has no counterpart: `Forbid` is written, and a run that was left out is not made up for",
    ),
    "jobs: timeout": Counterpart("`activeDeadlineSeconds`"),
    "jobs: where": Counterpart("one run in the cluster", "`each` has no counterpart: pods have no hosts of their own"),
}  # fmt: skip
"""Of a process file; those of `jobs` begin with that."""

_UNUSED_ON_HOSTS = (
    "confirm_seconds", "max_clock_skew_seconds", "deploy_to", "renamed_from", "service_manager", "startup", "percore_user",
    "percore_home", "setup_path", "package_path", "launcher_path", "nginx_replaces", "nginx_link",
)  # fmt: skip
_OF_IMAGES = (
    "build_command", "install_command", "install_production_command", "package_manager", "python_version", "build_env",
    "process_file", "process_env", "artifact_include", "artifact_exclude", "image_base",
)  # fmt: skip
_OF_ROLLOUTS = (
    "canary", "serial", "max_fail_percentage", "probe_max_failed_percentage", "probe_max_slowdown", "health_seconds",
    "reload_workers", "ask_before_switch",
)  # fmt: skip
_OF_CONTROLLERS = (
    "nginx_port", "nginx_tls_port", "nginx_ipv6", "nginx_http2", "nginx_gzip", "nginx_acme", "load_balancers",
    "nginx_real_ip_header", "nginx_upstream_keepalive", "nginx_maintenance_retry", "nginx_http_snippet",
    "nginx_server_snippet", "nginx_location_snippet",
)  # fmt: skip
_OF_EDGES = (
    "edge_name", "edge_address", "edge_weight", "edge_port", "edge_tls_port", "edge_certificate", "edge_certificate_key",
    "edge_hsts_seconds", "edge_body_size", "edge_keepalive", "edge_connect_seconds", "edge_read_seconds", "edge_max_fails",
    "edge_fail_seconds",
)  # fmt: skip
_OF_CONNECTIONS = (
    "ansible_host", "ansible_port", "ansible_user", "ansible_connection", "ansible_password", "ansible_become",
    "ansible_become_user", "ansible_become_password", "ansible_python_interpreter", "ansible_ssh_private_key_file",
    "ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args",
)  # fmt: skip

VARIABLES: dict[str, Counterpart] = {
    "app_name": Counterpart(
        "the names of objects of the whole app, `app.kubernetes.io/part-of`, and the namespace unless "
        "`kubernetes.namespace` says another one",
    ),
    "app_path": Counterpart("where the app is built"),
    "port": Counterpart("`PORT`, and which app Ingress or Gateway leads to"),
    "health_path": Counterpart("as `health`, of clustered apps that have none"),
    "health_host": Counterpart("as `health_host`; otherwise the first name of `server_name`"),
    "env": Counterpart("ConfigMap and Secret; it wins over the process file"),
    "env_file": Counterpart("ConfigMap and Secret"),
    "secrets": Counterpart("keys of the Secret that the pods reference"),
    "role_env": Counterpart("ConfigMap and Secret"),
    "shared": Counterpart(
        "a PersistentVolumeClaim for each directory, which must exist (`kubernetes.volumes` names another one)",
        "several pods that write need `ReadWriteMany`",
    ),
    "keep_releases": Counterpart("`revisionHistoryLimit` of a Deployment"),
    "soak_seconds": Counterpart("`minReadySeconds`"),
    "placement": Counterpart(
        "`one`: a StatefulSet of one pod",
        "patterns of hosts have no counterpart: use node selectors in an overlay",
    ),
    "release_command": Counterpart("a Job that the rollout waits for, with hooks for Argo CD and Helm"),
    "hooks": Counterpart(NOTHING, "they run on the control machine around a deploy: run them in your pipeline"),
    "alerts": Counterpart(NOTHING, "they tell how a deploy ended: use the cluster's own alerts"),
    "otel": Counterpart(NOTHING, "it traces deploys"),
    "roles": Counterpart(
        NOTHING,
        "what roles set up on hosts is not there: databases are reached by their URLs in the environment",
    ),
    "percore_version": Counterpart("checked, as by every command"),
    "image_repository": Counterpart("the image's name; its tag is the release"),
    "nginx": Counterpart("false: no Ingress"),
    "server_name": Counterpart(
        "`host` of the rules, or `hostnames`",
        "`_` is every name; regular expressions have no counterpart",
    ),
    "nginx_body_size": Counterpart("`proxy-body-size`", "Gateway API: none"),
    "nginx_static": Counterpart(
        NOTHING,
        "there is no NGINX with the release's files: the app serves them, or an app with `static`",
    ),
    "nginx_rate_limits": Counterpart(
        "`limit-rps`, `limit-rpm`, in an Ingress for each path",
        "each replica of the controller counts by itself; Gateway API: none",
    ),
    "nginx_rate_burst": Counterpart("`limit-burst-multiplier`", "a whole multiple of the rate"),
    "nginx_certificate": Counterpart(
        "a Secret of the type `kubernetes.io/tls` (`kubernetes.tls_secret`), or cert-manager "
        "(`kubernetes.cluster_issuer`)",
    ),
    "nginx_certificate_key": Counterpart("the same Secret"),
    "nginx_redirect": Counterpart(
        "`ssl-redirect`, or `force-ssl-redirect` behind a load balancer; Gateway API: a route that redirects",
    ),
    "nginx_hsts": Counterpart(
        "Gateway API: a response header",
        "Ingress: `hsts` of the controller's ConfigMap, which is on by default",
    ),
    "nginx_connect_timeout": Counterpart("`proxy-connect-timeout`", "Gateway API: none"),
    "nginx_read_timeout": Counterpart(
        "`proxy-read-timeout`, `proxy-send-timeout`",
        "Gateway API: its timeouts are of a whole answer, so none is written",
    ),
    "nginx_websocket_timeout": Counterpart(
        NOTHING,
        "ingress-nginx has one timeout for both: set `proxy-read-timeout` under "
        "`kubernetes.ingress_annotations` where WebSockets are silent for longer than `nginx_read_timeout`",
    ),
    "nginx_upstream": Counterpart("the Service", "`per_worker`: one worker a pod"),
    "nginx_upstream_workers": Counterpart("`kubernetes.replicas`"),
    "nginx_sticky": Counterpart(
        "`cookie`: `affinity`; `address`: `upstream-hash-by`, and `sessionAffinity` of the Service",
        "to the same pod, not to the same worker; Gateway API: none",
    ),
    "kubernetes": Counterpart("see the settings above"),
    **dict.fromkeys(_OF_IMAGES, _IMAGE),
    **dict.fromkeys(_OF_ROLLOUTS, _ROLLOUT),
    **dict.fromkeys(_OF_CONTROLLERS, _CONTROLLER),
    **dict.fromkeys(_UNUSED_ON_HOSTS, _HOSTS),
    **dict.fromkeys(_OF_EDGES, _EDGE),
    **dict.fromkeys(_OF_CONNECTIONS, _CONNECTION),
}  # fmt: skip
"""Of an inventory."""


def as_table(rows: dict[str, Counterpart], head: str) -> str:
    """For the page."""
    lines = [f"| {head} | What it becomes | What differs |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| `{key}` | {row.becomes} | {row.difference} |" for key, row in rows.items())])
