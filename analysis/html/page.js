/* The sections of the page, and the panel: from a number to its runs, from a run to its origin. */

/* ---- verdicts -------------------------------------------------------------------------------- */

const VERDICTS = { better: "better", "non-inferior": "non-inferior", worse: "worse", inconclusive: "cannot tell", "no verdict": "no verdict" };

function drawDuels() {
  const duels = page.duels[byId("duel-protocol").value];
  const subject = Number(byId("duel-subject").value);
  const tuned = byId("duel-against").value === "tuned";
  const cells = new Map(duels.cells.filter((cell) => cell[1] === subject).map((cell) => [cell[2] + "/" + cell[0], cell]));
  const scopes = [...duels.scopes.keys()].filter((scope) => duels.rivals.some((_, rival) => cells.has(rival + "/" + scope)));
  const rows = duels.rivals.flatMap(([, row, name], rival) => {
    const found = scopes.map((scope) => cells.get(rival + "/" + scope));
    if (!found.some(Boolean) || (tuned && row !== "instance-tuned")) return [];
    return [[name, ...found.map((cell) => (cell ? verdictCell(duels, cell) : "–"))]];
  });
  const name = duels.subjects[subject][2];
  const columns = [`${name} against`, ...scopes.map((scope) => duels.scopes[scope])];
  byId("duel-table").replaceChildren(...rows.length
    ? [tableOf(`Verdicts of ${name}`, columns, rows, [columns[0]]),
      el("p", { class: "small" }, "n: problems, one of each task. ¹ fewer than 6 tasks: over all problems, for other seeds on these alone.")]
    : [el("p", {}, `${name} has no problem in common with these.`)]);
}

function verdictCell(duels, [scope, subject, rival, red, interval, verdict, problems, , others]) {
  const [mine, other] = [duels.subjects[subject], duels.rivals[rival]];
  const target = fragment("duel", duels.scopes[scope], mine[0], mine[1], other[0], other[1]);
  return el("span", { class: verdict.replace(" ", "-") },
    el("span", { class: "verdict", "data-key": red }, VERDICTS[verdict]),
    el("a", { class: "detail", href: target }, `${red} (${interval === "–" ? "one seed" : interval})`),
    el("span", { class: "detail" }, `, n = ${problems.length}${others ? "" : " ¹"}`));
}

function setUpDuels() {
  fill(byId("duel-protocol"), Object.keys(page.duels).map((name) => [name, name]));
  const changeProtocol = () => {
    fill(byId("duel-subject"), page.duels[byId("duel-protocol").value].subjects.map(([, , name], i) => [String(i), name]));
    drawDuels();
  };
  byId("duel-protocol").addEventListener("change", changeProtocol);
  for (const id of ["duel-subject", "duel-against"]) byId(id).addEventListener("change", drawDuels);
  changeProtocol();
}

/* ---- leaderboard ----------------------------------------------------------------------------- */

const FILTERS = Object.keys(page.filters);
const FIXED = FILTERS.filter((_, i) => page.selections.every((selection) => selection[i] !== "")); // one is always chosen
const chosen = {};

/* The place of a choice's board; null if there is none, undefined if no problem is chosen. */
const boardOf = (choice) => places.get(FILTERS.map((name) => choice[name]).join("\n"));
const places = new Map(page.selections.map((selection) => [selection.slice(0, -1).join("\n"), selection.at(-1)]));

function drawBoard() {
  for (const name of FILTERS) {
    const options = page.filters[name].map((value) => [value, value, !FIXED.includes(name) && boardOf({ ...chosen, [name]: value }) === undefined]);
    fill(byId("filter-" + name), FIXED.includes(name) ? options : [["", "all"], ...options], chosen[name]);
  }
  const board = page.boards[boardOf(chosen)];
  byId("board-head").replaceChildren(...board
    ? [`Over ${board.problems.length} ${board.problems.length === 1 ? "problem" : "problems"} that all these optimizers have: `,
      ...board.problems.flatMap((stem, i) => [i ? ", " : "", link(stem, "table-" + stem)]), "."]
    : ["No leaderboard: nothing was run there beside the optimizer that all others are compared with."]);
  byId("board-table").innerHTML = board?.table ?? "";
  for (const head of document.querySelectorAll("#board-table thead th")) {
    if (head.textContent === "IQM of RED %") head.setAttribute("aria-sort", "descending");
  }
  showCharts(byId("board-charts"), board?.charts ?? []);
}

function choose(selection) {
  FILTERS.forEach((name, i) => { chosen[name] = selection[i]; });
  drawBoard();
}

/* Choose a value of one filter; where no problem has it and the others' values, these give way. */
function chooseOf(name, value) {
  const wanted = { ...chosen, [name]: value };
  const place = FILTERS.indexOf(name);
  const agrees = (selection, names) => names.every((other) => selection[FILTERS.indexOf(other)] === wanted[other]);
  const found = [FILTERS, [...FIXED, name], [name]].map((names) => page.selections.find((one) => agrees(one, names)));
  choose(found.find(Boolean));
}

function setUpBoard() {
  for (const name of FILTERS) byId("filter-" + name).addEventListener("change", (event) => chooseOf(name, event.target.value));
  choose(page.selections[0]);
}

/* ---- problems -------------------------------------------------------------------------------- */

function drawProblem(stem) {
  const problem = problemOf.get(stem);
  byId("problem").value = stem;
  byId("problem-table").innerHTML = problem.table;
  showCharts(byId("problem-charts"), problem.charts);
  byId("problem-sensitivity").replaceChildren(problem.sensitivity
    ? details("Sensitivity: every start and factor that was tried", fromHtml(problem.sensitivity)) : "");
}

function setUpProblems() {
  fill(byId("problem"), page.problems.map((problem) => [problem.stem, problem.title]));
  byId("problem").addEventListener("change", (event) => drawProblem(event.target.value));
  const lines = (problem) => Object.keys(problem.cells).length;
  drawProblem(page.problems.reduce((one, other) => (lines(other) > lines(one) ? other : one)).stem);
}

/* ---- steps ----------------------------------------------------------------------------------- */

function setUpBudgets() {
  byId("budget-filter").hidden = false;
  fill(byId("budget"), page.budgets.map((chart, i) => [String(i), chart.title.split(": ")[1]]));
  const show = () => showCharts(byId("budget-chart"), [page.budgets[Number(byId("budget").value)]]);
  byId("budget").addEventListener("change", show);
  show();
}

/* ---- runs ------------------------------------------------------------------------------------ */

const FACTS = {
  run: (run) => run.run_id,
  seed: (run) => `seed ${run.seed}`,
  setting: (run) => run.setting || "default",
  optimizer: (run) => run.label,
  "test, last": (run) => score(run.test_last),
  "test, averaged": (run) => score(run.test_averaged),
  "validation, last": (run) => score(run.validation_last),
  "validation, averaged": (run) => score(run.validation_averaged),
  time: (run) => run.time,
  status: (run) => run.status,
};

/* Runs, a line each, which lead to the run; `first` is the column that tells them apart. */
function runTable(caption, shown, first) {
  const others = Object.keys(FACTS).filter((name) => name !== first && name !== "run");
  const columns = [first, ...others, ...(first === "run" ? [] : ["run"])];
  const rows = shown.map((run) => columns.map((name, i) => (i ? FACTS[name](run) : link(FACTS[name](run), "run", run.run_id))));
  return tableOf(caption, columns, rows, ["run", "optimizer", "setting", "status", first]);
}

const MOST = 50;

function drawRuns() {
  const asked = byId("run-search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = runs.filter((run) => asked.every((word) => searchText(run).includes(word)));
  byId("run-count").textContent = `${found.length.toLocaleString("en")} of ${runs.length.toLocaleString("en")} runs` + (found.length > MOST ? `; the first ${MOST} are shown` : found.length ? "" : ": none has all of these words");
  byId("run-table").replaceChildren(runTable("Runs found", found.slice(0, MOST), "run"));
}

function searchText(run) {
  run.text ??= [run.run_id, run.label, run.setting, page.problems[run.problem]?.title, page.problems[run.problem]?.kind, run.status, "seed=" + run.seed].join(" ").toLowerCase();
  return run.text;
}

/* ---- the panel ------------------------------------------------------------------------------- */

function facts(pairs) {
  const known = pairs.filter(([, value]) => value);
  return el("dl", {}, known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/* The line of a table that leads to a fragment; undefined if there is none. */
function lineOf(html, target) {
  const leads = (row) => row.querySelector(`a[href="${CSS.escape(target)}"]`);
  return [...fromHtml(html).querySelectorAll("tbody tr")].find(leads);
}

/* Its numbers, side by side. */
function numbersOf(line) {
  const heads = line.closest("table").tHead.rows[0].cells;
  return el("dl", { class: "cell" }, [...line.cells].map((cell, i) => el("div", {}, el("dt", {}, heads[i].textContent), el("dd", {}, cell.textContent))));
}

function cellBlock(stem, optimizer, row) {
  const problem = problemOf.get(stem);
  const cell = problem?.cells[optimizer + "/" + row];
  if (!cell) return el("p", {}, "There is no such cell.");
  const [reported, tuning] = [cell.runs, cell.tuning].map((rows) => rows.map((row) => runs[row]));
  return el("div", {},
    el("h3", {}, link(problem.title, "table-" + stem)),
    numbersOf(lineOf(problem.table, fragment("cell", stem, optimizer, row))),
    reported.length ? runTable(`Reported runs on ${problem.title}`, reported, "seed") : el("p", {}, "No reported run."),
    tuning.length ? details(`What the choice rests on: ${tuning.length} runs at the tuning seed, not reported`, runTable("Tuning runs", tuning, "setting")) : null);
}

function curvesOf(run) {
  const box = el("div", { class: "charts" });
  const list = [];
  const add = (name, columns) => list.push({ ...page.run_charts[name], spec: { ...page.run_charts[name].spec, data: { columns } } });
  const step = run.curve_step;
  add("loss", { step, value: run.curve_loss });
  if (run.curve_rate.some((rate) => rate > 0)) add(run.rate_name, { step, value: run.curve_rate });
  if (run.curve_validation.length > 1) {
    const points = ["last", "averaged"].flatMap((kind, i) => run.curve_validation.map((one) => [kind, one[0], one[i + 1]])).filter((point) => point[2] !== null);
    const [kind, step, value] = [0, 1, 2].map((i) => points.map((point) => point[i]));
    add("validation", { kind, step, value });
  }
  showCharts(box, list);
  return [el("h3", {}, "Curve"), box];
}

/* What a fragment of each kind shows: a title, and what stands below it. */
const VIEWS = {
  cell(stem, optimizer, row) {
    const problem = problemOf.get(stem);
    const line = problem && lineOf(problem.table, fragment("cell", stem, optimizer, row));
    return line && [`${line.cells[0].textContent}, ${row}`, cellBlock(stem, optimizer, row)];
  },
  line(name, optimizer, row) {
    const board = page.boards.find((board) => board.name === name);
    const line = board && lineOf(board.table, fragment("line", name, optimizer, row));
    return line && [
      `${line.cells[0].textContent}, ${row}: ${line.closest("table").caption.textContent}`,
      numbersOf(line),
      ...board.problems.map((stem) => cellBlock(stem, optimizer, row)),
    ];
  },
  duel(scope, ...keys) {
    const [mine, other] = [keys.slice(0, 2), keys.slice(2)];
    const at = (lines, [optimizer, row]) => lines.find((line) => line[0] === optimizer && line[1] === row);
    for (const duels of Object.values(page.duels)) {
      const [subject, rival] = [at(duels.subjects, mine), at(duels.rivals, other)];
      const cell = duels.cells.find((cell) => duels.scopes[cell[0]] === scope && duels.subjects[cell[1]] === subject && duels.rivals[cell[2]] === rival);
      if (!cell) continue;
      const [, , , red, interval, verdict, over, left, others] = cell;
      const stems = (places) => places.map((place) => page.problems[place].stem);
      return [
        `${subject[2]} against ${rival[2]}: ${VERDICTS[verdict]}`,
        facts([
          ["problems", scope],
          ["median RED %", `${red} (above 0: ${rival[2]} errs less)`],
          ["95 % interval", `${interval}, for ${others ? "other tasks like these" : "other seeds on these problems"}`],
          ["left out", left.length && `${stems(left).join(", ")}: one seed, or another of a task, or of its texts`],
        ]),
        ...stems(over).flatMap((stem) => [cellBlock(stem, ...mine), cellBlock(stem, ...other)]),
      ];
    }
    return undefined;
  },
  run(id) {
    const run = runOf.get(id);
    if (!run) return undefined;
    const problem = page.problems[run.problem];
    const text = (summary, lines) => (lines ? details(summary, el("pre", {}, lines)) : null);
    const settings = text("of the optimizer", run.settings);
    settings.open = true;
    return [
      id,
      facts([
        ["optimizer", `${run.label} ${run.setting}`],
        ["seed", String(run.seed)],
        ["problem", problem && link(problem.title, "table-" + problem.stem)],
        ["status", run.status],
        ["test", `${score(run.test_last)} last, ${score(run.test_averaged)} averaged`],
        ["validation", `${score(run.validation_last)} last, ${score(run.validation_averaged)} averaged`],
        ["training loss at the end", score(run.train_loss)],
        ["steps taken", score(run.steps_done)],
        ["time", run.time],
        ["says of itself", run.trouble],
      ]),
      el("h3", {}, "The command that repeats it"),
      el("div", { class: "command" },
        el("pre", { id: "command" }, el("code", {}, run.command)),
        el("button", { type: "button", "data-copy": "command" }, "Copy")),
      el("p", { class: "small" }, `It trains the run ${id} in a folder of its own. If run.py names another id, the configs have changed since.`),
      ...(run.curve_step ? curvesOf(run) : []),
      el("h3", {}, "Settings"),
      settings,
      text("of task, network, training and protocol", run.problem_settings),
      el("h3", {}, "Provenance"),
      facts([["started", run.started], ["code", run.code], ["machine", run.machine], ["threads", score(run.threads)]]),
      text("packages", run.packages),
      text("what can change the last digits", run.numerics),
      text("data and weights: fingerprints and sources", run.data),
    ];
  },
};

const panel = byId("panel");
let before = ""; // the fragment to return to when the panel closes

const viewed = ([kind, ...rest]) => (rest.length ? VIEWS[kind]?.(...rest) : undefined);

function openPanel([title, ...body]) {
  byId("panel-title").textContent = title;
  byId("panel-body").replaceChildren(...body.filter(Boolean));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  byId("panel-title").focus();
}

function followFragment() {
  const parts = partsOf(location.hash);
  const found = viewed(parts);
  if (found) {
    openPanel(found);
    return;
  }
  if (panel.open) panel.close();
  before = location.hash;
  let target = byId(parts[0]);
  const stem = parts[0].replace(/^table-/, "");
  if (stem !== parts[0] && problemOf.has(stem)) {
    drawProblem(stem);
    target = byId("problems");
  } else if (parts[0] === "leaderboard" && parts.length > 1) {
    const asked = page.selections.find((selection) => parts.slice(1).every((part, i) => selection[i] === part));
    if (asked) choose(asked);
  }
  for (let box = target; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
  target?.scrollIntoView();
}

panel.addEventListener("close", () => {
  if (panel.open) return; // told late: it is open again
  const [kind, ...rest] = partsOf(location.hash);
  if (VIEWS[kind] && rest.length) history.pushState(null, "", before || location.pathname + location.search);
});
byId("panel-close").addEventListener("click", () => panel.close());
panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });

/* ---- copying --------------------------------------------------------------------------------- */

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = byId(button.dataset.copy);
  const was = button.dataset.text ??= button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch { // no clipboard here
    getSelection().selectAllChildren(source);
    button.textContent = "Selected: copy it by hand";
  }
  say(button.textContent);
  setTimeout(() => { button.textContent = was; }, 2000);
});

/* ---- start ----------------------------------------------------------------------------------- */

for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (event) => event.preventDefault());
if (byId("verdicts")) setUpDuels();
if (byId("leaderboard")) setUpBoard();
setUpProblems();
if (page.budgets.length) setUpBudgets();
if (page.normalization.length) showCharts(byId("normalization-charts"), page.normalization);
if (byId("paper")) showCharts(byId("paper-charts"), page.paper_charts);
drawRuns();
byId("run-search").addEventListener("input", drawRuns);
window.addEventListener("hashchange", followFragment);
if (location.hash) followFragment();
