"use strict";
/* Judges the rows of a page anew while its thresholds move. Everything up to `page` is a function of rows and a view,
   and computes what analysis/views.py, tables/answers.py, search.py and certvae/spec/goal.py compute, in their order. */

const ABSENT = "–", MINUS = "−", BLOCK = 128, EIGHT = 8;
const MISSED = [
  ["info", "information", "<", (t, v) => v.info_share * t.log_k],
  ["top1_margin", "top-1 margin", "<", (t, v) => v.top1_margin],
  ["high_margin_share", "share of sharp rows", "<", (t, v) => v.high_margin_share],
  ["min_mass", "min mass", "<", (t, v) => v.min_mass_share / t.classes],
  ["hard_usage_kl", "hard usage KL", ">", (t, v) => v.usage_share * t.log_k],
  ["soft_usage_kl", "soft usage KL", ">", (t, v) => v.usage_share * t.log_k],
];
const NONE = -2;
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/* Numbers as Python prints them: halves go to the even digit, and a minus is a minus sign. */
function fixed(value, digits) {
  const whole = Math.abs(value), exact = whole.toFixed(100);
  const tie = /^50*$/.test(exact.slice(exact.indexOf(".") + 1 + digits));
  let text = whole.toFixed(digits);
  if (tie) {
    const below = exact.slice(0, exact.indexOf(".") + (digits ? 1 + digits : 0));
    if ("02468".includes(below.replace(".", "").slice(-1))) text = below;
  }
  return (value < 0 || Object.is(value, -0) ? "-" : "") + text;
}

function general(value, digits) {
  if (value === 0) return "0";
  const [mantissa, power] = value.toExponential(digits - 1).split("e"), exponent = Number(power);
  const bare = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (exponent >= -4 && exponent < digits) return bare(fixed(value, digits - 1 - exponent));
  return bare(mantissa) + "e" + (exponent < 0 ? "-" : "+") + String(Math.abs(exponent)).padStart(2, "0");
}

const FORMS = {
  signed: (value) => (value < 0 || Object.is(value, -0) ? "" : "+") + fixed(value, 4),
  plain: (value) => fixed(value, 4),
  coarse: (value) => fixed(value, 2),
  count: (value) => fixed(value, 0),
  share: (value) => `${fixed(100 * value, 0)}%`,
  text: (value) => value,
};

function cell(value, form) {
  if (form === "text") return value === null || value === undefined ? ABSENT : value;
  return known(value) ? FORMS[form](value).replace(/-/g, MINUS) : ABSENT;
}

/* A sum in the order in which numpy adds a contiguous array. */
function sum(values) {
  const n = values.length;
  if (n < EIGHT) return values.reduce((total, value) => total + value, -0);
  if (n > BLOCK) {
    let half = Math.floor(n / 2);
    half -= half % EIGHT;
    return sum(values.slice(0, half)) + sum(values.slice(half));
  }
  const lanes = values.slice(0, EIGHT);
  let next = EIGHT;
  for (; next < n - (n % EIGHT); next += EIGHT) for (let k = 0; k < EIGHT; k++) lanes[k] += values[next + k];
  let total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  for (; next < n; next++) total += values[next];
  return total;
}

const mean = (values) => (values.length ? sum(values) / values.length : null);
const least = (values) => (values.length ? Math.min(...values) : null);

function reasons(teacher, view) {
  const missed = MISSED.filter(([name, , sign, limit]) => {
    const found = known(teacher[name]) ? teacher[name] : NaN, wanted = limit(teacher, view);
    return sign === "<" ? !(found >= wanted) : !(found <= wanted);
  }).map(([name, words, sign, limit]) => `${words} ${number(teacher[name])} ${sign} ${number(limit(teacher, view))}`);
  if (known(teacher.energy_budget) && !(known(teacher.code_energy) && teacher.code_energy <= teacher.energy_budget))
    missed.push(`code energy ${number(teacher.code_energy)} > ${number(teacher.energy_budget)}`);
  return missed;
}

const number = (value) => (known(value) ? general(value, 4) : "nan");

/* What each teacher misses under a view, and with it the side that a row is on. */
function sides(data, view) {
  const missed = data.teachers.map((teacher) => reasons(teacher, view));
  const verdict = (place) => {
    if (place === NONE) return ["no teacher was found"];
    return place < 0 ? [] : missed[place];
  };
  return { verdict, stressed: (place) => verdict(place).length > 0, strict: (place) => place >= 0 && !missed[place].length };
}

const certified = (data, left) => left > data.slack;
const claim = (data, margin, tau) =>
  known(margin) ? (certified(data, margin - tau) ? "certified" : "not certified") : "no number";

function counted(words) {
  const found = words.filter((word) => typeof word === "string").map((word) => (word === "dead" ? "dead (collapsed)" : word));
  const kinds = [...new Set(found)].sort();
  if (!kinds.length) return ABSENT;
  if (kinds.length === 1) return `${kinds[0]} ${found.length} of ${found.length}`;
  return kinds.map((kind) => `${kind} ${found.filter((word) => word === kind).length}`).join(", ");
}

function lines(rows) {
  const groups = new Map();
  rows.mode.forEach((mode, row) => {
    const key = `${rows.config[row]}|${mode}|${rows.split[row]}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  });
  return [...groups.values()];
}

function answers(data, view) {
  const rows = data.rows, side = sides(data, view);
  return lines(rows).map((group) => {
    const strict = group.filter((row) => !side.stressed(rows.teacher[row]));
    const of = (name) => strict.map((row) => rows[name][row]).filter(known);
    const left = of("margin").map((margin) => margin - view.tau), bounds = of("population_bound"), psnr = of("psnr_01");
    const n = strict.length, sure = left.filter((one) => certified(data, one)).length;
    const claimed = bounds.length && strict.every((row) => rows.split[row] === "certify");
    return {
      mode: rows.mode[group[0]], label: data.labels[rows.configs[rows.config[group[0]]]], n, certified: sure,
      head: `${sure} of ${n}`,
      population: claimed ? `${bounds.filter((bound) => bound > 0).length} of ${n}` : ABSENT,
      mean_answer: counted(strict.map((row) => rows.mean_word[row])),
      channel_answer: counted(strict.map((row) => rows.channel_word[row])),
      left_mean: mean(left), left_min: least(left), bound_min: least(bounds), psnr_01_mean: mean(psnr),
      n_failed: n - left.length, n_stress: group.length - n,
    };
  });
}

function apart(data, view) {
  const rows = data.rows, side = sides(data, view);
  return rows.mode.map((mode, row) => ({ mode, row })).filter(({ row }) => side.stressed(rows.teacher[row])).map(({ mode, row }) => ({
    label: data.labels[rows.configs[rows.config[row]]], seed: rows.seed[row], mode,
    teacher_verdict: side.verdict(rows.teacher[row]).join("; "),
    left: known(rows.margin[row]) ? rows.margin[row] - view.tau : null, claim: claim(data, rows.margin[row], view.tau),
    population_bound: rows.population_bound[row], psnr_01: rows.psnr_01[row],
  }));
}

function trouble(rows, place) {
  if (place === undefined) return "no result (the cell failed)";
  if (rows.outcome[place] !== "ok") return `${rows.outcome[place]}: ${rows.reason[place]}`;
  return known(rows.margin[place]) && known(rows.psnr_01[place]) ? "" : `${rows.mode[place]} has no finite margin or PSNR`;
}

function score(margins, kind) {
  if (kind === "worst") return least(margins);
  return kind === "mean" ? mean(margins) : mean(margins) - Math.sqrt(variance(margins)) / Math.sqrt(margins.length);
}

/* Over seeds, with n - 1 below; null for one seed. */
function variance(values) {
  const middle = mean(values);
  return values.length > 1 ? sum(values.map((value) => (value - middle) * (value - middle))) / (values.length - 1) : null;
}

/* Student's distribution function for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4). */
function student(freedom, x) {
  const angle = Math.atan(x / Math.sqrt(freedom)), square = Math.cos(angle) ** 2, odd = freedom % 2;
  let term = odd ? Math.cos(angle) : 1, total = freedom > 1 ? term : 0;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) total += term *= ((k - 1) / k) * square;
  const share = odd ? (2 / Math.PI) * (angle + Math.sin(angle) * total) : Math.sin(angle) * total;
  return (1 + share) / 2;
}

/* The probability that a config keeps every constraint, given the noise of seeds; as `Noise` of certvae/spec/goal.py. */
function keeping(all) {
  const noisy = all.filter((one) => one.complete && one.n > 1), freedom = noisy.reduce((total, one) => total + one.n - 1, 0);
  const pooled = (k) => noisy.reduce((total, one) => total + (one.n - 1) * one.variances[k], 0) / freedom;
  return (one) => {
    const missed = one.violations.reduce((total, violation, k) => {
      const error = freedom ? Math.sqrt(pooled(k) / one.n) : 0;
      return total + (error ? student(freedom, violation / error) : Number(violation > 0));
    }, 0);
    return Math.max(0, 1 - missed);
  };
}

function judged(data, view, side, config, group) {
  const rows = data.tried, { mode, reference, score: kind } = data.goal, places = new Map();
  group.forEach((row) => places.set(`${rows.seed[row]}|${rows.mode[row]}`, row));
  const pairs = data.seeds.map((seed) => [seed, places.get(`${seed}|${mode}`), places.get(`${seed}|${reference}`)]);
  const incomplete = (found, n_failed, n_stress, reason = data.ended[config] ?? found) => ({ config, complete: false, feasible: false, reason, n: 0, n_failed, n_stress });
  const troubles = pairs.map(([seed, ...both]) => [seed, both.map((row) => trouble(rows, row)).find(Boolean)]).filter((one) => one[1]);
  if (troubles.length) return incomplete(`seed ${troubles[0][0]}: ${troubles[0][1]}`, troubles.length, 0);
  const strict = pairs.filter((pair) => side.strict(rows.teacher[pair[1]])), n_stress = pairs.length - strict.length;
  if (!strict.length) return incomplete("no seed has a strict-feasible teacher", 0, n_stress);
  if (kind === "mean-se" && strict.length < 2) return incomplete("one strict-feasible seed has no standard error", 0, n_stress);
  const margins = strict.map((pair) => rows.margin[pair[1]]), psnr = strict.map((pair) => rows.psnr_01[pair[1]]);
  const drops = strict.map((pair) => rows.psnr_01[pair[2]] - rows.psnr_01[pair[1]]), drop = mean(drops), reached = mean(psnr);
  const violations = [], variances = [];
  if (view.psnr_drop !== null) { violations.push(drop - view.psnr_drop); variances.push(variance(drops)); }
  if (view.psnr_floor !== null) { violations.push(view.psnr_floor + -reached); variances.push(variance(psnr)); }
  const slack = violations.length ? -Math.max(...violations) : Infinity;
  return {
    config, complete: true, feasible: slack >= 0, reason: null, n: strict.length, n_failed: 0, n_stress,
    score: score(margins, kind), margin_min: least(margins), psnr_01: reached, psnr_change: -drop, slack, violations, variances,
  };
}

function dominates(one, two) {
  return (one.score !== two.score || one.psnr_01 !== two.psnr_01) && one.score >= two.score && one.psnr_01 >= two.psnr_01;
}

function ranking(data, view) {
  const rows = data.tried, side = sides(data, view), groups = new Map();
  if (!rows) return [];
  rows.config.forEach((config, row) => {
    if (!data.seeds.includes(rows.seed[row])) return;
    if (!groups.has(config)) groups.set(config, []);
    groups.get(config).push(row);
  });
  const all = [...groups].map(([config, group]) => judged(data, view, side, rows.configs[config], group));
  const kept = keeping(all), unsure = (one) => Number(one.kept < data.goal.certainty);
  for (const one of all) one.kept = one.complete ? kept(one) : null;
  const feasible = all.filter((one) => one.feasible).sort((a, b) => unsure(a) - unsure(b) || b.score - a.score);
  const missed = all.filter((one) => one.complete && !one.feasible).sort((a, b) => b.slack - a.slack);
  const front = new Set(feasible.filter((one) => !feasible.some((two) => dominates(two, one))));
  const yes = (is) => (is ? "yes" : "no");
  return [...feasible, ...missed, ...all.filter((one) => !one.complete)].map((one, place) => ({
    ...one, place: place + 1, named: data.names[one.config], feasible: yes(one.feasible), front: yes(front.has(one)),
  }));
}

/* The verdict in one word, and the sentence after it; as `opening.headline` has it. */
function headline(data, view, found = answers(data, view)) {
  const asked = data.asked.map((place) => found[place]), seen = asked.filter((line) => line.n);
  if (!seen.length) return ["Not asked.", data.words.none];
  const total = (name) => seen.reduce((all, line) => all + line[name], 0), sure = total("certified"), n = total("n");
  const word = sure === n ? "Yes." : sure ? "In part." : "Not shown.";
  const name = (line) => (line.label === undefined ? line.mode : `${line.mode}, ${line.label}`);
  const each = seen.length <= data.words.most ? seen.map((line) => `${line.certified} of ${line.n} for ${name(line)}`).join(" and ")
    : `${sure} of ${n} over ${seen.length} lines`;
  const smallest = least(seen.map((line) => line.left_min).filter(known)), bound = least(seen.map((line) => line.bound_min).filter(known));
  const margin = `smallest margin left ${cell(smallest, "signed")} nats`;
  const claimed = seen.some((line) => line.population !== ABSENT) && known(bound) ? `, smallest population bound ${cell(bound, "signed")} nats` : "";
  return [word, `The head is certified at tau = ${tauText(view.tau)} in strict-feasible seeds: ${each}; ${margin}${claimed}.`];
}

const tauText = (tau) => (Number(fixed(tau, 2)) === tau ? fixed(tau, 2) : general(tau, 6));
const LIVE = { answers, apart, ranking };
const texts = (line, columns) => columns.map(([name, form]) => cell(line[name], form));

if (typeof module !== "undefined") module.exports = { LIVE, texts, headline, general, sum, cell, student };

/* ---- the page ---- */

function page(data) {
  const view = { ...data.view }, rows = data.rows;
  const byId = (id) => document.getElementById(id), all = (selector) => [...document.querySelectorAll(selector)];
  const tables = all("table[data-live]").map((table) => ({
    make: LIVE[table.dataset.live], body: table.tBodies[0], most: Number(table.dataset.lines),
    more: byId(`more-${table.dataset.live}`), box: table.closest("article"),
    columns: [...table.tHead.rows[0].cells].map((head) => [head.dataset.column, head.dataset.form]),
  }));
  const marks = all("[data-row]"), heads = all("[data-line]"), taus = all("[data-tau]"), card = byId("card");

  function filled({ make, body, columns, most, more, box }) {
    const found = make(data, view), fragment = document.createDocumentFragment();
    for (const line of found.slice(0, most)) {
      const tr = document.createElement("tr");
      texts(line, columns).forEach((text, k) => {
        const td = tr.appendChild(document.createElement("td"));
        if (columns[k][1] !== "text") td.className = "number";
        td.textContent = text;
      });
      fragment.append(tr);
    }
    body.replaceChildren(fragment);
    if (more) more.textContent = found.length > most ? `the first ${most} of ${found.length} lines` : "";
    box.classList.toggle("empty", !found.length);
  }

  function shown() {
    const side = sides(data, view), found = answers(data, view);
    tables.forEach(filled);
    for (const mark of marks) {
      const row = Number(mark.dataset.row);
      mark.classList.toggle("sure", claim(data, rows.margin[row], view.tau) === "certified");
      mark.classList.toggle("stress", side.stressed(rows.teacher[row]));
    }
    for (const head of heads) {
      const line = found[Number(head.dataset.line)];
      head.textContent = cell(line[head.dataset.answer], "text");
    }
    const place = (100 * (view.tau - data.axis[0])) / (data.axis[1] - data.axis[0]);
    for (const one of taus) {
      one.setAttribute(one.dataset.tau, `${place}%`);
      if (one.dataset.tau === "x1") one.setAttribute("x2", `${place}%`);
    }
    const [word, sentence] = headline(data, view, found);
    byId("verdict").textContent = word;
    byId("sentence").textContent = sentence;
    byId("moved").hidden = Object.keys(view).every((name) => view[name] === data.view[name]);
  }

  function said(input) {
    const value = view[input.name];
    byId(`at-${input.name}`).textContent = value === null ? "none" : input.name === "tau" ? tauText(value) : general(value, 4);
  }

  function set(input) {
    const off = input.dataset.off !== undefined && input.value === input.min;
    view[input.name] = off ? null : Number(input.value);
    said(input);
  }

  let waiting = false;
  const inputs = all("#thresholds input");
  for (const input of inputs)
    input.addEventListener("input", () => {
      set(input);
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; shown(); });
    });
  byId("thresholds").addEventListener("reset", () => setTimeout(() => { Object.assign(view, data.view); inputs.forEach(said); shown(); }));

  function told(row) {
    const side = sides(data, view), verdict = side.verdict(rows.teacher[row]);
    const label = data.labels[rows.configs[rows.config[row]]];
    const parts = [
      [`${rows.mode[row]}, seed ${rows.seed[row]}${label ? `, ${label}` : ""}`],
      [rows.outcome[row] === "ok" ? `${claim(data, rows.margin[row], view.tau)} at tau = ${tauText(view.tau)}` : `${rows.outcome[row]}: ${rows.reason[row]}`],
      ["margin", rows.margin[row], "signed", "nats"], ["population bound", rows.population_bound[row], "signed", "nats"],
      ["PSNR", rows.psnr_01[row], "coarse", "dB"], ["KL", rows.kl_rate[row], "coarse", "nats"], ["active units", rows.active_units[row], "count", ""],
      ["mean", rows.mean_word[row], "text", ""], ["channel", rows.channel_word[row], "text", ""], ["units", rows.units_word[row], "text", ""],
      [verdict.length ? `stress case: ${verdict.join("; ")}` : rows.teacher[row] < 0 ? "teacher unknown" : "teacher strict-feasible"],
    ];
    return parts.filter((part) => part.length === 1 || (part[1] !== null && part[1] !== undefined));
  }

  function open(mark) {
    const box = mark.getBoundingClientRect(), parts = told(Number(mark.dataset.row));
    card.replaceChildren(...parts.map(([name, value, form, unit]) => {
      const line = document.createElement("div");
      line.textContent = form ? `${name} ${cell(value, form)}${unit ? ` ${unit}` : ""}` : name;
      return line;
    }));
    card.hidden = false;
    const left = Math.min(Math.max(8, box.x + box.width / 2 - card.offsetWidth / 2), innerWidth - card.offsetWidth - 8);
    const above = box.y - card.offsetHeight - 10;
    card.style.left = `${left + scrollX}px`;
    card.style.top = `${(above > 0 ? above : box.bottom + 10) + scrollY}px`;
  }
  const near = (event) => event.target.closest && event.target.closest("[data-row]");
  document.addEventListener("pointerover", (event) => { const mark = near(event); if (mark) open(mark); else card.hidden = true; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") card.hidden = true; });
  byId("thresholds").hidden = false;
}

if (typeof document !== "undefined") page(JSON.parse(document.getElementById("rows").textContent));
