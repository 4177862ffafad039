"use strict";
/* Figures as people read them, and elements of the page. Nothing is ever written as HTML: what a host says is text. */
const percore = {};

percore.format = (() => {
  const none = "–";
  const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
  const number = (value) => (known(value) ? Math.round(value).toLocaleString("en") : none);
  const rate = (value) => (known(value) ? (value < 10 ? value.toFixed(value ? 1 : 0) : number(value)) : none);
  const percent = (value) => (known(value) ? `${Math.abs(value) < 10 && value ? value.toFixed(1) : number(value)} %` : none);
  const bytes = (value) => {
    if (!known(value)) return none;
    const units = ["B", "KB", "MB", "GB", "TB"];
    let size = value, unit = 0;
    while (size >= 1000 && unit < units.length - 1) { size /= 1024; unit += 1; }
    return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
  };
  const duration = (seconds) => {
    if (!known(seconds)) return none;
    const steps = [[86400, "d"], [3600, "h"], [60, "m"]];
    for (let at = 0; at < steps.length; at += 1) {
      const [size, unit] = steps[at];
      if (seconds < size) continue;
      const [less, small] = steps[at + 1] || [1, "s"];
      return `${Math.floor(seconds / size)}${unit} ${Math.floor((seconds % size) / less)}${small}`;
    }
    return `${Math.floor(seconds)}s`;
  };
  const two = (value) => String(value).padStart(2, "0");
  const clock = (at, withSeconds = true) => {
    const moment = new Date(at * 1000);
    const text = `${two(moment.getHours())}:${two(moment.getMinutes())}`;
    return withSeconds ? `${text}:${two(moment.getSeconds())}` : text;
  };
  return { none, known, number, rate, percent, bytes, duration, clock };
})();

percore.make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

/* Changes only what differs: focus, selection and what is read aloud stay where they are. */
percore.setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
percore.setClass = (element, name) => { if (element.className !== name) element.className = name; };
