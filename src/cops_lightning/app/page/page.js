// The page: everything comes from, and goes to, the server it was loaded from.

const TOKEN = "tab";
const AT_ONCE = 2; // uploads under way
const state = { about: null, tab: null, token: null, chosen: null, strength: 60, outlined: true, explained: false };
const find = (id) => document.getElementById(id);

// An element with properties and children; text is never read as HTML.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function drawn(tag, properties) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  return element;
}

async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(path, { method, body });
  } catch {
    throw new Error("The server does not answer. Is cops-app still running?");
  }
  const found = await response.json();
  if (found.error) throw new Error(found.error);
  return found;
}

const ofTab = (path = "") => `/api/tabs/${state.token}${path}`;
const number = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
const percent = (level) => `${Math.round(level * 100)} %`;

function say(text) {
  const close = make("button", { type: "button", ariaLabel: "Close this message" }, "Close");
  const message = make("p", { className: "message" }, make("span", {}, text), close);
  close.onclick = () => { message.remove(); offerToCloseAll(); };
  find("messages").append(message);
  offerToCloseAll();
  message.scrollIntoView({ block: "nearest" });
}

function offerToCloseAll() {
  find("close-all").hidden = find("messages").childElementCount < 2;
}

find("close-all").onclick = () => { find("messages").replaceChildren(); offerToCloseAll(); };

const saying = (act) => async (...given) => {
  try {
    return await act(...given);
  } catch (error) {
    say(error.message);
  }
};

// ---- start

async function start() {
  state.about = await ask("GET", "/api/about");
  const { detectors, examples, limits, levels, runs } = state.about;
  find("detectors").textContent = detectors.map((one) => `${one.name}: ${one.method} over ${one.backbone}`).join("; ");
  find("banner").hidden = !detectors.some((one) => one.demonstration);
  for (const place of document.querySelectorAll(".limits")) {
    place.textContent = `Up to ${limits.megabytes} MB and ${limits.megapixels} megapixels each, ${limits.images} images.`;
  }
  for (const level of levels) find("level").append(make("option", { value: String(level) }, percent(level)));
  document.querySelector('[data-section="runs"]').hidden = !runs;
  examples.forEach((example, place) => {
    const picture = make("img", { src: `/api/examples/${place}.png`, alt: "" });
    const truth = example.truth === "good" ? "normal" : example.truth;
    const button = make("button", { type: "button" }, picture, `${example.name}: ${truth}`);
    button.onclick = saying(() => judge(() => ask("POST", ofTab(`/examples/${place}`))));
    find("examples").querySelector(".strip").append(button);
  });
  find("examples").hidden = examples.length === 0;
  await open();
}

async function open() {
  // The server may have forgotten the tab, or be another one: then it gives a new token.
  state.token = (await ask("POST", `/api/tabs?token=${sessionStorage.getItem(TOKEN) ?? ""}`)).token;
  sessionStorage.setItem(TOKEN, state.token);
  state.tab = await ask("GET", ofTab());
  find("csv").href = ofTab("/results.csv");
  find("zip").href = ofTab("/results.zip");
  await show();
}

// ---- uploads

async function judge(act) {
  const { images } = await act();
  state.tab = await ask("GET", ofTab());
  state.chosen = images[0].id;
  await show();
}

async function upload(kind, files) {
  const place = document.querySelector(`[data-kind="${kind}"]`).nextElementSibling;
  const { megabytes } = state.about.limits;
  const waiting = [...files];
  let done = 0;
  let first = null;
  const next = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      place.hidden = false;
      place.textContent = `${done} of ${files.length} done`;
      await saying(async () => {
        if (file.size > megabytes * 1e6) throw new Error(`${file.name} has more than ${megabytes} MB, which is all that is accepted.`);
        const found = await ask("POST", ofTab(`/${kind}?name=${encodeURIComponent(file.name)}`), file);
        first ??= kind === "images" ? found.images[0].id : null;
      })();
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  place.hidden = true;
  state.tab = await ask("GET", ofTab());
  if (first) state.chosen = first;
  await show();
}

for (const drop of document.querySelectorAll(".drop")) {
  const kind = drop.dataset.kind;
  const input = drop.querySelector("input");
  input.onchange = saying(async () => {
    const files = [...input.files];
    input.value = "";
    await upload(kind, files);
  });
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = saying(async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    await upload(kind, [...event.dataTransfer.files]);
  });
}
// A file that misses the frame would else replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

// ---- results

function label(verdict) {
  const signs = { anomalous: "▲ anomalous", normal: "✓ normal" };
  return make("span", { className: `label ${verdict.label ?? "none"}` }, signs[verdict.label] ?? "no verdict");
}

async function show() {
  const { images } = state.tab;
  find("results").hidden = images.length === 0;
  find("count").textContent = images.length === 1 ? "1 image" : `${images.length} images`;
  if (!images.some((image) => image.id === state.chosen)) state.chosen = images[0]?.id ?? null;
  const cards = images.map((image) => {
    const scores = image.verdicts.map((one) => number(one.score)).join(" and ");
    const picture = make("img", { src: ofTab(`/images/${image.id}/thumb.jpg`), alt: "" });
    const name = make("span", { className: "name" }, image.name, make("small", {}, `score ${scores}`));
    const button = make("button", { type: "button" }, picture, name, label(image.verdicts[0]));
    button.setAttribute("aria-pressed", String(image.id === state.chosen));
    button.onclick = saying(async () => { state.chosen = image.id; await show(); });
    button.dataset.id = image.id;
    return make("li", {}, button);
  });
  const focused = document.activeElement?.dataset?.id;
  find("cards").replaceChildren(...cards);
  if (focused) find("cards").querySelector(`[data-id="${focused}"]`)?.focus();
  showDrift();
  showCalibration();
  if (state.chosen) await showDetail(state.chosen);
}

function showDrift() {
  const { detectors } = state.about;
  const notes = state.tab.drift.flatMap((said, place) => said === null ? [] : [
    make("p", { className: "note" }, make("strong", {}, detectors.length > 1 ? `${detectors[place].name}, drift. ` : "Drift. "), said)]);
  find("drift").replaceChildren(...notes);
}

async function showDetail(id) {
  const image = await ask("GET", ofTab(`/images/${id}`));
  if (id !== state.chosen) return;
  const remove = make("button", { type: "button" }, "Remove");
  remove.onclick = saying(async () => {
    state.tab = await ask("DELETE", ofTab(`/images/${id}`));
    await show();
    document.querySelector("#cards button, #files").focus();
  });
  const head = make("div", { className: "row" }, make("h3", {}, image.name), remove);
  const views = make("div", { className: "views" });
  const slider = make("input", { type: "range", min: 0, max: 100, step: 5, value: state.strength, id: "strength" });
  const output = make("output", { htmlFor: "strength" });
  const outline = make("input", { type: "checkbox", checked: state.outlined });
  const apply = () => {
    state.strength = Number(slider.value);
    state.outlined = outline.checked;
    output.textContent = `${state.strength} %`;
    for (const one of views.querySelectorAll(".overlay")) one.style.opacity = state.strength / 100;
    for (const one of views.querySelectorAll("svg")) one.style.display = state.outlined ? "" : "none";
  };
  slider.oninput = outline.onchange = apply;
  const controls = make("div", { className: "controls" },
    make("label", {}, "Heat map", slider, output),
    make("label", {}, outline, "Frame regions"));
  image.verdicts.forEach((verdict, place) => views.append(view(image, verdict, place)));
  const ends = image.found.map((one) => number(one.color_limit, 2));
  const scales = new Set(ends).size < 2 ? null : make("p", { className: "note" },
    `The colours of these maps end at ${ends.join(" and ")}: each detector has its own scale. Equal colours do not mean equal values.`);
  find("detail").replaceChildren(...[head, controls, scales, views].filter((one) => one !== null));
  apply();
}

function view(image, verdict, place) {
  const detector = state.about.detectors[place];
  const { regions, color_limit: limit } = image.found[place];
  const base = ofTab(`/images/${image.id}`);
  const frames = drawn("svg", { viewBox: `0 0 ${image.width} ${image.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const { left, top, right, bottom } of regions) {
    frames.append(drawn("rect", { x: left, y: top, width: right - left, height: bottom - top }));
  }
  const stack = make("div", { className: "stack" },
    make("img", { src: `${base}/view.jpg`, alt: image.name }),
    make("img", { className: "overlay", alt: "Its anomaly map", src: `${base}/${place}/overlay.png?limit=${limit}` }),
    frames);
  stack.style.setProperty("--aspect", image.width / image.height);
  const scale = make("div", { className: "scale" }, "0", make("img", { src: "/api/colors.png", alt: "Colours from low to high" }), number(limit, 2));
  const numbers = make("div", { className: "verdict" }, label(verdict),
    make("span", {}, "score ", make("b", {}, number(verdict.score))),
    make("span", {}, "p ", make("b", {}, verdict.p_value === null ? "–" : number(verdict.p_value))),
    make("span", {}, "threshold ", make("b", {}, number(verdict.threshold))));
  const found = make("div", { className: "view" },
    state.about.detectors.length > 1 ? make("h3", { title: detector.name }, detector.name) : null,
    make("figure", {}, stack, scale), numbers, make("p", { className: "why" }, verdict.why), table(regions, verdict));
  if (detector.parts) found.append(parts(`${base}/${place}/parts`));
  return found;
}

function table(regions, verdict) {
  if (regions.length === 0) return make("p", { className: "quiet" }, `No pixel is above ${number(verdict.map_threshold)}, the threshold of regions.`);
  const columns = ["region", "at x, y", "size", "area, px", "peak", "p"];
  const rows = regions.slice(0, 10).map((one, place) => [
    place + 1, `${one.left}, ${one.top}`, `${one.right - one.left} × ${one.bottom - one.top}`, one.area,
    number(one.peak), number(one.p_value ?? null),
  ]);
  const more = regions.length > 10 ? make("p", { className: "quiet" }, `and ${regions.length - 10} smaller peaks`) : null;
  return make("div", { className: "scroll" }, grid(columns, rows), more);
}

function grid(columns, rows, words = 1) {
  const cell = (tag) => (content, place) => make(tag, { className: place < words ? "words" : "" }, content);
  return make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map(cell("th")))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(String).map(cell("td"))))));
}

function parts(path) {
  const inside = make("div", { className: "parts" });
  const found = make("details", {}, make("summary", {}, "What the method looked at"), inside);
  found.ontoggle = saying(async () => {
    state.explained = found.open;
    if (!found.open || inside.childElementCount) return;
    inside.append(make("p", { role: "status" }, "Computing …"));
    const steps = await ask("GET", path);
    inside.replaceChildren(...steps.map((part) => make("div", {},
      make("h3", {}, part.value === null ? part.title : `${part.title}: ${number(part.value)}`),
      part.map ? make("img", { src: part.map, alt: part.title }) : null,
      part.map ? make("p", {}, `${number(part.low, 2)} to ${number(part.high, 2)}`) : null,
      make("p", {}, part.meaning))));
  });
  found.open = state.explained;
  return found;
}

find("clear").onclick = saying(async () => {
  state.tab = await ask("DELETE", ofTab("/images"));
  await show();
  find("files").focus();
});

// ---- calibration

function showCalibration() {
  const { calibrations, level, normal } = state.tab;
  find("level").value = String(level);
  const lines = calibrations.flatMap((one, place) => {
    const name = calibrations.length > 1 ? `${state.about.detectors[place].name}: ` : "";
    if (one === null) return [make("p", {}, `${name}No normal images yet, so there is no verdict.`)];
    const repeated = one.repeated ? ` ${one.repeated} more were copies of others and do not count.` : "";
    const from = normal ? "Your" : "Given at the start:";
    const file = make("a", { className: "button", href: ofTab(`/calibration/${place}.json`), download: "calibration.json" }, "Calibration file");
    const said = one.shortage ?? `Scores above ${number(one.threshold)} are called anomalous.`;
    const watched = one.watched
      ? "Further images are compared with these, ten at a time: if they have moved away, that is said above them."
      : "Drift is not watched: that takes 20 images, and a detector that reads features.";
    return [make("p", {}, `${name}${from} ${one.images} normal images.${repeated} ${said} ${watched}`), file];
  });
  const forget = make("button", { type: "button" }, "Forget these normal images");
  forget.onclick = saying(async () => { state.tab = await ask("DELETE", ofTab("/normal")); await show(); });
  find("calibration").replaceChildren(...lines, ...(normal ? [" ", forget] : []));
}

find("level").onchange = saying(async () => {
  state.tab = await ask("PUT", ofTab(`/level/${find("level").value}`));
  await show();
});

// ---- runs

async function listRuns() {
  const runs = await ask("GET", "/api/runs");
  const chosen = find("run").value;
  find("run").replaceChildren(...runs.map((run) => make("option", { value: String(run.number) }, `${run.name} (${run.status})`)));
  if (chosen) find("run").value = chosen;
  await showRun();
}

async function showRun() {
  const at = find("run").value;
  const run = await ask("GET", `/api/runs/${at}`);
  const metrics = [...new Set(run.results.map((one) => `${one.level} ${one.metric}`))];
  const targets = [...new Set(run.results.map((one) => one.target))];
  const value = (target, metric) => run.results.find((one) => one.target === target && `${one.level} ${one.metric}` === metric)?.value ?? null;
  const rows = targets.map((target) => [target, ...metrics.map((metric) => { const found = value(target, metric); return found === null ? "–" : (100 * found).toFixed(1); })]);
  const kinds = [
    ["missed", `Missed: anomalous images with the lowest scores (${run.anomalous} anomalous images)`],
    ["false_alarms", `False alarms: normal images with the highest scores (${run.normal} normal images)`],
  ];
  find("of-run").replaceChildren(
    targets.length ? make("div", { className: "scroll" }, grid(["target, %", ...metrics], rows)) : make("p", {}, "No results."),
    ...kinds.flatMap(([kind, title], place) => [make("h3", {}, title), errors(at, run[kind], place === 0)]));
}

function errors(at, images) {
  const pictured = images.filter((image) => image.drawn).length;
  const rows = images.map((image, place) => [place + 1, image.target, image.category, image.image, number(image.score), image.drawn ? "yes" : "no"]);
  return make("div", {},
    make("div", { className: "errors" }, ...images.slice(0, 12).map((image, place) => make("figure", {},
      image.drawn
        ? make("img", { src: `/api/runs/${at}/images/${image.row}.png`, alt: `Heat map of ${image.image}`, loading: "lazy" })
        : make("p", { className: "quiet" }, "The run drew no heat map of it."),
      make("figcaption", {}, `${place + 1}. ${image.target}, ${image.image}, score ${number(image.score)}`)))),
    make("details", {}, make("summary", {}, `${images.length} images as a list, ${pictured} of them with heat maps`),
      make("div", { className: "scroll" }, grid(["", "target", "category", "image", "score", "heat map"], rows, 4))));
}

find("run").onchange = saying(showRun);

for (const button of document.querySelectorAll("nav button")) {
  button.onclick = saying(async () => {
    for (const other of document.querySelectorAll("nav button")) other.removeAttribute("aria-current");
    button.setAttribute("aria-current", "page");
    for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== button.dataset.section;
    if (button.dataset.section === "runs") await listRuns();
  });
}

saying(start)();
