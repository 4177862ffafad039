"use strict";
/* Routes, polling and orders. A report has all its answers in the page itself; then nothing is fetched. */
(() => {
  const { make, setText, setClass, format } = percore;
  const { sum, gradeOfState, gradeOfApp, gradeOfHost, isTroubled, Tiles, Table, Events, Log } = percore.views;
  const byId = (id) => document.getElementById(id);
  const stored = byId("report");
  const report = stored ? JSON.parse(stored.textContent) : null;
  const MANY_HOSTS = 8;
  const MANY_WORKERS = 16;
  const PATIENCE = 15000;

  const state = { snapshot: null, span: 300, isPaused: false, token: "", lost: "", lostAt: 0, page: null, route: "" };

  // -- the server -----------------------------------------------------------------------------------------------------

  const address = (path, parameters) => {
    const query = new URLSearchParams(parameters).toString();
    return query ? `${path}?${query}` : path;
  };

  class Refused extends Error {
    constructor(text, status) { super(text); this.status = status; }
  }

  const fetchJson = async (path, parameters = {}, options = {}) => {
    if (report) return report[[path, parameters.host || "", parameters.app || ""].join("\n")] || {};
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), PATIENCE);
    try {
      const response = await fetch(address(path, parameters), { ...options, signal: abort.signal, headers: { Accept: "application/json", ...options.headers } });
      if (response.status === 401) { location.assign("login"); throw new Refused("Log in again.", 401); }
      const content = await response.json().catch(() => null); // it may end in the middle
      if (!response.ok) {
        const { error, next } = content || { error: `the server answered ${response.status}` };
        throw new Refused(next ? `${error} → ${next}` : error, response.status);
      }
      if (content === null) throw new Error("unfinished");
      return content;
    } catch (error) {
      if (error instanceof Refused) throw error;
      throw new Error("no answer from the server of this page");
    } finally {
      clearTimeout(timer);
    }
  };

  const send = async (order) => {
    if (!state.token) state.token = (await fetchJson("session")).token;
    await fetchJson("api/orders", {}, { method: "POST", body: JSON.stringify(order), headers: { "Content-Type": "application/json", "X-Percore-Token": state.token } });
  };

  const begin = async (order) => {
    try {
      await send(order).catch((error) => {
        if (error.status !== 403) throw error;
        state.token = ""; // the server is another one since the page was opened
        return send(order);
      });
      say(`${order.verb} of ${order.app} begun`);
    } catch (error) {
      notice(`${order.verb} of ${order.app}: ${error.message}`);
    }
    refresh();
  };

  const say = (text) => { setText(byId("said"), text); };
  let noticeTimer = 0;
  const notice = (text) => {
    clearTimeout(noticeTimer);
    state.notice = text;
    noticeTimer = setTimeout(() => { state.notice = ""; showBanner(); }, 12000);
    showBanner();
  };

  // -- the parts of every page ------------------------------------------------------------------------------------------

  const showBanner = () => {
    const banner = byId("banner");
    const hosts = state.snapshot ? state.snapshot.hosts : [];
    const gone = hosts.filter((host) => host.problem);
    const parts = [];
    if (state.notice) parts.push(state.notice);
    if (state.lost) parts.push(`${state.lost} since ${format.clock(state.lostAt / 1000)}; trying again`);
    else if (gone.length === 1 && hosts.length === 1) {
      parts.push(`${gone[0].problem}.`);
      if (gone[0].next) parts.push("Type:", make("code", {}, gone[0].next));
    } else if (gone.length) parts.push(`No figures of ${gone.length} of ${hosts.length} hosts: ${gone.slice(0, 5).map((host) => host.name).join(", ")}${gone.length > 5 ? " …" : ""}`);
    const sign = parts.map((part) => part.textContent || part).join(" ");
    banner.hidden = !parts.length;
    if (banner.dataset.sign !== sign) {
      banner.dataset.sign = sign;
      banner.replaceChildren(...parts.flatMap((part) => [part, " "]));
    }
    const isGone = hosts.length > 0 && gone.length === hosts.length;
    document.body.classList.toggle("stale", Boolean(state.lost) || isGone);
    const live = byId("live");
    setText(live, report ? `at ${new Date(state.snapshot.at * 1000).toLocaleString()}` : state.lost ? "no connection" : isGone ? "no figures" : state.isPaused ? "paused" : "live");
    setClass(live, `live ${state.lost || isGone ? "bad" : state.isPaused || report ? "" : "good"}`);
  };

  const charts = { seconds: 0, subject: "", since: 0, kept: null };

  /* Only what is new is fetched; what is older than the span goes. */
  const fetchHistory = async (parameters) => {
    const subject = JSON.stringify(parameters);
    const isNew = charts.subject !== subject || charts.seconds !== state.span || !charts.kept;
    const asked = { ...parameters, seconds: state.span };
    const reply = await fetchJson("api/history", report || isNew ? asked : { ...asked, since: charts.since });
    if (isNew || report) Object.assign(charts, { subject, seconds: state.span, kept: reply });
    else append(charts.kept, reply);
    if (reply.at && reply.at.length) charts.since = reply.at[reply.at.length - 1];
    return charts.kept;
  };

  const append = (kept, more) => {
    const before = kept.at.length;
    const drop = Math.max(0, before + more.at.length - Math.floor(state.span / kept.step) + 1);
    const join = (old, added, count) => (old || Array(count).fill(null)).concat(added || Array(more.at.length).fill(null)).slice(drop);
    kept.at = join(kept.at, more.at, 0);
    for (const key of Object.keys(kept.values)) kept.values[key] = join(kept.values[key], more.values[key], before);
    const parts = {};
    for (const name of new Set([...Object.keys(kept.parts), ...Object.keys(more.parts)])) {
      const old = kept.parts[name] || {}, added = more.parts[name] || {};
      parts[name] = {};
      for (const key of Object.keys(kept.values)) parts[name][key] = join(old[key], added[key], before);
    }
    kept.parts = parts;
  };

  const sorted = (rows, columns, sort) => {
    const { order } = columns.find((column) => column.key === sort.key);
    const value = (row) => { const found = order(row); return found === null || found === undefined ? -1 : found; };
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    return [...rows].sort((a, b) => (sort.down ? -1 : 1) * compare(value(a), value(b)) || compare(a.key, b.key));
  };

  const sortBy = (sort, column) => {
    if (sort.key === column.key) sort.down = !sort.down;
    else Object.assign(sort, { key: column.key, down: !column.isText });
  };

  const link = (host, app) => `#/app/${encodeURIComponent(host)}/${encodeURIComponent(app)}`;
  const badge = (grade, text) => make("span", { class: `state ${grade}` }, text);

  // -- all apps -------------------------------------------------------------------------------------------------------------

  class Overview {
    /* Of all hosts, or of one. */
    constructor(host) {
      this.host = host;
      this.filter = "";
      this.only = "all";
      this.sort = { key: "name", down: false };
      this.unfolded = new Set();
      this.charts = new percore.charts.Charts();
      this.events = new Events();
      this.isFleet = state.snapshot.is_fleet && !host;
      this.tiles = new Tiles([...(this.isFleet ? ["Hosts"] : []), "Apps", "Workers", "CPU", "Memory", "Connections", "Accept queue", "Restarts", "Reloads"]);
      this.columns = this.makeColumns();
      this.table = new Table(this.isFleet ? "Hosts and apps" : "Apps", this.columns, (column) => { sortBy(this.sort, column); this.showRows(); });
      this.search = make("input", { type: "search", "aria-label": this.isFleet ? "Filter by name of host or app" : "Filter by name", placeholder: "Filter (press /)", maxlength: "200", oninput: () => { this.filter = this.search.value.trim().toLowerCase(); this.showRows(); } });
      this.choice = make("select", { "aria-label": "Show", onchange: () => { this.only = this.choice.value; this.showRows(); } },
        ...[["all", "all"], ["troubled", "with problems"]].map(([value, text]) => make("option", { value }, text)));
      this.count = make("span", { class: "dim" });
      this.empty = make("p", { class: "empty" });
      this.element = make("div", { class: "view" }, ...this.heading(), this.tiles.element, this.charts.element,
        make("section", { class: "panel", "aria-label": this.isFleet ? "Hosts and apps" : "Apps" },
          make("header", {}, make("h2", {}, this.isFleet ? "Hosts and apps" : "Apps"), this.search, this.choice, make("span", { class: "grow" }), this.count),
          make("div", { class: "scroll" }, this.table.element), this.empty),
        this.events.element);
    }

    heading() {
      const title = make("h1", { class: this.host ? "" : "unseen" }, this.host || state.snapshot.title);
      return this.host ? [make("div", { class: "heading" }, make("a", { class: "crumb", href: "#/" }, "‹ All hosts"), title)] : [title];
    }

    makeColumns() {
      const figure = (key, title, show, extra = {}) => ({ key, title, show: (row) => show(row[key]), order: (row) => row[key], ...extra });
      return [
        { key: "name", title: "Name", class: "text name", isText: true, order: (row) => row.name, show: (row) => this.nameCell(row) },
        { key: "workers", title: "Workers", order: (row) => row.up - row.wanted, show: (row) => { const text = row.isHost && !row.wanted && !row.up ? format.none : `${row.up}/${Math.max(row.wanted, row.up)}`; return [`${row.grade} ${text}`, () => [badge(row.grade, text)]]; } },
        figure("cpu", "CPU", format.percent),
        figure("memory", "Memory", format.bytes),
        figure("open", "Conns", format.number, { class: "p2" }),
        figure("queue", "Queue", format.number, { class: "p2" }),
        figure("accepted", "Acc/s", format.rate, { class: "p2" }),
        figure("restarts", "Restarts", format.number, { class: "p2" }),
        figure("reloads", "Reloads", format.number, { class: "p3" }),
        { key: "uptime", title: "Up", class: "p2", order: (row) => row.uptime, show: (row) => (row.uptime ? format.duration(row.uptime) : format.none) },
        { key: "release", title: "Release", class: "text p3", isText: true, order: (row) => row.release || "", show: (row) => (row.release || format.none).slice(0, 24) },
      ];
    }

    nameCell(row) {
      const isOpen = row.isHost && this.isUnfolded(row);
      const more = [`${format.number(row.open)} conns`, `${format.number(row.queue)} queued`, `${row.restarts} restarts`].join(" · ");
      const sign = [row.name, isOpen, row.problem, more].join("\n");
      return [sign, () => [
        row.isHost ? make("button", { type: "button", class: "fold", "aria-expanded": String(isOpen), "aria-label": `Apps of ${row.name}`, onclick: (event) => this.fold(row, event.currentTarget) }) : null,
        make("a", { href: row.isHost ? `#/host/${encodeURIComponent(row.name)}` : link(row.host, row.name) }, row.name),
        make("span", { class: "more" }, more),
        row.problem ? make("span", { class: "problem", title: row.problem }, row.problem) : null,
      ].filter(Boolean)];
    }

    isUnfolded(row) { return this.unfolded.has(row.name) !== (this.hostCount <= MANY_HOSTS) || row.isFound; }

    fold(row, button) {
      if (!this.unfolded.delete(row.name)) this.unfolded.add(row.name);
      this.showRows();
      const again = this.table.rows.get(row.key);
      if (again && !button.isConnected) again.element.querySelector("button").focus();
    }

    rowOfApp(host, app) {
      return { ...app, key: `a ${host.name}\n${app.name}`, host: host.name, grade: gradeOfApp(app), class: this.isFleet ? "member" : "" };
    }

    rowOfHost(host, isFound) {
      const apps = host.apps;
      const figures = {};
      for (const key of ["wanted", "up", "cpu", "memory", "open", "queue", "accepted", "restarts", "reloads"]) figures[key] = sum(apps, key);
      const releases = new Set(apps.map((app) => app.release).filter(Boolean));
      return { ...figures, up: figures.up || 0, wanted: figures.wanted || 0, restarts: figures.restarts || 0, name: host.name, key: `h ${host.name}`, isHost: true, isFound, problem: host.problem, grade: gradeOfHost(host), class: "host",
        uptime: apps.length ? Math.min(...apps.map((app) => app.uptime)) : 0, release: releases.size === 1 ? [...releases][0] : releases.size ? `${releases.size} releases` : "" };
    }

    rows() {
      const wanted = (app) => this.only === "all" || isTroubled(app);
      const matches = (name) => !this.filter || name.toLowerCase().includes(this.filter);
      const hosts = this.hosts();
      const appRows = (host, isAll) => sorted(host.apps.filter((app) => wanted(app) && (isAll || matches(app.name))).map((app) => this.rowOfApp(host, app)), this.columns, this.sort);
      if (!this.isFleet) return hosts.flatMap((host) => appRows(host, false));
      const groups = hosts.map((host) => {
        const isNamed = matches(host.name);
        const apps = appRows(host, isNamed);
        const isFound = Boolean(this.filter) && !isNamed && apps.length > 0;
        const isShown = this.only === "all" ? isNamed || apps.length > 0 : (isNamed && host.problem) || apps.length > 0;
        return { apps, isShown, ...this.rowOfHost(host, isFound || (this.only !== "all" && apps.length > 0)) };
      }).filter((group) => group.isShown);
      this.shown = groups.reduce((count, group) => count + group.apps.length, 0);
      return sorted(groups, this.columns, this.sort).flatMap(({ apps, ...row }) => [row, ...(this.isUnfolded(row) ? apps : [])]);
    }

    hosts() { return state.snapshot.hosts.filter((host) => !this.host || host.name === this.host); }

    showRows() {
      this.hostCount = this.hosts().length;
      const rows = this.rows();
      this.table.update(rows, this.sort);
      const total = this.hosts().reduce((count, host) => count + host.apps.length, 0);
      const shown = this.isFleet ? this.shown : rows.length;
      const hostWords = `${this.hostCount} ${this.hostCount === 1 ? "host" : "hosts"}`;
      const isFiltered = this.filter || this.only !== "all";
      const words = `${total} ${total === 1 ? "app" : "apps"}`;
      setText(this.count, isFiltered ? `${shown} of ${words}` : this.isFleet ? `${hostWords}, ${words}` : words);
      this.table.element.parentElement.hidden = !rows.length;
      this.empty.hidden = rows.length > 0;
      if (rows.length) return;
      const isEmpty = total === 0 && !this.filter;
      this.empty.replaceChildren(...(this.only === "troubled" && !this.filter && total ? ["No app has a problem."]
        : isEmpty ? (this.hosts().some((host) => host.problem) ? ["Nothing is known of apps."] : ["No app runs here yet. Type: ", make("code", {}, this.isFleet ? "invoke deploy" : "percore start FILE")])
        : ["No name has this text."]));
    }

    async update() {
      const { snapshot } = state;
      const hosts = this.hosts();
      const apps = hosts.flatMap((host) => host.apps);
      const up = sum(apps, "up") || 0, wanted = apps.reduce((count, app) => count + Math.max(app.wanted, app.up), 0);
      const cores = sum(hosts, "cores"), memory = sum(hosts, "memory_bytes"), queue = sum(apps, "queue");
      const bad = apps.filter(isTroubled).length;
      const answering = hosts.filter((host) => !host.problem).length;
      this.tiles.update([
        ...(this.isFleet ? [[`${answering}/${hosts.length}`, answering < hosts.length ? `${hosts.length - answering} unreachable` : "all reachable", answering < hosts.length ? "bad" : ""]] : []),
        [format.number(apps.length), bad ? `${bad} with problems` : "", bad ? "warn" : ""],
        [`${up}/${wanted}`, up < wanted ? `${wanted - up} missing` : "all up", up < wanted ? "bad" : ""],
        [format.percent(sum(apps, "cpu") || 0), cores ? `of ${cores * 100} %` : ""],
        [format.bytes(sum(apps, "memory") || 0), memory ? `of ${format.bytes(memory)}` : ""],
        [format.number(sum(apps, "open")), `${format.rate(sum(apps, "accepted"))} new/s`],
        [format.number(queue), "", queue > 0 ? "warn" : ""],
        [format.number(sum(apps, "restarts") || 0), "in all"],
        [format.number(sum(apps, "reloads") || 0), "in all"],
      ]);
      this.showRows();
      const own = this.host ? snapshot.events.filter((event) => event.host === this.host) : snapshot.events;
      this.events.update(own, this.isFleet);
      const history = await fetchHistory(this.host ? { host: this.host } : {});
      if (state.page === this && history.at) this.charts.update(history, false);
    }
  }

  const causes = (counts) => ["crash", "exit", "memory", "unhealthy", "stranded"].filter((cause) => counts[cause]).map((cause) => `${counts[cause]} ${cause}`).join(", ");

  // -- one app --------------------------------------------------------------------------------------------------------------

  class AppPage {
    constructor(host, name) {
      this.host = host;
      this.name = name;
      this.sort = { key: "slot", down: false };
      this.charts = new percore.charts.Charts();
      this.events = new Events();
      this.title = make("h1", {}, name);
      this.badge = make("span", { class: "state" });
      this.facts = make("p", { class: "facts" });
      this.buttons = make("div", { class: "buttons" });
      this.problem = make("p", { class: "problem", hidden: true });
      this.tiles = new Tiles(["Workers", "CPU", "Memory", "Connections", "Accept queue", "Restarts", "Reloads", "Up"]);
      this.log = new Log((parameters) => fetchJson("api/log", { host, app: name, ...parameters }));
      this.log.element.hidden = Boolean(report);
      this.columns = this.makeColumns();
      this.table = new Table("Workers", this.columns, (column) => { sortBy(this.sort, column); this.showWorkers(); });
      this.workers = [];
      this.split = make("button", { type: "button", "aria-pressed": "true", onclick: () => this.toggleParts() }, "By worker");
      this.isSplit = null;
      const isFleet = state.snapshot.is_fleet;
      this.element = make("div", { class: "view" },
        make("div", { class: "heading" },
          make("a", { class: "crumb", href: isFleet ? `#/host/${encodeURIComponent(host)}` : "#/" }, isFleet ? `‹ ${host}` : "‹ All apps"),
          this.title, this.badge, make("span", { class: "grow" }), isFleet ? null : this.split, this.buttons, this.facts),
        this.problem, this.tiles.element, this.charts.element,
        make("section", { class: "panel", "aria-label": "Workers" }, make("header", {}, make("h2", {}, "Workers")), make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Table of workers" }, this.table.element)),
        this.log.element, this.events.element);
    }

    makeColumns() {
      const figure = (key, title, show, extra = {}) => ({ key, title, show: (row) => show(row[key]), order: (row) => row[key], ...extra });
      const more = (row) => `${format.number(row.open)} conns · ${format.number(row.queue)} queued · ${row.restarts} restarts`;
      const stateCell = (row) => [[row.grade, row.state, row.failure, more(row)].join("\n"), () => [badge(row.grade, row.state), make("span", { class: "more" }, more(row)), row.failure ? make("span", { class: "problem", title: row.failure }, row.failure) : null].filter(Boolean)];
      return [
        { key: "slot", title: "Worker", class: "text", order: (row) => row.slot, show: (row) => String(row.slot) },
        { key: "state", title: "State", class: "text name", isText: true, order: (row) => row.state, show: stateCell },
        { key: "pid", title: "Pid", class: "p2", order: (row) => row.pid, show: (row) => (row.pid ? String(row.pid) : format.none) },
        figure("cpu", "CPU", format.percent),
        figure("memory", "Memory", format.bytes),
        figure("open", "Conns", format.number, { class: "p2" }),
        figure("queue", "Queue", format.number, { class: "p2" }),
        figure("accepted", "Accepted", format.number, { class: "p3" }),
        figure("rate", "Acc/s", format.rate, { class: "p2" }),
        figure("restarts", "Restarts", format.number, { class: "p2" }),
        { key: "uptime", title: "Up", class: "p2", order: (row) => row.uptime, show: (row) => (row.pid ? format.duration(row.uptime) : format.none) },
        ...(report ? [] : [{ key: "log", title: "Log", show: (row) => ["log", () => [make("button", { type: "button", class: "small", "aria-label": `Log of worker ${row.slot}`, onclick: () => this.log.show(row.slot) }, "Log")]] }]),
      ];
    }

    toggleParts() { this.isSplit = !this.isSplit; this.showCharts(); }

    showWorkers() {
      const rows = this.workers.map((worker) => ({ ...worker, key: String(worker.slot), grade: gradeOfState(worker.state, worker.is_up) }));
      this.table.update(sorted(rows, this.columns, this.sort), this.sort);
    }

    showCharts() {
      this.split.setAttribute("aria-pressed", String(Boolean(this.isSplit)));
      if (this.history && this.history.at) this.charts.update(this.history, Boolean(this.isSplit));
    }

    find() {
      const host = state.snapshot.hosts.find((one) => one.name === this.host);
      return { host, app: host && host.apps.find((one) => one.name === this.name) };
    }

    showButtons(app) {
      const order = state.snapshot.orders.find((one) => one.host === this.host && one.app === this.name);
      const mayAct = state.snapshot.may_act && !report;
      const sign = `${mayAct} ${order ? order.verb : ""} ${app.is_job}`;
      if (this.buttons.dataset.sign === sign) return;
      this.buttons.dataset.sign = sign;
      if (!mayAct) return this.buttons.replaceChildren();
      const verbs = app.is_job ? [] : [["reload", "Reload"], ["restart", "Restart"], ["scale", "Scale"]];
      this.buttons.replaceChildren(...verbs.map(([verb, text]) => make("button", { type: "button", disabled: Boolean(order), onclick: () => confirmOrder({ host: this.host, app: this.name, verb }, this.find().app) },
        order && order.verb === verb ? `${text} …` : text)));
    }

    async update() {
      const { app } = this.find();
      const events = state.snapshot.events.filter((event) => event.host === this.host && event.app === this.name);
      this.events.update(events, false);
      this.element.classList.toggle("gone", !app);
      if (!app) {
        setText(this.facts, "This app is not known any more.");
        setText(this.badge, "gone");
        return;
      }
      const grade = gradeOfApp(app);
      setClass(this.badge, `state ${grade}`);
      setText(this.badge, grade === "good" ? "running" : grade === "" ? "stopped" : grade === "warn" ? "degraded" : "failing");
      const facts = [`${app.mode} mode`, app.addresses.length ? `listens on ${app.addresses.slice(0, 4).join(", ")}` : "", app.release ? `release ${app.release}` : "", app.is_job ? "a job" : ""];
      setText(this.facts, facts.filter(Boolean).join(" · "));
      this.problem.hidden = !app.problem;
      setText(this.problem, app.problem);
      this.showButtons(app);
      const wanted = Math.max(app.wanted, app.up);
      this.tiles.update([
        [`${app.up}/${wanted}`, app.up < wanted ? `${wanted - app.up} missing` : "all up", app.up < wanted ? "bad" : ""],
        [format.percent(app.cpu)], [format.bytes(app.memory), app.up ? `${format.bytes(app.memory / app.up)} each` : ""],
        [format.number(app.open), `${format.rate(app.accepted)} new/s`], [format.number(app.queue), "", app.queue > 0 ? "warn" : ""],
        [format.number(app.restarts), causes(app.counts) || "in all"], [format.number(app.reloads), app.counts.reload_failed ? `${app.counts.reload_failed} failed` : "in all"], [app.uptime ? format.duration(app.uptime) : format.none, "the youngest"],
      ]);
      const [detail, history] = await Promise.all([
        fetchJson("api/app", { host: this.host, app: this.name }),
        fetchHistory({ host: this.host, app: this.name, parts: state.snapshot.is_fleet ? 0 : 1 }),
      ]);
      if (state.page !== this) return;
      this.workers = detail.workers || [];
      if (this.isSplit === null) this.isSplit = this.workers.length > 1 && this.workers.length <= MANY_WORKERS;
      this.history = history;
      this.split.hidden = this.workers.length < 2;
      this.showWorkers();
      this.showCharts();
      if (report) return;
      this.log.setWorkers(this.workers.map((worker) => worker.slot).sort((a, b) => a - b));
      this.log.tick();
    }
  }

  // -- orders ---------------------------------------------------------------------------------------------------------------

  const CONSEQUENCES = {
    reload: "Worker by worker is replaced. Each ends when the new one is ready, so no request is lost where the port is shared.",
    restart: "All workers end, then start again. Requests that they work on may be lost.",
    scale: "Workers are added or removed. The next deploy sets the number of the process file again.",
  };

  const confirmOrder = (order, app) => {
    const dialog = byId("dialog"), count = byId("count"), confirm = byId("confirm");
    const verb = order.verb[0].toUpperCase() + order.verb.slice(1);
    setText(byId("question"), `${verb} ${order.app}${state.snapshot.is_fleet ? ` on ${order.host}` : ""}?`);
    setText(byId("consequence"), CONSEQUENCES[order.verb]);
    setText(confirm, verb);
    setClass(confirm, order.verb === "restart" ? "danger" : "primary");
    byId("count-label").hidden = order.verb !== "scale";
    count.value = app ? app.workers : 1;
    count.disabled = order.verb !== "scale";
    dialog.returnValue = "";
    dialog.onclose = () => {
      if (dialog.returnValue === "yes") begin(order.verb === "scale" ? { ...order, workers: count.value } : order);
    };
    dialog.showModal();
    (order.verb === "scale" ? count : dialog.querySelector("button[value=no]")).focus();
  };

  // -- the loop -------------------------------------------------------------------------------------------------------------

  const route = () => {
    const [kind, ...names] = location.hash.replace(/^#\/?/, "").split("/");
    return { kind, names: names.map(decodeURIComponent) };
  };

  const open = () => {
    if (location.hash && !location.hash.startsWith("#/")) return;
    if (!state.snapshot || (state.page && state.route === location.hash)) return;
    const { kind, names } = route();
    if (state.page) state.page.charts.drop();
    const isMove = Boolean(state.page);
    state.route = location.hash;
    state.page = kind === "app" && names.length === 2 ? new AppPage(...names) : new Overview(kind === "host" ? names[0] : "");
    charts.kept = null;
    byId("main").replaceChildren(...state.page.element.childNodes);
    document.title = `${kind === "app" ? `${names[1]} – ` : names[0] ? `${names[0]} – ` : ""}${state.snapshot.title} – percore`;
    if (isMove) { window.scrollTo(0, 0); byId("main").focus(); }
    update();
  };

  const update = async () => {
    try { await state.page.update(); } catch (error) { if (!(error instanceof Refused)) lose(error); }
    showBanner();
  };

  const lose = (error) => {
    if (!state.lost) { state.lostAt = Date.now(); say(error.message); }
    state.lost = error.message;
    showBanner();
    if (!state.snapshot) byId("main").replaceChildren(make("p", { class: "empty" }, "Nothing came yet: the server of this page does not answer."));
  };

  let isBusy = false;
  const refresh = async () => {
    if (isBusy) return;
    isBusy = true;
    try {
      state.snapshot = await fetchJson("api/snapshot");
      if (state.lost) say("the connection is back");
      state.lost = "";
      setText(byId("title"), state.snapshot.title);
      if (!state.page) open(); else await update();
      showBanner();
    } catch (error) {
      lose(error);
    } finally {
      isBusy = false;
    }
  };

  const tick = async () => {
    if (!state.isPaused && !document.hidden) await refresh();
    if (!report) setTimeout(tick, 1000 * (state.snapshot ? state.snapshot.every : 2));
  };

  for (const button of document.querySelectorAll("[data-span]")) {
    button.addEventListener("click", () => {
      state.span = Number(button.dataset.span);
      for (const one of document.querySelectorAll("[data-span]")) one.setAttribute("aria-pressed", String(one === button));
      if (state.page) update();
    });
  }
  byId("pause").addEventListener("click", (event) => {
    state.isPaused = !state.isPaused;
    event.currentTarget.setAttribute("aria-pressed", String(state.isPaused));
    if (!state.isPaused) refresh(); else showBanner();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    const search = document.querySelector("main input[type=search]");
    if (event.key === "/" && !isTyping && search) { event.preventDefault(); search.focus(); }
  });
  window.addEventListener("hashchange", open);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !state.isPaused) refresh(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (state.page) state.page.charts.redraw(); });
  if (report) for (const part of document.querySelectorAll("#pause, .choice")) part.hidden = true;
  else fetchJson("session").then((session) => { state.token = session.token; byId("logout").hidden = !session.logs_out; }).catch(() => {});
  tick();
})();
