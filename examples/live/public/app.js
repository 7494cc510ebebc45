import { Client } from "/exuvia.js";

const find = (id) => document.getElementById(id);
const HUES = [265, 20, 75, 150, 205, 320];
/** The board is 10,000 wide and high, whatever its size on the screen. */
const EDGE = 10_000;
const MAX_POINTS = 200;

// ---- Who is here

function random(list) {
  return list[Math.floor(Math.random() * list.length)];
}

function someName() {
  const kinds = ["Quiet", "Swift", "Bright", "Gentle", "Curious", "Merry"];
  const animals = ["Otter", "Heron", "Badger", "Wren", "Lynx", "Newt"];
  return `${random(kinds)} ${random(animals)}`;
}

/** What this browser remembers. */
function remembered(key, make) {
  const value = localStorage.getItem(key) ?? String(make());
  localStorage.setItem(key, value);
  return value;
}

const number = () => [...crypto.getRandomValues(new Uint32Array(4))].join("-");
const me = {
  user: remembered("user", number),
  name: remembered("name", someName),
  hue: Number(remembered("hue", () => random(HUES))),
};

const client = new Client("/session");
const room = client.channel("room:lobby", me);

client.onState((state) => {
  find("state").dataset.state = state;
  find("state").value = { open: "connected", waiting: "reconnecting" }[state] ?? state;
});
let wasLost = false;
client.onLost(() => (wasLost = true));

room.onPresence((users, diff) => {
  const items = [...users].map(([user, windows]) => {
    const { name, hue } = windows.at(-1).meta;
    const item = document.createElement("li");
    item.style.setProperty("--hue", hue);
    item.textContent = name.split(/\s+/).map((word) => word[0]).join("").slice(0, 2).toUpperCase();
    item.title = name;
    item.dataset.user = user;
    if (windows.length > 1) item.dataset.windows = windows.length;
    return item;
  });
  find("people").replaceChildren(...items);
  // Those who come or go with their first or last window.
  for (const [user, [{ meta }]] of Object.entries(diff?.joins ?? {})) {
    if (users.get(user).length === 1 && !diff.leaves[user]) note(`${meta.name} is here`);
  }
  for (const [user, [{ meta }]] of Object.entries(diff?.leaves ?? {})) {
    if (!users.has(user)) note(`${meta.name} has left`);
  }
});

const name = find("name");
name.value = me.name;
name.onchange = async () => {
  me.name = name.value.trim() || someName();
  name.value = me.name;
  localStorage.setItem("name", me.name);
  // In order: the session handles one after the other.
  room.leave().catch(failed);
  room.join(me).catch(failed);
};
document.querySelector(".me").style.setProperty("--hue", me.hue);

// ---- The board

const canvas = find("board");
const paper = canvas.getContext("2d");
let strokes = [];

function paint({ hue, width, points }) {
  const { width: w, height: h } = canvas;
  paper.lineCap = paper.lineJoin = "round";
  paper.lineWidth = (width * w) / 1000;
  paper.strokeStyle = `oklch(62% 0.17 ${hue})`;
  paper.beginPath();
  for (const [x, y] of points) paper.lineTo((x * w) / EDGE, (y * h) / EDGE);
  // A point alone is a dot.
  if (points.length === 1) paper.lineTo((points[0][0] * w) / EDGE, (points[0][1] * h) / EDGE);
  paper.stroke();
}

function paintAll() {
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  strokes.forEach(paint);
}
new ResizeObserver(paintAll).observe(canvas);

function show(shown) {
  strokes = shown;
  canvas.dataset.strokes = strokes.length;
  paintAll();
}

let hue = me.hue;
let points = [];
let frame;

/** Sends what was drawn since the last frame of the screen; the room decides what all get to see, this window as well. */
function flush() {
  frame = undefined;
  if (points.length === 0) return;
  const stroke = { hue, width: Number(find("width").value), points: points.slice(0, MAX_POINTS) };
  // The next piece begins where this one ends.
  points = points.slice(MAX_POINTS - 1);
  if (points.length === 0) points = [stroke.points.at(-1)];
  room.push("draw", stroke).catch(failed);
}

function draw(event) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const on = (at, size) => Math.round(Math.min(Math.max(at / size, 0), 1) * EDGE);
  // A mouse may have moved several times since the last event.
  const moves = event.getCoalescedEvents?.() ?? [];
  for (const { clientX, clientY } of moves.length > 0 ? moves : [event]) {
    points.push([on(clientX - left, width), on(clientY - top, height)]);
  }
  frame ??= setTimeout(flush, 30);
}

canvas.onpointerdown = (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  points = [];
  draw(event);
  canvas.onpointermove = draw;
};
canvas.onpointerup = canvas.onpointercancel = () => {
  canvas.onpointermove = null;
  clearTimeout(frame);
  if (frame !== undefined) flush();
  points = [];
};

find("colours").replaceChildren(...HUES.map((value) => {
  const colour = document.createElement("button");
  colour.type = "button";
  colour.role = "radio";
  colour.style.setProperty("--hue", value);
  colour.ariaLabel = `Hue ${value}`;
  colour.ariaChecked = String(value === hue);
  colour.onclick = () => {
    hue = value;
    for (const other of find("colours").children) other.ariaChecked = String(other === colour);
  };
  return colour;
}));
find("wipe").onclick = () => room.push("wipe").catch(failed);

// ---- The chat

function line(content) {
  const list = find("said");
  const isBelow = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(content);
  if (isBelow) list.scrollTop = list.scrollHeight;
}

function said({ name, hue, text }) {
  const item = document.createElement("li");
  const who = document.createElement("b");
  who.style.setProperty("--hue", hue);
  who.textContent = name;
  item.append(who, text);
  line(item);
}

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  line(item);
}

find("say").onsubmit = (event) => {
  event.preventDefault();
  const text = find("words").value;
  if (text.trim() === "") return;
  find("words").value = "";
  room.push("say", text).catch(failed);
};

let noticed;
function failed(error) {
  const notice = find("notice");
  notice.textContent = error.message;
  notice.hidden = false;
  clearTimeout(noticed);
  noticed = setTimeout(() => (notice.hidden = true), 4000);
}

// ---- What the room says

room.on("history", (history) => {
  find("said").replaceChildren();
  history.said.forEach(said);
  show(history.strokes);
  if (wasLost) note("You were away for too long: above is what the room still has.");
  wasLost = false;
});
room.on("drawn", (drawn) => {
  strokes.push(...drawn);
  canvas.dataset.strokes = strokes.length;
  drawn.forEach(paint);
});
room.on("said", said);
room.on("wiped", () => show([]));
room.on("left", failed);
room.join().catch(failed);
