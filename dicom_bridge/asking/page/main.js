// The page: what is dropped, asked, found.
import { chosen, dropped } from "./dropped.js";
import { fillFindings } from "./findings.js";
import { Hints } from "./hints.js";
import { AskedImage, forget, read, readModel, readUpload, send } from "./server.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const MOST_NAMES = 30;

let model = null;
let upload = null;
let image = null;
let answer = null;
let shown = new Set();
let names = [];
let working = null;
let askedWords = "";
const hints = new Hints();

const viewer = new Viewer($("canvas"), {
  onSlice: showSlice,
  onWindow: showWindow,
  onPoint: point,
  onCursor: ([row, column]) => say(`row ${row + 1}, column ${column + 1}`),
  onError: (text) => tell([text]),
}, (slice) => hints.on(slice));

function say(text) {
  $("status").textContent = text;
}

/** Lines that stay until the next are told. */
function tell(lines, warnings = []) {
  const item = (text, className) => Object.assign(document.createElement("li"), { textContent: text, className });
  $("lines").replaceChildren(...lines.map((text) => item(text, "")), ...warnings.map((text) => item(text, "warning")));
}

/** Do something that takes a while and can be cancelled; what was begun before is cancelled. */
async function work(said, act) {
  working?.abort();
  const mine = (working = new AbortController());
  const progress = (share) => {
    if (working !== mine) return;
    if (share === null) $("progress").removeAttribute("value");
    else $("progress").value = share;
  };
  $("work").hidden = false;
  $("work-said").textContent = said;
  progress(null);
  try {
    await act(mine.signal, progress, (text) => { if (working === mine) $("work-said").textContent = text; });
  } catch (error) {
    if (error.name === "AbortError") { if (working === mine) say("Cancelled."); }
    else { tell([error.message]); say(""); }
  } finally {
    if (working === mine) {
      working = null;
      $("work").hidden = true;
    }
  }
}

async function take(files) {
  if (!files.length) return;
  const before = upload?.id;
  let isOpen = false;
  await work(`Sending ${files.length === 1 ? files[0].name : `${files.length} files`} ...`, async (signal, progress, said) => {
    tell([]);
    const id = await send(files, (done, all) => progress(all ? done / all : null), signal);
    progress(null);
    said("Reading ...");
    const content = await read(id, $("modality").value, signal);
    if (before) forget(before).catch(() => {});
    open(content);
    isOpen = true;
  });
  if (isOpen) askWhatIsTyped();
}

/** Read what was sent once more, as another kind of image. */
async function readAgain() {
  if (!upload) return;
  let isOpen = false;
  await work("Reading ...", async (signal) => {
    open(await read(upload.id, $("modality").value, signal));
    isOpen = true;
  });
  if (isOpen) askWhatIsTyped();
}

function askWhatIsTyped() {
  if (image && $("words").value.trim()) ask();
}

function open(content) {
  upload = content;
  image = answer = null;
  hints.clear();
  history.replaceState(null, "", `#${content.id}`);
  $("image").replaceChildren(...content.images.map(({ name }, number) => new Option(name, number)));
  $("choice").hidden = content.images.length < 2;
  $("looking").hidden = $("found").hidden = content.images.length === 0;
  if (content.needs_modality) $("modality").focus();
  if (content.images.length) look(0);
  else {
    tell(content.refused);
    say("");
  }
  enable();
}

function look(number) {
  const content = upload.images[number];
  image = new AskedImage(upload.id, number, content);
  answer = null;
  askedWords = "";
  shown = new Set();
  hints.clear();
  $("found").hidden = true;
  tell(upload.refused, [
    ...content.warnings,
    ...(content.is_modality_assumed ? [`Nothing says what kind of image this is (taken for: ${content.kind}); choose it.`] : []),
  ]);
  $("looking").hidden = false;
  showPlanes(content.planes);
  $("window-fields").hidden = content.window === null;
  tools().window.disabled = content.window === null;
  choose(content.window === null ? "move" : "window");
  viewer.open(image);
  if (content.window) showWindow(content.window);
  say(`${content.name}: ${content.kind}, ${content.planes[0].columns} × ${content.planes[0].rows}` +
    `${content.planes[0].slices > 1 ? `, ${content.planes[0].slices} slices` : ""}.`);
  const asked = image;
  image.names().then((offered) => { if (image === asked) names = offered; }, () => { names = []; });
  enable();
}

async function ask(isNew = true) {
  if (!image || !model) return;
  const [asked, words] = [image, $("words").value];
  // What was pointed at before anything was named belongs to the name that follows.
  if (isNew && askedWords && words !== askedWords) hints.clear();
  askedWords = words.trim() ? words : askedWords;
  const pointed = hints.content();
  enable();
  await work(words.trim() ? `Looking for ${words} ...` : "Looking for what is there ...", async (signal, progress) => {
    tell(upload.refused, asked.content.warnings);
    const told = await asked.find(words, pointed, progress, signal);
    if (image !== asked) return;
    showAnswer(told, isNew);
  });
}

function showAnswer(told, isNew) {
  const before = isNew ? null : answer;
  answer = told;
  const drawn = told.findings.flatMap((finding, number) => (finding.is_drawn ? [number] : []));
  const hidden = new Set(before?.findings.flatMap((finding, number) => (finding.is_drawn && !shown.has(number) ? [number] : [])));
  shown = new Set(drawn.filter((number) => !hidden.has(number)));
  $("found").hidden = false;
  $("archive").href = image.archiveUrl(told.number);
  $("archive-note").textContent = image.content.is_dicom ? "findings.json, masks, overlays, SEG, SR, PDF" : "findings.json, masks, overlays";
  const paint = () => {
    viewer.showAnswer(told.number, [...shown]);
    showSlice(viewer.index);
  };
  fillFindings($("findings"), image, told, shown, paint, lookAt);
  paint();
  if (isNew && drawn.length) lookAt(told.findings[drawn[0]]);
  say(`${told.answer} (${(told.seconds.find ?? 0).toFixed(2)} s)`);
}

/** Go to where a finding is largest. */
function lookAt(finding) {
  const place = image.content.planes.indexOf(viewer.plane);
  viewer.go(finding.largest[place]);
}

function point(kind, place) {
  hints.add(viewer.index, kind, place);
  viewer.draw();
  if (!$("words").value.trim() && !model.takes_hints_without_name) {
    tell(["These weights must be told what is pointed at: type its name."]);
    $("words").focus();
    return enable();
  }
  return ask(false);
}

function tools() {
  return Object.fromEntries(Array.from(document.querySelectorAll("input[name=tool]"), (input) => [input.value, input]));
}

function choose(tool) {
  tools()[tool].checked = true;
  viewer.tool = tool;
}

function enable() {
  $("find").disabled = !image || !model;
  $("undo").disabled = $("clear").disabled = hints.isEmpty;
  const canPoint = Boolean(model?.takes_hints) && viewer.plane?.axis === 0;
  for (const tool of ["inside", "outside", "box"]) tools()[tool].disabled = !canPoint;
  if (!canPoint && tools()[viewer.tool].disabled) choose(image?.content.window ? "window" : "move");
  $("points-note").textContent = !model ? "" : !model.takes_hints ? "These weights take no clicks and boxes."
    : canPoint ? "Pointing by keys: arrows move a cross, with Shift by one pixel, Enter sets it."
      : "Clicks and boxes are for the first plane, whose slices the weights see.";
}

function showPlanes(planes) {
  $("planes").hidden = planes.length < 2;
  const legend = $("planes").querySelector("legend");
  $("planes").replaceChildren(legend, ...planes.map((plane, number) => {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "plane", checked: number === 0 });
    input.addEventListener("change", () => {
      viewer.showPlane(plane);
      enable();
    });
    const label = document.createElement("label");
    label.append(input, plane.name || `plane ${number + 1}`);
    return label;
  }));
}

function showSlice(index) {
  const { slices, name } = viewer.plane;
  $("slice-fields").hidden = slices < 2;
  $("slice").max = slices;
  $("slice").value = index + 1;
  $("slice-said").textContent = `${index + 1} of ${slices}`;
  const painted = answer ? [...shown].map((number) => answer.findings[number].target) : [];
  $("canvas").ariaLabel = [
    image.content.name,
    slices > 1 ? `${name} slice ${index + 1} of ${slices}` : "",
    painted.length ? `painted: ${painted.join(", ")}` : "nothing painted",
  ].filter(Boolean).join("; ");
}

function showWindow([centre, width]) {
  $("centre").value = Number(centre.toPrecision(4));
  $("width").value = Number(width.toPrecision(4));
}

function offerNames() {
  const text = $("words").value;
  const before = text.slice(0, text.lastIndexOf(";") + 1);
  const typed = text.slice(before.length).trim().toLowerCase();
  const fitting = names.filter(({ name }) => name.includes(typed)).sort((one, other) =>
    other.is_known - one.is_known || other.name.startsWith(typed) - one.name.startsWith(typed));
  $("names").replaceChildren(...fitting.slice(0, MOST_NAMES).map(({ name, is_known: isKnown }) =>
    new Option(isKnown ? "" : "not known in this kind of image", `${before}${before && " "}${name}`)));
}

function listen() {
  $("open-files").addEventListener("click", () => $("files").click());
  $("open-folder").addEventListener("click", () => $("folder").click());
  for (const id of ["files", "folder"]) {
    $(id).addEventListener("change", () => {
      const files = chosen($(id).files);
      $(id).value = "";
      take(files);
    });
  }
  document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    try {
      take(await dropped(event.dataTransfer));
    } catch (error) {
      tell([`what was dropped can't be read: ${error.message}`]);
    }
  });
  $("modality").addEventListener("change", readAgain);
  $("image").addEventListener("change", () => look(Number($("image").value)));
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  $("words").addEventListener("input", offerNames);
  $("words").addEventListener("focus", offerNames);
  $("cancel").addEventListener("click", () => working?.abort());
  for (const input of Object.values(tools())) input.addEventListener("change", () => { viewer.tool = input.value; });
  $("undo").addEventListener("click", () => { hints.undo(); ask(false); });
  $("clear").addEventListener("click", () => { hints.clear(); ask(false); });
  $("smaller").addEventListener("click", () => viewer.resize(1 / 1.25));
  $("larger").addEventListener("click", () => viewer.resize(1.25));
  $("fit").addEventListener("click", () => viewer.fit());
  $("slice").addEventListener("input", () => viewer.go(Number($("slice").value) - 1));
  for (const id of ["centre", "width"]) {
    $(id).addEventListener("change", () => {
      const window = [Number($("centre").value), Number($("width").value)];
      if (Number.isFinite(window[0]) && window[1] > 0) viewer.setWindow(window);
    });
  }
  $("window-first").addEventListener("click", () => viewer.setWindow(image.content.window));
}

async function begin() {
  listen();
  const id = location.hash.slice(1);
  if (id) {
    try {
      open(await readUpload(id));
    } catch (error) {
      history.replaceState(null, "", "/");
      tell([error.message]);
    }
  }
  try {
    model = await readModel();
    $("model").textContent = `model: ${model.name}, version ${model.version}, weights ${model.weights_sha256.slice(0, 8)}`;
  } catch (error) {
    $("model").textContent = `The model can't be loaded: ${error.message}`;
  }
  enable();
  askWhatIsTyped();
}

begin();
