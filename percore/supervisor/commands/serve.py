"""`percore serve`: the files of a directory, as an app."""

from __future__ import annotations

import os

from percore.errors import UsageError
from percore.supervisor.base.home import Home
from percore.supervisor.client import ask, ensure_daemon
from percore.supervisor.commands.app_options import add_replace_option
from percore.supervisor.commands.arguments import Parser, make_parser
from percore.supervisor.commands.lifecycle import show_list
from percore.supervisor.commands.output import show_progress
from percore.supervisor.commands.start import add_foreground_option, follow_logs, refuse_running_daemon
from percore.supervisor.commands.targets import shell_environment
from percore.supervisor.config.app_reader import make_app
from percore.supervisor.config.process_file import static_app


def make_serve_parser() -> Parser:
    parser = make_parser("serve")
    parser.add_argument("path", metavar="DIRECTORY", nargs="?", default=".", help="the directory (.)")
    parser.add_argument("port", metavar="PORT", nargs="?", help="the port (8080)")
    parser.add_argument("--port", dest="port_option", metavar="PORT", help="the port, as an option")
    parser.add_argument("--host", help="the address to listen on (0.0.0.0)")
    parser.add_argument("--name", help="name of the app (static-page-server-PORT)")
    parser.add_argument("--spa", action="store_true", help="serve the home page for every path without a file")
    parser.add_argument("--ftp", action="store_true", help="list directories without index.html")
    parser.add_argument("--basic-auth-username", metavar="NAME", help="ask for a name and a password: this name")
    parser.add_argument(
        "--basic-auth-password", metavar="PASSWORD", help="or in the variable PM2_SERVE_BASIC_AUTH_PASSWORD"
    )
    add_replace_option(parser)
    parser.add_argument("-i", "--instances", metavar="N", default="1", help="workers: a number, or max")
    parser.add_argument("--watch", action="store_true", help="accepted; a changed file is served at once")
    add_foreground_option(parser)
    return parser


def serve_files(arguments: list[str]) -> int:
    options = make_serve_parser().parse_args(arguments)
    path = os.path.abspath(options.path)
    if not os.path.isdir(path):
        raise UsageError("there is no such directory", where=path, next="percore serve DIRECTORY PORT")
    port = options.port_option or options.port or "8080"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"the port must be between 1 and 65535, not '{port}'", next="percore serve DIRECTORY PORT")
    password = options.basic_auth_password or os.environ.get("PM2_SERVE_BASIC_AUTH_PASSWORD")
    if bool(options.basic_auth_username) != bool(password):
        raise UsageError("basic authentication needs a name and a password", next="percore serve --help")
    entry = {
        "path": path,
        "port": int(port),
        "host": options.host,
        "spa": options.spa,
        "ftp": options.ftp,
        "name": options.name,
    }
    if options.basic_auth_username:
        entry["basic_auth"] = {"username": options.basic_auth_username, "password": password}
    written = {**static_app(entry), "instances": options.instances}
    app = make_app(written, path=os.path.join(path, "serve"), number=0, env_name=None, warnings=[])._replace(source="")
    if options.no_daemon:
        refuse_running_daemon()
    ensure_daemon(Home.of_user())
    ask("start", show_progress, apps=[app.to_record()], env=shell_environment(), replaces=options.replace)
    show_list()
    if options.no_daemon:
        follow_logs(ends_all=True)
    return 0
