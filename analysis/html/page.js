"use strict";
/* Shows what the page's data hold: tables, charts, and the way from a number to its runs. */
(async () => {
const byId = (id) => document.getElementById(id);

if (!("DecompressionStream" in window)) return; // the page says what it needs
byId("needs").remove();

/* The value that an element of the page holds as JSON, packed. */
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

const page = await unpacked("data");

/* ---- elements -------------------------------------------------------------------------------- */

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "markup") made.innerHTML = value; // notes alone: escaped by Python
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const fragment = (...parts) => "#" + parts.map(encodeURIComponent).join("/");
const link = (text, ...parts) => el("a", { href: fragment(...parts) }, text);

function say(text) {
  byId("said").textContent = text;
}

/* ---- runs ------------------------------------------------------------------------------------ */

const runCount = (() => {
  const ids = page.runs.run_id;
  return ids === undefined ? 0 : (ids.index || ids).length;
})();

function fact(row, name) {
  const column = page.runs[name];
  return column.index === undefined ? column[row] : column.values[column.index[row]];
}

let places = null;
function rowOf(id) {
  if (places === null) {
    places = new Map();
    for (let row = 0; row < runCount; row++) places.set(fact(row, "run_id"), row);
  }
  return places.get(id);
}

function shellWord(word) {
  return /^[\w=.,:\/+@%-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'";
}

function commandOf(row) {
  const threads = fact(row, "threads");
  const words = ["python", "run.py", ...fact(row, "problem_words"), ...fact(row, "setting_words")];
  words.push("seed=" + fact(row, "seed"));
  if (threads) words.push("threads=" + threads);
  return [...words, "runs_dir=mine/runs"].map(shellWord).join(" ");
}

const problemAt = (place) => (place < 0 ? null : page.problems[place]);
const problemOf = (stem) => page.problems.find((problem) => problem.stem === stem);
const score = (value) => (value === null ? "–" : String(value).replace(/^-/, "−"));

function duration(seconds) {
  if (seconds === null) return "–";
  const units = [["s", 1], ["min", 60], ["h", 3600], ["days", 86400]];
  const [unit, size] = units.find(([, size]) => seconds / size < 99.5) || units[3];
  const value = seconds / size;
  return value.toFixed(value < 9.95 ? 1 : 0) + " " + unit;
}

/* ---- tables ---------------------------------------------------------------------------------- */

const UNITS = { s: 1, min: 60, h: 3600, days: 86400 };

/* The number in a cell's text; null, which comes last, where there is none. */
function numberIn(text) {
  if (text === "reference") return 0;
  if (text.startsWith("never")) return Infinity;
  const found = text.replaceAll("−", "-").replaceAll(",", "").match(/^[^\d+-]*([+-]?\d[\d.]*(?:e[+-]?\d+)?)\s*(s|min|h|days)?(?![a-z])/i);
  return found === null ? null : Number(found[1]) * (UNITS[found[2]] || 1);
}

function compare(one, other, numeric) {
  if (numeric) {
    const [a, b] = [numberIn(one), numberIn(other)];
    if (a === null || b === null) return a === b ? 0 : a === null ? 2 : -2; // 2: whatever the direction
    return a === b ? 0 : a < b ? -1 : 1;
  }
  return one.localeCompare(other, "en", { numeric: true });
}

/* By what a cell is sorted. */
const textOf = (cell) => cell.querySelector("[data-key]")?.dataset.key ?? cell.textContent;

function sortBy(table, column, direction) {
  const head = table.tHead.rows[0].cells;
  const numeric = !head[column].classList.contains("left");
  const rows = [...table.tBodies[0].rows];
  const texts = new Map(rows.map((row) => [row, textOf(row.cells[column])]));
  rows.sort((one, other) => {
    const order = compare(texts.get(one), texts.get(other), numeric);
    return Math.abs(order) === 2 ? order : direction * order;
  });
  table.tBodies[0].append(...rows);
  for (const cell of head) cell.setAttribute("aria-sort", "none");
  head[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  say(`sorted by ${head[column].textContent}, ${direction > 0 ? "ascending" : "descending"}`);
}

function sortButton(text, column) {
  return el("button", {
    type: "button",
    onclick: (event) => {
      const cell = event.currentTarget.parentElement;
      const was = cell.getAttribute("aria-sort");
      const first = cell.classList.contains("left") ? 1 : -1;
      const direction = was === "none" ? first : was === "ascending" ? -1 : 1;
      sortBy(cell.closest("table"), column, direction);
    },
  }, text);
}

/* A table in a box of its own; a cell is a text or an element. */
function drawn(caption, columns, rows, left = []) {
  const isLeft = columns.map((name) => left.includes(name));
  const rowAt = columns.indexOf("row"); // on a phone it stands below the name
  const classOf = (i, length) => [isLeft[i] && "left", length > 44 && "wrap", i === rowAt && "row"].filter(Boolean).join(" ") || null;
  const head = columns.map((name, i) =>
    el("th", { scope: "col", "aria-sort": "none", class: classOf(i, 0) }, sortButton(name, i)));
  const body = rows.map((row) => el("tr", {}, row.map((cell, i) => {
    if (i > 0) return el("td", { class: classOf(i, typeof cell === "string" ? cell.length : 0) }, cell);
    return el("th", { scope: "row", "data-row": rowAt > 0 ? row[rowAt] : null }, cell);
  })));
  const table = el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table);
}

function drawTable(host, table) {
  const rows = table.rows.map((row, i) => row.map((text, j) =>
    table.links[i] && table.linked.includes(table.columns[j]) ? el("a", { href: "#" + table.links[i] }, text) : text));
  host.replaceChildren(
    table.head ? el("p", { class: "small", markup: table.head }) : "",
    drawn(table.caption, table.columns, rows, table.left),
    notesOf(table),
  );
}

function notesOf(table) {
  if (!table.notes.length) return "";
  const items = table.notes.map((note) => el("li", { markup: note }));
  return el("details", {}, el("summary", {}, "How to read this table"), el("ul", { class: "notes" }, items));
}

/* ---- charts ---------------------------------------------------------------------------------- */

const LIGHT = ["#1f6fb2", "#c2410c", "#0f7a5a", "#a8467f", "#7a6a00", "#5b46a8", "#0e7490", "#8a4b20", "#4d7c0f", "#9f1239"];
const DARK = ["#6fb3ee", "#f59563", "#5cc9a3", "#e08fc0", "#d4c04a", "#a999f0", "#5cc4dc", "#d0a074", "#a3cf5b", "#f27a94"];
const dark = matchMedia("(prefers-color-scheme: dark)");

function colourOf(name) {
  const style = getComputedStyle(document.documentElement);
  const named = { $reference: "--ink", $accent: "--accent", $muted: "--open" };
  if (named[name]) return style.getPropertyValue(named[name]).trim();
  return (dark.matches ? DARK : LIGHT)[Number(name.slice(2))];
}

/* The specification with the theme's colours, and rows in place of columns. */
function themed(value) {
  if (typeof value === "string") return /^\$(reference|accent|muted|c\d+)$/.test(value) ? colourOf(value) : value;
  if (Array.isArray(value)) return value.map(themed);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.columns === "object") return { values: rowsOf(value.columns) }; // a legend has their number
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, themed(one)]));
}

function rowsOf(columns) {
  const names = Object.keys(columns);
  return columns[names[0]].map((_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
}

function configOf() {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
  const font = style.getPropertyValue("--sans").trim();
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
      // In a function of its own: its many names would replace ours.
      document.head.append(el("script", {}, `(() => {${await unpacked("library")}})();`));
      resolve();
    }));
  });
  return library;
}

const begun = new WeakSet(); // places whose chart is drawn, or on its way
const charts = new Map(); // of each place of a chart: how it is drawn

const ERRORS = 1; // of Vega, whose warnings are for whoever writes a specification

async function embed(host, spec, label, values) {
  await loaded();
  const full = { ...themed(spec), config: configOf() };
  for (const param of full.params || []) if (values[param.name] !== undefined) param.value = values[param.name];
  const options = {
    mode: "vega-lite", renderer: "svg", logLevel: ERRORS,
    actions: { export: true, source: false, compiled: false, editor: false },
    tooltip: { disableDefaultStyle: true },
    loader: { http: () => Promise.reject(new Error("no network")) },
  };
  const { view } = await vegaEmbed(host, full, options);
  const svg = host.querySelector("svg.marks");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.firstElementChild.setAttribute("aria-hidden", "true");
  host.querySelector("summary").setAttribute("aria-label", "Save this chart");
  return view;
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawChart(entry.target);
}, { rootMargin: "400px" });

function drawChart(host) {
  watcher.unobserve(host);
  begun.add(host);
  const draw = charts.get(host);
  if (draw) draw();
}

function chartOf(chart) {
  const values = { focus: "", shown: chart.choices[0] || "" };
  const host = el("div", { class: "chart" });
  let view = null;
  const set = (name, value) => {
    values[name] = value;
    if (view) view.signal(name, value).resize().runAsync();
  };
  const buttons = chart.legend.map(([label, colour, dashes]) => {
    const over = () => { if (!values.pinned) set("focus", label); };
    const out = () => { if (!values.pinned) set("focus", ""); };
    return el("button", {
      type: "button", "aria-pressed": "false", "data-label": label,
      onpointerenter: over, onpointerleave: out,
      onclick: () => {
        values.pinned = values.pinned === label ? null : label;
        for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.label === values.pinned));
        set("focus", values.pinned || "");
        say(values.pinned ? `${label} is pointed out` : "all lines");
      },
    }, swatch(colour, dashes), label);
  });
  const choice = chart.choices.length > 1
    ? el("label", {}, chart.choose[0].toUpperCase() + chart.choose.slice(1) + " ", el("select", { onchange: (event) => set("shown", event.target.value) }, chart.choices.map((one) => el("option", { value: one }, one))))
    : null;
  const made = el("figure", { id: "figure-" + chart.name, class: chart.tall ? "tall" : null },
    el("figcaption", {}, el("h3", {}, chart.title), el("p", { class: "small" }, chart.note)),
    choice, host,
    buttons.length ? el("ul", { class: "legend", "aria-label": "Lines" }, buttons.map((button) => el("li", {}, button))) : null);
  charts.set(host, async () => {
    view?.finalize();
    view = await embed(host, chart.spec, chart.title + ". " + chart.description, values);
    for (const button of buttons) {
      const [, colour, dashes] = chart.legend.find(([label]) => label === button.dataset.label);
      button.querySelector("svg").replaceWith(swatch(colour, dashes));
    }
  });
  watcher.observe(host);
  return made;
}

function swatch(colour, dashes) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of Object.entries({ width: 18, height: 6, "aria-hidden": "true" })) svg.setAttribute(name, value);
  for (const [name, value] of Object.entries({ x1: 0, x2: 18, y1: 3, y2: 3, stroke: colourOf(colour), "stroke-width": 2, "stroke-dasharray": dashes.join(" ") })) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

function showCharts(host, list) {
  for (const old of host.querySelectorAll(".chart")) { watcher.unobserve(old); charts.delete(old); }
  host.replaceChildren(...list.map(chartOf));
}

dark.addEventListener("change", () => {
  for (const host of charts.keys()) if (host.isConnected) drawChart(host);
});

/* What is not in sight is drawn when there is time, so that it can be printed. */
function drawAll() {
  const waiting = [...charts.keys()].filter((host) => host.isConnected && !begun.has(host));
  if (!waiting.length) return;
  drawChart(waiting[0]);
  (window.requestIdleCallback || setTimeout)(drawAll);
}

/* ---- verdicts -------------------------------------------------------------------------------- */

const VERDICTS = { better: "better", "non-inferior": "non-inferior", worse: "worse", inconclusive: "cannot tell", "no verdict": "no verdict" };

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text, disabled]) => el("option", { value, disabled, selected: value === chosen }, text)));
}

function drawDuels() {
  const duels = page.duels[byId("duel-protocol").value];
  const subject = Number(byId("duel-subject").value);
  const tuned = byId("duel-against").value === "tuned";
  const cells = new Map(duels.cells.filter((cell) => cell[1] === subject).map((cell) => [cell[2] + "/" + cell[0], cell]));
  const used = duels.scopes.map((_, scope) => duels.rivals.some((_, rival) => cells.has(rival + "/" + scope)));
  const rows = duels.rivals.flatMap(([optimizer, row, name], rival) => {
    if (tuned && row !== "instance-tuned") return [];
    const found = duels.scopes.map((_, scope) => cells.get(rival + "/" + scope));
    if (!found.some(Boolean)) return [];
    return [[name, ...found.filter((_, scope) => used[scope]).map((cell) => cell ? verdictCell(duels, cell) : "–")]];
  });
  const name = duels.subjects[subject][2];
  const columns = [`${name} against`, ...duels.scopes.filter((_, scope) => used[scope])];
  byId("duel-table").replaceChildren(rows.length
    ? el("div", {}, drawn(`Verdicts of ${name}`, columns, rows, [columns[0]]),
      el("p", { class: "small" }, "n: problems, one of each task. ¹ fewer than 6 tasks: over all problems, for other seeds on these alone."))
    : el("p", {}, `${name} has no problem in common with these.`));
}

function verdictCell(duels, [scope, subject, rival, red, interval, verdict, problems, , others]) {
  const [mine, other] = [duels.subjects[subject], duels.rivals[rival]];
  const parts = ["duel", duels.scopes[scope], mine[0], mine[1], other[0], other[1]];
  const numbers = interval === "–" ? `${red} (one seed)` : `${red} (${interval})`;
  return el("span", { class: verdict.replace(" ", "-") },
    el("span", { class: "verdict", "data-key": red }, VERDICTS[verdict]),
    el("a", { class: "detail", href: fragment(...parts) }, numbers),
    el("span", { class: "detail" }, `, n = ${problems.length}${others ? "" : " ¹"}`));
}

function setUpDuels() {
  if (!byId("verdicts")) return;
  fill(byId("duel-protocol"), Object.keys(page.duels).map((name) => [name, name]));
  const subjects = () => {
    fill(byId("duel-subject"), page.duels[byId("duel-protocol").value].subjects.map(([, , name], i) => [String(i), name]));
    drawDuels();
  };
  byId("duel-protocol").addEventListener("change", subjects);
  for (const id of ["duel-subject", "duel-against"]) byId(id).addEventListener("change", drawDuels);
  subjects();
}

/* ---- leaderboard ----------------------------------------------------------------------------- */

const FILTERS = ["protocol", "kind", "domain", "model", "task"];
const FIXED = ["protocol", "kind"]; // one is always chosen
const chosen = {};

function boardOf(choice) {
  const found = page.selections.find((one) => FILTERS.every((name, i) => one[i] === choice[name]));
  return found === undefined ? undefined : found[FILTERS.length];
}

function drawBoard() {
  for (const name of FILTERS) {
    const options = FIXED.includes(name)
      ? page.filters[name].map((value) => [value, value])
      : [["", "all"], ...page.filters[name].map((value) => [value, value, boardOf({ ...chosen, [name]: value }) === undefined])];
    fill(byId("filter-" + name), options, chosen[name]);
  }
  const place = boardOf(chosen);
  const [head, table, figures] = ["board-head", "board-table", "board-charts"].map(byId);
  if (place === undefined || place === null) {
    head.textContent = "No leaderboard: nothing was run there beside the optimizer that all others are compared with.";
    table.replaceChildren();
    showCharts(figures, []);
    return;
  }
  const board = page.boards[place];
  head.replaceChildren(`Over ${board.problems.length} ${board.problems.length === 1 ? "problem" : "problems"} that all these optimizers have: `,
    ...board.problems.flatMap((stem, i) => [i ? ", " : "", link(stem, "table-" + stem)]), ".");
  drawTable(table, board.table);
  sortMark(table, "IQM of RED %");
  showCharts(figures, board.charts);
}

function sortMark(host, name) {
  for (const cell of host.querySelectorAll("thead th")) if (cell.textContent === name) cell.setAttribute("aria-sort", "descending");
}

function choose(selection) {
  FILTERS.forEach((name, i) => { chosen[name] = selection[i]; });
}

function setUpBoard() {
  if (!byId("leaderboard")) return;
  choose(page.selections[0]);
  for (const name of FILTERS) {
    byId("filter-" + name).addEventListener("change", (event) => {
      chosen[name] = event.target.value;
      if (boardOf(chosen) === undefined) for (const other of FILTERS) if (other !== name && !FIXED.includes(other)) chosen[other] = "";
      if (boardOf(chosen) === undefined) choose(page.selections.find((one) => one[FILTERS.indexOf(name)] === chosen[name]));
      drawBoard();
    });
  }
  drawBoard();
}

/* ---- problems -------------------------------------------------------------------------------- */

function drawProblem(stem) {
  const problem = problemOf(stem);
  byId("problem").value = stem;
  drawTable(byId("problem-table"), problem.table);
  showCharts(byId("problem-charts"), problem.charts);
  const host = byId("problem-sensitivity");
  host.replaceChildren();
  if (problem.sensitivity) {
    const inner = el("div");
    drawTable(inner, problem.sensitivity);
    host.append(el("details", { id: "table-sensitivity" }, el("summary", {}, "Sensitivity: every start and factor that was tried"), inner));
  }
}

function setUpProblems() {
  fill(byId("problem"), page.problems.map((problem) => [problem.stem, problem.title]));
  byId("problem").addEventListener("change", (event) => drawProblem(event.target.value));
  const most = page.problems.reduce((one, other) => (other.table.rows.length > one.table.rows.length ? other : one));
  drawProblem(most.stem);
}

/* ---- other sections -------------------------------------------------------------------------- */

function setUpRest() {
  if (page.budgets.length) {
    byId("budget-filter").hidden = false;
    fill(byId("budget"), page.budgets.map((chart, i) => [String(i), chart.title.split(": ")[1]]));
    const show = () => showCharts(byId("budget-chart"), [page.budgets[Number(byId("budget").value)]]);
    byId("budget").addEventListener("change", show);
    show();
  }
  if (byId("normalization-charts")) showCharts(byId("normalization-charts"), page.normalization);
  if (byId("paper-charts")) showCharts(byId("paper-charts"), page.paper_charts);
  for (const [host, tables] of [["paper-tables", page.paper_tables], ["all-tables", page.tables]]) {
    if (byId(host)) byId(host).replaceChildren(...tables.map(folded));
  }
}

/* A table that is made when it is opened. */
function folded(table) {
  const inner = el("div");
  return el("details", { id: "table-" + table.name, ontoggle: () => { if (!inner.hasChildNodes()) drawTable(inner, table); } },
    el("summary", {}, table.caption), inner);
}

const MOST = 100;
function drawRuns() {
  const words = byId("run-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [];
  let count = 0;
  for (let row = 0; row < runCount; row++) {
    if (words.length && !words.every((word) => searchText(row).includes(word))) continue;
    count++;
    if (rows.length < MOST) rows.push(row);
  }
  byId("run-count").textContent = `${count.toLocaleString("en")} of ${runCount.toLocaleString("en")} runs` + (count > MOST ? `; the first ${MOST} are shown` : "");
  byId("run-table").replaceChildren(runTable("Runs found", rows, "run"));
}

const texts = [];
function searchText(row) {
  texts[row] ??= [fact(row, "run_id"), fact(row, "label"), fact(row, "setting"), problemAt(fact(row, "problem"))?.title, fact(row, "status"), "seed=" + fact(row, "seed")].join(" ").toLowerCase();
  return texts[row];
}

const OF_RUN = {
  run: (row) => fact(row, "run_id"), seed: (row) => String(fact(row, "seed")), setting: (row) => fact(row, "setting") || "default",
  optimizer: (row) => fact(row, "label"), "test, last": (row) => score(fact(row, "test_last")), "test, averaged": (row) => score(fact(row, "test_averaged")),
  "validation, last": (row) => score(fact(row, "validation_last")), "validation, averaged": (row) => score(fact(row, "validation_averaged")),
  time: (row) => duration(fact(row, "seconds")), status: (row) => fact(row, "status"),
};

/* Runs, a line each, which lead to the run; `first` is the column that tells them apart. */
function runTable(caption, rows, first) {
  const columns = [first, ...Object.keys(OF_RUN).filter((name) => name !== first && name !== "run"), ...(first === "run" ? [] : ["run"])];
  const cells = rows.map((row) => columns.map((name, i) => (i === 0 ? link(OF_RUN[name](row), "run", fact(row, "run_id")) : OF_RUN[name](row))));
  return drawn(caption, columns, cells, [first, "run", "optimizer", "setting", "status"]);
}

/* ---- the panel: from a number to its runs, from a run to its origin --------------------------- */

const panel = byId("panel");

function facts(pairs) {
  return el("dl", {}, pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/* The numbers of a table's line, side by side. */
function lineOf(columns, values) {
  return el("dl", { class: "cell" }, columns.map((name, i) => el("div", {}, el("dt", {}, name), el("dd", {}, values[i]))));
}

function cellOf(stem, optimizer, row) {
  return problemOf(stem)?.cells[optimizer + "/" + row];
}

function cellBlock(stem, optimizer, row) {
  const problem = problemOf(stem);
  const cell = cellOf(stem, optimizer, row);
  if (!cell) return el("p", {}, "There is no such cell.");
  const blocks = [
    el("h3", {}, link(problem.title, "table-" + stem)),
    lineOf(problem.table.columns, cell.texts),
    cell.runs.length ? runTable(`Reported runs on ${problem.title}`, cell.runs, "seed") : el("p", {}, "No reported run."),
  ];
  if (cell.tuning.length) {
    blocks.push(el("details", {}, el("summary", {}, `What the choice rests on: ${cell.tuning.length} runs at the tuning seed, not reported`), runTable("Tuning runs", cell.tuning, "setting")));
  }
  return el("div", {}, blocks);
}

const VIEWS = {
  cell(stem, optimizer, row) {
    const cell = cellOf(stem, optimizer, row);
    return cell && [`${cell.texts[0]}, ${row}`, [cellBlock(stem, optimizer, row)]];
  },
  line(board, optimizer, row) {
    const found = page.boards.find((one) => one.table.name === board);
    const place = found?.table.links.indexOf(fragment("line", board, optimizer, row).slice(1));
    if (place === undefined || place < 0) return undefined;
    const texts = found.table.rows[place];
    return [`${texts[0]}, ${row}: ${found.table.caption}`, [
      lineOf(found.table.columns, texts),
      ...found.problems.map((stem) => cellBlock(stem, optimizer, row)),
    ]];
  },
  duel(scope, ...keys) {
    for (const duels of Object.values(page.duels)) {
      const at = (list, optimizer, row) => list.findIndex((one) => one[0] === optimizer && one[1] === row);
      const [s, m, r] = [duels.scopes.indexOf(scope), at(duels.subjects, keys[0], keys[1]), at(duels.rivals, keys[2], keys[3])];
      const cell = duels.cells.find((one) => one[0] === s && one[1] === m && one[2] === r);
      if (!cell) continue;
      const [, , , red, interval, verdict] = cell;
      const others = cell[8];
      const [problems, left] = [cell[6], cell[7]].map((list) => list.map((place) => page.problems[place].stem));
      return [`${duels.subjects[m][2]} against ${duels.rivals[r][2]}: ${VERDICTS[verdict]}`, [
        facts([
          ["problems", scope], ["median RED %", `${red} (above 0: ${duels.rivals[r][2]} errs less)`], ["95 % interval", `${interval}, for ${others ? "other tasks like these" : "other seeds on these problems"}`],
          ["left out", left.length ? `${left.join(", ")}: one seed, or another network of a task` : ""],
        ]),
        ...problems.flatMap((stem) => [cellBlock(stem, keys[0], keys[1]), cellBlock(stem, keys[2], keys[3])]),
      ]];
    }
    return undefined;
  },
  run(id) {
    const row = rowOf(id);
    if (row === undefined) return undefined;
    const problem = problemAt(fact(row, "problem"));
    const command = el("pre", { id: "command" }, el("code", {}, commandOf(row)));
    return [id, [
      facts([
        ["optimizer", `${fact(row, "label")} ${fact(row, "setting")}`], ["seed", String(fact(row, "seed"))], ["problem", problem ? link(problem.title, "table-" + problem.stem) : ""],
        ["status", fact(row, "status")], ["test", `${score(fact(row, "test_last"))} last, ${score(fact(row, "test_averaged"))} averaged`],
        ["validation", `${score(fact(row, "validation_last"))} last, ${score(fact(row, "validation_averaged"))} averaged`],
        ["training loss at the end", score(fact(row, "train_loss"))], ["steps taken", score(fact(row, "steps_done"))], ["time", duration(fact(row, "seconds"))], ["says of itself", fact(row, "trouble")],
      ]),
      el("h3", {}, "The command that repeats it"),
      el("div", { class: "command" }, command, el("button", { type: "button", "data-copy": "command" }, "Copy")),
      el("p", { class: "small" }, `It trains the run ${id} in a folder of its own. If run.py names another id, the configs have changed since.`),
      ...curvesOf(row),
      el("h3", {}, "Settings"),
      el("details", { open: true }, el("summary", {}, "of the optimizer"), el("pre", {}, fact(row, "settings"))),
      el("details", {}, el("summary", {}, "of task, network, training and protocol"), el("pre", {}, fact(row, "problem_settings"))),
      el("h3", {}, "Provenance"),
      facts([["started", fact(row, "started")], ["code", fact(row, "code")], ["machine", fact(row, "machine")], ["threads", score(fact(row, "threads"))]]),
      ...[["packages", "packages"], ["numerics", "what can change the last digits"], ["data", "data and weights: fingerprints and sources"]]
        .filter(([name]) => fact(row, name))
        .map(([name, text]) => el("details", {}, el("summary", {}, text), el("pre", {}, fact(row, name)))),
    ]];
  },
};

function curvesOf(row) {
  const step = fact(row, "curve_step");
  if (!step) return [];
  const validation = fact(row, "curve_validation");
  const of = (name, columns) => ({ ...page.run_charts[name], spec: { ...page.run_charts[name].spec, data: { columns } } });
  const list = [of("loss", { step, value: fact(row, "curve_loss") })];
  if (fact(row, "curve_rate").some((rate) => rate > 0)) list.push(of(fact(row, "rate_name"), { step, value: fact(row, "curve_rate") }));
  if (validation.length > 1) {
    const kept = ["last", "averaged"].flatMap((kind, i) => validation.map((one) => [kind, one[0], one[i + 1]])).filter((one) => one[2] !== null);
    list.push(of("validation", { kind: kept.map((one) => one[0]), step: kept.map((one) => one[1]), value: kept.map((one) => one[2]) }));
  }
  return [el("h3", {}, "Curve"), el("div", { class: "charts" }, list.map(chartOf))];
}

let before = ""; // the fragment to return to when the panel closes

function openPanel(found) {
  const [title, body] = found;
  byId("panel-title").textContent = title;
  byId("panel-body").replaceChildren(...body);
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  byId("panel-title").focus();
  drawAll();
}

function followFragment() {
  const parts = location.hash.slice(1).split("/").map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  const view = VIEWS[parts[0]];
  const found = view && parts.length > 1 ? view(...parts.slice(1)) : undefined;
  if (found) return openPanel(found);
  if (panel.open) { panel.close(); }
  before = location.hash;
  const name = parts[0].replace(/^table-/, "");
  if (parts[0] !== name && problemOf(name)) {
    drawProblem(name);
    byId("problems").scrollIntoView();
    return undefined;
  }
  if (parts[0] === "leaderboard" && parts.length > 1) {
    const asked = page.selections.find((one) => parts.slice(1).every((part, i) => one[i] === part));
    if (asked) { choose(asked); drawBoard(); }
  }
  const target = byId(parts[0]);
  if (target) {
    for (let box = target; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
    target.scrollIntoView();
  }
  return undefined;
}

panel.addEventListener("close", () => {
  const parts = location.hash.slice(1).split("/");
  if (VIEWS[parts[0]] && parts.length > 1) history.pushState(null, "", before || location.pathname + location.search);
});
byId("panel-close").addEventListener("click", () => panel.close());
panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });

/* ---- copying --------------------------------------------------------------------------------- */

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // a file from a mail may have no clipboard: the old way
    const area = el("textarea", { class: "hidden" });
    area.value = text;
    (panel.open ? panel : document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = byId(button.dataset.copy).textContent;
  const done = await copied(text);
  const was = button.dataset.text ??= button.textContent;
  button.textContent = done ? "Copied" : "Select and copy by hand";
  say(done ? "copied" : "not copied");
  setTimeout(() => { button.textContent = was; }, 2000);
});

/* ---- start ----------------------------------------------------------------------------------- */

for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (event) => event.preventDefault());
setUpDuels();
setUpBoard();
setUpProblems();
setUpRest();
drawRuns();
byId("run-search").addEventListener("input", drawRuns);
window.addEventListener("hashchange", followFragment);
if (location.hash) followFragment();
(window.requestIdleCallback || setTimeout)(drawAll);
})();
