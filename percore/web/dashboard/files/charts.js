"use strict";
/* Small charts of one figure each, drawn by uPlot; all of a page share the cursor. */
percore.charts = (() => {
  const { make, setText, format } = percore;
  const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
  const MOST_LINES = 64;
  const NAMED_LINES = 8;
  const KINDS = [
    { key: "cpu", title: "CPU", show: format.percent, least: 10 },
    { key: "memory", title: "Memory", show: format.bytes, least: 1 << 20, binary: true },
    { key: "open", title: "Connections", show: format.number, least: 4 },
    { key: "queue", title: "Accept queue", show: format.number, least: 4 },
    { key: "accepted", title: "Accepted per second", show: format.rate, least: 4 },
    { key: "restarts", title: "Restarts and reloads", show: format.number, least: 2, bars: ["restarts", "reloads"] },
  ];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* Round steps of a scale: of memory in powers of two, so that labels are whole. */
  const increments = (kind) => {
    const found = [];
    if (kind.binary) for (let power = 10; power < 50; power += 1) found.push(2 ** power);
    else for (let power = 0; power < 12; power += 1) for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    return found;
  };

  const TIME_STEPS = [10, 30, 60, 120, 300, 600, 900, 1800, 3600];

  /* None at the very left, where it would touch the labels of the other axis. */
  const times = ({ min, max }, splits) => splits.map((at) => ((at - min) / (max - min) < 0.07 ? "" : format.clock(at, splits.length > 1 && splits[1] - splits[0] < 60)));

  class Chart {
    constructor(kind) {
      this.kind = kind;
      this.reading = make("span", { class: "reading" });
      this.plot = make("div", { class: "plot", "aria-hidden": "true" });
      this.element = make("figure", { class: "chart" },
        make("figcaption", {}, make("h2", {}, kind.title), this.reading), this.plot);
      this.uplot = null;
      this.names = "";
      this.sized = new ResizeObserver(() => this.resize());
      this.sized.observe(this.plot);
    }

    /* `lines`: [{name, values}] over the times `at`. */
    update(at, lines) {
      this.lines = lines.slice(0, MOST_LINES);
      this.at = at;
      const names = this.lines.map((line) => line.name).join("\n");
      if (!window.uPlot) {
        if (!this.plot.firstChild) this.plot.append(make("p", {}, "The library of the charts is missing in this checkout. ./run builds it."));
      } else if (this.uplot && names === this.names) {
        this.uplot.setData(this.data());
      } else {
        this.names = names;
        this.draw();
      }
      this.read(null);
    }

    data() { return [this.at, ...this.lines.map((line) => line.values)]; }

    draw() {
      this.clear();
      if (!window.uPlot || !this.lines || !this.plot.clientWidth) return;
      this.uplot = new window.uPlot(this.options(), this.data(), this.plot);
    }

    clear() {
      if (this.uplot) this.uplot.destroy();
      this.uplot = null;
    }

    drop() { this.clear(); this.sized.disconnect(); }

    resize() {
      if (!this.plot.clientWidth) return;
      if (!this.uplot) this.draw();
      else this.uplot.setSize({ width: this.plot.clientWidth, height: this.plot.clientHeight });
    }

    options() {
      const { kind } = this;
      const axis = { stroke: colour("--dim"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
      return {
        width: this.plot.clientWidth,
        height: this.plot.clientHeight,
        padding: [6, 16, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: "percore" }, y: false, drag: { x: false, y: false }, points: { show: this.lines.length <= NAMED_LINES } },
        scales: { y: { range: (_, least, most) => [0, Math.max(kind.least, (most || 0) * 1.1)] } },
        axes: [
          { ...axis, size: 22, gap: 3, space: 60, incrs: TIME_STEPS, values: (plot, splits) => times(plot.scales.x, splits) },
          { ...axis, size: 52, gap: 4, space: 34, incrs: increments(kind), values: (_, splits) => splits.map(kind.show) },
        ],
        series: [{}, ...this.lines.map((line, place) => this.series(place))],
        hooks: { setCursor: [(plot) => this.read(plot.cursor.idx)] },
      };
    }

    series(place) {
      const stroke = colour(COLOURS[(this.kind.bars ? 1 - place : place) % COLOURS.length]);
      if (this.kind.bars) return { stroke, fill: stroke, width: 0, points: { show: false }, paths: window.uPlot.paths.bars({ size: [0.8, 12, 2] }) };
      const isOnly = this.lines.length === 1;
      return { stroke, width: isOnly ? 1.75 : 1.25, fill: isOnly ? colour("--fill") : undefined, points: { show: false }, spanGaps: false };
    }

    /* The value at the cursor, or the newest one. */
    read(place) {
      if (!this.at) return;
      const { show, bars } = this.kind;
      const index = place === null || place === undefined ? this.at.length - 1 : place;
      const when = place === null || place === undefined ? "" : `${format.clock(this.at[index])}  `;
      const value = (line) => {
        if (place === null || place === undefined) for (let at = line.values.length - 1; at >= 0; at -= 1) if (format.known(line.values[at])) return line.values[at];
        return line.values[index];
      };
      if (bars && !when) {
        const sums = this.lines.map((line) => `${line.values.reduce((sum, one) => sum + (one || 0), 0)} ${line.name}`);
        setText(this.reading, sums.join(", "));
      } else if (bars) {
        setText(this.reading, when + this.lines.map((line) => `${show(value(line))} ${line.name}`).join(", "));
      } else if (this.lines.length === 1) {
        setText(this.reading, when + show(value(this.lines[0])));
      } else {
        const known = this.lines.map((line, at) => [line.name, value(line), at]).filter(([, one]) => format.known(one));
        known.sort((a, b) => b[1] - a[1]);
        this.readSeveral(when, known);
      }
    }

    /* The largest ones, each with the colour of its line. */
    readSeveral(when, known) {
      const shown = known.slice(0, 3).map(([name, one, at]) => {
        const text = make("span", { class: "one" }, `${name} `, make("b", {}, this.kind.show(one)));
        text.style.setProperty("--own", `var(${COLOURS[at % COLOURS.length]})`);
        return text;
      });
      this.reading.replaceChildren(when, ...shown, known.length > 3 ? " …" : "");
    }
  }

  class Charts {
    constructor() {
      this.charts = KINDS.map((kind) => new Chart(kind));
      this.element = make("section", { class: "charts", "aria-label": "Charts" }, ...this.charts.map((chart) => chart.element));
    }

    /* Of the whole subject, or with a line for each of its parts. */
    update(history, byParts) {
      const parts = byParts ? Object.entries(history.parts).sort((a, b) => Number(a[0]) - Number(b[0])) : [];
      for (const chart of this.charts) {
        const { key, bars } = chart.kind;
        const lines = bars ? bars.map((name) => ({ name, values: history.values[name] }))
          : parts.length > 1 ? parts.map(([name, values]) => ({ name: `#${name}`, values: values[key] }))
          : [{ name: "all", values: history.values[key] }];
        chart.update(history.at, lines);
      }
    }

    redraw() { for (const chart of this.charts) chart.draw(); }
    drop() { for (const chart of this.charts) chart.drop(); }
  }

  return { Charts };
})();
