/* What all parts of the page use: its data, elements, and tables. */

const byId = (id) => document.getElementById(id);

/* The value that an element of the page holds as JSON, packed. */
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

const page = await unpacked("data"); // an error in an old browser, to which the page says what it needs
byId("needs").remove();

/* ---- elements -------------------------------------------------------------------------------- */

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/* What Python made: every text in it is escaped. */
function fromHtml(html) {
  const made = el("div");
  made.innerHTML = html;
  return made;
}

const fragment = (...parts) => "#" + parts.map(encodeURIComponent).join("/");
const link = (text, ...parts) => el("a", { href: fragment(...parts) }, text);
const details = (summary, ...inside) => el("details", {}, el("summary", {}, summary), ...inside);

function partsOf(hash) {
  try {
    return hash.slice(1).split("/").map(decodeURIComponent);
  } catch { // somebody else's
    return [hash.slice(1)];
  }
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text, disabled]) => el("option", { value, disabled, selected: value === chosen }, text)));
}

function say(text) {
  byId("said").textContent = text;
}

/* ---- runs and problems ----------------------------------------------------------------------- */

/* An object for each run; the data hold a column for each fact, coded where it repeats itself. */
const columns = Object.entries(page.runs).map(([name, column]) => [name, column.index ? column.index.map((place) => column.values[place]) : column]);
const runs = page.runs.run_id.map((_, row) => {
  const run = {};
  for (const [name, values] of columns) run[name] = values[row];
  return run;
});
const runOf = new Map(runs.map((run) => [run.run_id, run]));
const problemOf = new Map(page.problems.map((problem) => [problem.stem, problem]));

const score = (value) => (value === null ? "–" : String(value).replace(/^-/, "−"));

/* ---- tables ---------------------------------------------------------------------------------- */

/* A table of what is chosen here, in the form of table.html.j2; a cell is a text or an element. */
function tableOf(caption, columns, rows, left) {
  const cell = (tag, i, content, scope) => {
    const classes = [left.includes(columns[i]) && "left", content.length > 44 && "wrap"];
    return el(tag, { scope, class: classes.filter(Boolean).join(" ") || null }, content);
  };
  const head = columns.map((name, i) => cell("th", i, el("button", { type: "button" }, name), "col"));
  const body = rows.map((row) => el("tr", {}, row.map((content, i) => (i ? cell("td", i, content) : cell("th", i, content, "row")))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

const UNITS = { s: 1, min: 60, h: 3600, days: 86400 };

/* The number in a cell's text; null where there is none. */
function numberIn(text) {
  if (text === "reference") return 0;
  if (text.startsWith("never")) return Infinity;
  const found = text.replaceAll("−", "-").replaceAll(",", "").match(/^[^\d+-]*([+-]?\d[\d.]*(?:e[+-]?\d+)?)\s*(s|min|h|days)?(?![a-z])/i);
  return found && Number(found[1]) * (UNITS[found[2]] ?? 1);
}

const words = new Intl.Collator("en", { numeric: true });

/* Sort a table by the column of a button; cells without a number come last. */
function sort(button) {
  const head = button.parentElement;
  const body = head.closest("table").tBodies[0];
  const isText = head.classList.contains("left");
  const was = head.getAttribute("aria-sort");
  const rises = was ? was === "descending" : isText;
  const keyed = [...body.rows].map((row) => {
    const cell = row.cells[head.cellIndex];
    const text = cell.querySelector("[data-key]")?.dataset.key ?? cell.textContent;
    return [isText ? text : numberIn(text), row];
  });
  keyed.sort(([one], [other]) => {
    if (one === null || other === null) return (one === null) - (other === null);
    return (rises ? 1 : -1) * (isText ? words.compare(one, other) : Math.sign(one - other) || 0);
  });
  body.append(...keyed.map(([, row]) => row));
  for (const cell of head.parentElement.cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", rises ? "ascending" : "descending");
  say(`sorted by ${head.textContent}, ${head.getAttribute("aria-sort")}`);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("thead button");
  if (button) sort(button);
});
