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
    const unbounded = strict.some((row) => known(rows.margin[row]) && !known(rows.population_bound[row]));
    const claimed = bounds.length && strict.every((row) => rows.split[row] === "certify");
    return {
      mode: rows.mode[group[0]], label: data.labels[rows.configs[rows.config[group[0]]]], n, certified: sure,
      head: `${sure} of ${n}`,
      population: claimed ? `${bounds.filter((bound) => bound > 0).length} of ${n}` : ABSENT,
      mean_answer: counted(strict.map((row) => rows.mean_word[row])),
      channel_answer: counted(strict.map((row) => rows.channel_word[row])),
      left_mean: mean(left), left_min: least(left), bound_min: unbounded ? null : least(bounds), psnr_01_mean: psnr.length === left.length ? mean(psnr) : null,
      dead: strict.filter((row) => rows.channel_word[row] === "dead").length,
      open: strict.filter((row) => rows.channel_word[row] === "open").length, n_failed: n - left.length, n_stress: group.length - n,
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

/* Lower Cholesky root of a symmetric matrix. */
function cholesky(matrix) {
  const root = matrix.map(() => new Float64Array(matrix.length));
  for (let i = 0; i < matrix.length; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      let rest = matrix[i][j];
      for (let k = 0; k < j; k += 1) rest -= root[i][k] * root[j][k];
      root[i][j] = i === j ? Math.sqrt(rest) : rest / root[j][j];
    }
  }
  return root;
}

/* The solution of root x = b. */
function forward(root, b) {
  const x = new Float64Array(b.length);
  for (let i = 0; i < b.length; i += 1) {
    let rest = b[i];
    for (let k = 0; k < i; k += 1) rest -= root[i][k] * x[k];
    x[i] = rest / root[i][i];
  }
  return x;
}

const dot = (a, b) => a.reduce((total, value, k) => total + value * b[k], 0);

/* Variances that a seed has in common to all configs and has with each; as `components` of certvae/spec/pooled.py. */
function components(values) {
  const count = values.length, seeds = values[0].length, square = (list) => list.reduce((total, x) => total + x * x, 0);
  const rest = values.map((row) => row.map((value) => value - mean(row)));
  const common = values[0].map((_, k) => mean(rest.map((row) => row[k])));
  const own = sum(rest.map((row) => square(row.map((value, k) => value - common[k])))) / ((count - 1) * (seeds - 1));
  return [Math.max(0, square(common) / (seeds - 1) - own / count), own];
}

/* A Gaussian process through means, its likelihood and posterior; as `_Process` of certvae/spec/pooled.py. */
function fitted(distances, values, noise, length, signal) {
  const kernel = distances.map((row) => row.map((distance) => {
    const scaled = (Math.sqrt(5) * distance) / length;
    return signal * (1 + scaled + scaled ** 2 / 3) * Math.exp(-scaled);
  }));
  const root = cholesky(kernel.map((row, i) => row.map((value, j) => value + (i === j ? noise : 0))));
  const ones = forward(root, values.map(() => 1)), seen = forward(root, values), middle = dot(ones, seen) / dot(ones, ones);
  const rest = seen.map((value, k) => value - middle * ones[k]);
  const logs = root.reduce((total, row, i) => total + Math.log(row[i]), 0) + Math.log(dot(ones, ones)) / 2;
  const posterior = () => kernel.map((row) => {
    const shown = forward(root, row), spread = signal - dot(shown, shown) + (1 - dot(ones, shown)) ** 2 / dot(ones, ones);
    return [middle + dot(rest, shown), Math.max(spread, 0)];
  });
  return { likelihood: -dot(rest, rest) / 2 - logs, posterior };
}

/* Mean and variance at each config by all of them, null where nothing can be pooled; as `smoothed` of certvae/spec/pooled.py. */
const LENGTHS = [0.1, 0.2, 0.35, 0.6, 1.0, 1.8], SIGNALS = [0.5, 2.0, 8.0, 32.0], LEAST = 10, MOST = 2000, LEARNED = 200;

function smoothed(points, values, noise) {
  const n = values.length, middle = mean(values), spread = mean(values.map((value) => (value - middle) ** 2));
  if (n < LEAST || n > MOST || !points[0].length || !(noise > 0) || new Set(values).size === 1) return null;
  const step = Math.ceil(n / LEARNED), some = (list) => list.filter((_, place) => place % step === 0);
  const distances = points.map((one) => points.map((two) => Math.sqrt(one.reduce((total, x, k) => total + (x - two[k]) ** 2, 0))));
  const near = some(distances).map(some), few = some(values), best = { likelihood: -Infinity };
  for (const length of LENGTHS) {
    for (const signal of SIGNALS.map((one) => one * spread)) {
      const { likelihood } = fitted(near, few, noise, length, signal);
      if (likelihood > best.likelihood) Object.assign(best, { likelihood, length, signal });
    }
  }
  return fitted(distances, values, noise, best.length, best.signal).posterior();
}

/* What all configs say of each one's violations; as `Noise.pooled` of certvae/spec/goal.py. */
function together(data, all, variances, freedom) {
  const known = all.filter((one) => one.complete).sort((a, b) => (a.config < b.config ? -1 : 1)), found = new Map(known.map((one) => [one.config, []]));
  const places = known.map((one) => data.places[one.config]).filter(Boolean), names = Object.keys(places[0] ?? {}).sort();
  if (!freedom || places.length < known.length || new Set(places.map((place) => Object.keys(place).sort().join("\n"))).size !== 1) return found;
  const points = places.map((place) => names.map((name) => place[name])), least = known[0].n;
  const alike = least > 1 && known.length > 1 && known.every((one) => one.n === least && !one.n_stress);
  variances.forEach((variance, k) => {
    const [shared, own] = alike ? components(known.map((one) => one.seeds[k])) : [variance, variance];
    smoothed(points, known.map((one) => one.violations[k]), own / least)?.forEach(([middle, spread], place) => {
      const { config, n } = known[place], common = shared / n, total = spread + common;
      const free = total && n > 1 ? Math.floor(total ** 2 / (spread ** 2 / freedom + common ** 2 / (n - 1)) + 1e-9) : freedom;
      found.get(config)[k] = [middle, Math.sqrt(total), free];
    });
  });
  return found;
}

/* The probability that a config keeps every constraint, given the noise of seeds; as `Noise` of certvae/spec/goal.py. */
function keeping(data, all) {
  const noisy = all.filter((one) => one.complete && one.n > 1), freedom = noisy.reduce((total, one) => total + one.n - 1, 0);
  const pooled = (k) => noisy.reduce((total, one) => total + (one.n - 1) * one.variances[k], 0) / freedom;
  const variances = freedom ? noisy[0].variances.map((_, k) => pooled(k)) : [], others = together(data, all, variances, freedom);
  return (one) => {
    if (!freedom) return null;
    const missed = one.violations.reduce((total, violation, k) => {
      const own = [violation, Math.sqrt(variances[k] / one.n), freedom];
      const [middle, error, free] = others.get(one.config)?.[k] ?? own;
      return total + (error ? student(free, middle / error) : Number(middle > 0));
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
  const violations = [], variances = [], seeds = [];
  if (view.psnr_drop !== null) { violations.push(drop - view.psnr_drop); variances.push(variance(drops)); seeds.push(drops); }
  if (view.psnr_floor !== null) { violations.push(view.psnr_floor + -reached); variances.push(variance(psnr)); seeds.push(psnr); }
  const slack = violations.length ? -Math.max(...violations) : Infinity;
  return {
    config, complete: true, feasible: slack >= 0, reason: null, n: strict.length, n_failed: 0, n_stress,
    score: score(margins, kind), margin_min: least(margins), psnr_01: reached, psnr_change: -drop, slack, violations, variances, seeds,
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
  const kept = keeping(data, all), unsure = (one) => Number(one.kept < data.goal.certainty);
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
  const total = (name) => seen.reduce((all, line) => all + line[name], 0), sure = total("certified"), dead = total("dead"), open = total("open"), n = total("n");
  const word = dead === n ? "Collapsed." : sure === n && !dead && !open ? "Yes." : sure ? "In part." : "Not shown.";
  const name = (line) => (line.label === undefined ? line.mode : `${line.mode}, ${line.label}`);
  const each = seen.length <= data.words.most ? seen.map((line) => `${line.certified} of ${line.n} for ${name(line)}`).join(" and ")
    : `${sure} of ${n} over ${seen.length} lines`;
  const smallest = least(seen.map((line) => line.left_min).filter(known)), bound = least(seen.map((line) => line.bound_min).filter(known));
  const margin = `smallest margin left ${cell(smallest, "signed")} nats`;
  const whole = seen.every((line) => known(line.bound_min) || line.n_failed === line.n);
  const claimed = seen.some((line) => line.population !== ABSENT) && known(bound) && whole ? `, smallest population bound ${cell(bound, "signed")} nats` : "";
  return [word, `The head is certified at tau = ${tauText(view.tau)} in strict-feasible seeds: ${each}; ${margin}${claimed}${dead ? `; ${dead} of ${n} channels are dead (collapsed)` : ""}${open ? `; ${open} of ${n} channels are open: their draws are not shown to carry information` : ""}.`];
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
