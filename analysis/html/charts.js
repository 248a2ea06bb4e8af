/* Charts: Vega-Lite's specifications, drawn when they come into sight or when there is time. */

const dark = matchMedia("(prefers-color-scheme: dark)");
const ofTheme = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

/* The specification with the theme's colours, and rows in place of columns. */
function themed(value) {
  if (typeof value === "string") return value.startsWith("$") ? ofTheme(value.slice(1)) || value : value;
  if (Array.isArray(value)) return value.map(themed);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.columns === "object") return { values: rowsOf(value.columns) }; // a legend has their number
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, themed(part)]));
}

function rowsOf(columns) {
  const names = Object.keys(columns);
  return columns[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
}

function configOf() {
  const [ink, soft, line, font] = ["ink", "soft", "line", "sans"].map(ofTheme);
  const text = { labelColor: soft, titleColor: soft, labelFont: font, titleFont: font, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11 };
  return {
    background: null, font, aria: false, // one text for the whole chart, which its place has
    view: { stroke: null },
    axis: { ...text, gridColor: line, domainColor: line, tickColor: line, gridOpacity: 0.7 },
    legend: { ...text, symbolStrokeColor: soft },
    rule: { color: soft }, text: { color: ink, font, fontSize: 11 },
  };
}

let library = null;
/* Vega is large: it is read when the page has been painted. */
function loaded() {
  library ??= new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(async () => {
      new Function(await unpacked("library"))();
      resolve();
    }));
  });
  return library;
}

const OPTIONS = {
  mode: "vega-lite", renderer: "svg", logLevel: 1, // errors: warnings are for whoever writes a specification
  actions: { export: true, source: false, compiled: false, editor: false },
  tooltip: { disableDefaultStyle: true },
  loader: { http: () => Promise.reject(new Error("no network")) },
};

/* A figure; its place knows how it is drawn, and its view. */
function figureOf(chart) {
  const values = { focus: "", shown: chart.choices[0] ?? "" };
  const height = chart.spec.height + 30; // its place is kept, so that links below it lead where they say
  const host = el("div", { class: "chart", style: `min-height: ${height}px` });
  host.draw = async () => {
    await loaded();
    host.view?.finalize();
    const spec = { ...themed(chart.spec), config: configOf() };
    for (const param of spec.params ?? []) if (param.name in values) param.value = values[param.name];
    host.view = (await vegaEmbed(host, spec, OPTIONS)).view;
    const svg = host.querySelector("svg.marks");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${chart.title}. ${chart.description}`);
    svg.firstElementChild.setAttribute("aria-hidden", "true");
    host.querySelector("summary").setAttribute("aria-label", "Save this chart");
  };
  const set = (name, value) => {
    values[name] = value;
    host.view?.signal(name, value).resize().runAsync();
  };
  watcher.observe(host);
  return el("figure", { id: "figure-" + chart.name, class: chart.tall && "tall" },
    el("figcaption", {}, el("h3", {}, chart.title), el("p", { class: "small" }, chart.note)),
    chart.choices.length > 1 ? choiceOf(chart, set) : null, host,
    chart.legend.length ? legendOf(chart, set) : null);
}

function choiceOf(chart, set) {
  const select = el("select", { onchange: () => set("shown", select.value) });
  fill(select, chart.choices.map((choice) => [choice, choice]), chart.choices[0]);
  return el("label", {}, chart.choose[0].toUpperCase() + chart.choose.slice(1) + " ", select);
}

/* A button for each line: the pointer points it out for a while, a click until the next one. */
function legendOf(chart, set) {
  let pinned = "";
  const buttons = chart.legend.map(([label, colour, dashes]) => {
    const pin = () => {
      pinned = pinned === label ? "" : label;
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent === pinned));
      set("focus", pinned);
      say(pinned ? `${label} is pointed out` : "all lines");
    };
    const [over, out] = [() => set("focus", pinned || label), () => set("focus", pinned)];
    return el("button", { type: "button", "aria-pressed": "false", onclick: pin, onpointerenter: over, onpointerleave: out },
      swatch(colour, dashes), label);
  });
  return el("ul", { class: "legend", "aria-label": "Lines" }, buttons.map((button) => el("li", {}, button)));
}

function swatch(colour, dashes) {
  const line = `<line x2="18" y1="3" y2="3" stroke="var(--${colour.slice(1)})" stroke-width="2" stroke-dasharray="${dashes.join(" ")}"/>`;
  return fromHtml(`<svg width="18" height="6" aria-hidden="true">${line}</svg>`).firstElementChild;
}

function showCharts(host, charts) {
  for (const old of host.querySelectorAll(".chart")) old.view?.finalize();
  host.replaceChildren(...charts.map(figureOf));
  whenIdle(drawRest);
}

/* ---- when ------------------------------------------------------------------------------------ */

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) begin(entry.target);
}, { rootMargin: "400px" });

function begin(host) {
  watcher.unobserve(host);
  if (!host.begun) host.draw();
  host.begun = true;
}

const whenIdle = window.requestIdleCallback ?? setTimeout;

/* What is not in sight is drawn when there is time, so that it can be printed. */
function drawRest() {
  const next = [...document.querySelectorAll(".chart")].find((host) => !host.begun);
  if (!next) return;
  begin(next);
  whenIdle(drawRest);
}

dark.addEventListener("change", () => {
  for (const host of document.querySelectorAll(".chart")) if (host.begun) host.draw();
});
