"use strict";
/* The parts of the page: tiles, tables whose rows stay where they are, events, a log. */
percore.views = (() => {
  const { make, setText, setClass, format } = percore;
  const sum = (rows, key) => {
    const known = rows.map((row) => row[key]).filter(format.known);
    return known.length ? known.reduce((total, one) => total + one, 0) : null;
  };
  const TROUBLED = ["fatal", "backoff", "crash-looping"];
  const gradeOfState = (state, isUp) => TROUBLED.includes(state) ? "bad" : isUp ? "good" : state === "stopped" || state === "exited" ? "" : "warn";
  const gradeOfApp = (app) => {
    if (Object.keys(app.states).some((state) => TROUBLED.includes(state))) return "bad";
    if (app.up < app.wanted && !app.is_job) return "warn";
    return app.wanted || app.up ? (app.problem ? "warn" : "good") : "";
  };
  const gradeOfHost = (host) => {
    if (host.problem) return "bad";
    const grades = host.apps.map(gradeOfApp);
    return grades.includes("bad") ? "bad" : grades.includes("warn") ? "warn" : "good";
  };
  const isTroubled = (app) => ["bad", "warn"].includes(gradeOfApp(app));

  class Tiles {
    constructor(titles) {
      this.parts = titles.map((title) => {
        const value = make("dd", { class: "value" }, format.none), note = make("dd", { class: "note" });
        return { value, note, element: make("div", { class: "tile" }, make("dt", {}, title), value, note) };
      });
      this.element = make("dl", { class: "tiles" }, ...this.parts.map((part) => part.element));
    }

    update(figures) {
      figures.forEach(([value, note = "", grade = ""], place) => {
        const part = this.parts[place];
        setText(part.value, value);
        setClass(part.value, `value ${grade}`);
        setText(part.note, note);
      });
    }
  }

  /* `columns`: {key, title, class, show(row) -> text or element, order(row)}; rows are kept by their key. */
  class Table {
    constructor(caption, columns, onSort) {
      this.columns = columns;
      this.rows = new Map();
      this.order = "";
      this.heads = columns.map((column) => {
        const inner = column.order ? make("button", { type: "button", onclick: () => onSort(column) }, column.title) : column.title;
        return make("th", { scope: "col", class: column.class || "" }, inner);
      });
      this.body = make("tbody");
      this.element = make("table", {}, make("caption", { class: "unseen" }, caption), make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    }

    update(rows, sort) {
      this.columns.forEach((column, place) => {
        if (sort && column.key === sort.key) this.heads[place].setAttribute("aria-sort", sort.down ? "descending" : "ascending");
        else this.heads[place].removeAttribute("aria-sort");
      });
      const wanted = new Set(rows.map((row) => row.key));
      for (const [key, kept] of this.rows) if (!wanted.has(key)) { kept.element.remove(); this.rows.delete(key); }
      for (const row of rows) this.put(row);
      const order = rows.map((row) => row.key).join("\n");
      if (order !== this.order) this.arrange(rows);
      this.order = order;
    }

    /* Moving an element takes the focus away, so only what is not in its place is moved. */
    arrange(rows) {
      let next = this.body.firstChild;
      for (const row of rows) {
        const { element } = this.rows.get(row.key);
        if (element === next) next = next.nextSibling;
        else this.body.insertBefore(element, next);
      }
    }

    put(row) {
      let kept = this.rows.get(row.key);
      if (!kept) {
        const cells = this.columns.map((column) => make("td", { class: column.class || "" }));
        kept = { cells, element: make("tr", {}, ...cells), signs: [] };
        this.rows.set(row.key, kept);
      }
      setClass(kept.element, row.class || "");
      this.columns.forEach((column, place) => {
        const shown = column.show(row, kept.cells[place]);
        if (shown instanceof Array) {
          const [sign, build] = shown;
          if (kept.signs[place] !== sign) { kept.signs[place] = sign; kept.cells[place].replaceChildren(...build()); }
        } else setText(kept.cells[place], shown);
      });
    }
  }

  class Events {
    constructor() {
      this.list = make("ul", { class: "events", tabindex: "0", "aria-label": "Events" });
      this.empty = make("p", { class: "empty" }, "No events yet.");
      this.element = make("section", { class: "panel", "aria-label": "Events" }, make("header", {}, make("h2", {}, "Events")), this.list, this.empty);
      this.sign = "";
    }

    update(events, isFleet) {
      this.list.hidden = !events.length;
      this.empty.hidden = Boolean(events.length);
      const sign = `${events.length} ${events.length ? events[0].number : 0}`;
      if (sign === this.sign) return;
      this.sign = sign;
      this.list.replaceChildren(...events.map((event) => this.line(event, isFleet)));
    }

    line(event, isFleet) {
      const whose = [isFleet || !event.app ? event.host : "", event.app].filter(Boolean).join(" ");
      const day = new Date(event.at * 1000);
      return make("li", {}, make("time", { datetime: day.toISOString(), title: day.toLocaleString() }, format.clock(event.at)),
        make("span", { class: "whose" }, whose), make("span", { class: `what ${event.kind}` }, event.text, event.times > 1 ? make("span", { class: "dim" }, ` (${event.times} times)`) : null));
    }
  }

  /* The last lines of a worker's log; `ask(parameters)` fetches them. */
  class Log {
    constructor(ask) {
      this.ask = ask;
      this.asked = 0;
      this.sign = "";
      this.worker = make("select", { onchange: () => this.refresh() });
      this.stream = make("select", { onchange: () => this.refresh() },
        ...[["all", "output and errors"], ["out", "output"], ["err", "errors"]].map(([value, text]) => make("option", { value }, text)));
      this.search = make("input", { type: "search", placeholder: "text in a line", maxlength: "200", oninput: () => this.later() });
      this.follow = make("input", { type: "checkbox", checked: true });
      this.lines = make("div", { class: "log", role: "region", tabindex: "0", "aria-label": "Lines of the log" });
      this.note = make("span", { class: "dim" });
      this.element = make("section", { class: "panel", "aria-label": "Log" },
        make("header", {}, make("h2", {}, "Log"),
          make("label", {}, "Worker", this.worker), make("label", {}, "Stream", this.stream),
          make("label", { class: "wide" }, "Search", this.search), make("label", {}, this.follow, "follow"), make("span", { class: "grow" }), this.note),
        this.lines);
    }

    setWorkers(slots) {
      const sign = slots.join(" ");
      if (this.worker.dataset.sign === sign) return;
      const chosen = this.worker.value;
      this.worker.dataset.sign = sign;
      this.worker.replaceChildren(...slots.map((slot) => make("option", { value: slot }, String(slot))));
      if (slots.map(String).includes(chosen)) this.worker.value = chosen;
      else this.refresh();
    }

    show(slot) {
      this.worker.value = String(slot);
      this.refresh();
      this.element.scrollIntoView({ block: "nearest" });
      this.lines.focus({ preventScroll: true });
    }

    later() { clearTimeout(this.timer); this.timer = setTimeout(() => this.refresh(), 300); }
    tick() { if (this.follow.checked) this.refresh(); }

    async refresh() {
      if (this.worker.value === "") return;
      const number = (this.asked += 1);
      const parameters = { worker: this.worker.value, stream: this.stream.value, search: this.search.value.trim(), lines: 300 };
      let reply;
      try { reply = await this.ask(parameters); } catch (error) { reply = { lines: [], problem: error.message }; }
      if (number === this.asked) this.draw(reply, parameters.search);
    }

    draw(reply, search) {
      const count = `${reply.lines.length} ${reply.lines.length === 1 ? "line" : "lines"}`;
      setText(this.note, reply.problem || (search ? `${count} with “${search}”` : `last ${count}`));
      setClass(this.note, reply.problem ? "bad" : "dim");
      const sign = JSON.stringify([search, reply.lines]);
      if (sign === this.sign) return;
      this.sign = sign;
      const isAtEnd = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 40;
      if (reply.lines.length) this.lines.replaceChildren(...reply.lines.map((line) => this.line(line, search)));
      else this.lines.replaceChildren(make("p", { class: "empty" }, reply.problem ? "The log cannot be shown." : search ? "No line has this text." : "The log is empty."));
      if (isAtEnd) this.lines.scrollTop = this.lines.scrollHeight;
    }

    line({ stream, text }, search) {
      const element = make("div", { class: stream === "err" ? "err" : "" }, make("span", { class: "stream" }, stream === "err" ? "err " : "out "));
      const low = text.toLowerCase(), wanted = search.toLowerCase();
      let at = 0;
      for (let found = wanted ? low.indexOf(wanted) : -1; found >= 0; found = low.indexOf(wanted, at)) {
        element.append(text.slice(at, found), make("mark", {}, text.slice(found, found + wanted.length)));
        at = found + wanted.length;
      }
      element.append(text.slice(at));
      return element;
    }
  }

  return { sum, gradeOfState, gradeOfApp, gradeOfHost, isTroubled, Tiles, Table, Events, Log };
})();
