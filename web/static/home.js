// The front page: reads the API like any other client. Text goes in as text, never as HTML.
"use strict";

const API = "/api/v1";
const $ = (id) => document.getElementById(id);

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

async function get(path) {
  const response = await fetch(API + path, { headers: { Accept: "application/json" } });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ? `${body.error.message} ${body.error.remedy || ""}` : response.statusText);
  return body;
}

const path = (name) => name.split("/").map(encodeURIComponent).join("/");
const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);
const span = (seconds) => (seconds < 60 ? `${seconds.toFixed(2)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`);

function workflowCard(entry) {
  const asks = entry.asks.map((ask) => ask.label || `${ask.node}.${ask.input}`).join(", ");
  return make("article", { className: entry.error ? "card broken" : "card" },
    make("h3", {}, entry.title || entry.name),
    make("p", {}, entry.error || entry.description),
    make("footer", {},
      make("a", { href: `${API}/documents/${path(entry.name)}` }, entry.name),
      make("span", {}, `${entry.nodes} nodes`),
      ...(asks ? [make("span", {}, `asks: ${asks}`)] : [])));
}

function results(run) {
  const found = [];
  const visit = (value) => {
    if (found.length >= 6) return;
    if (typeof value === "string" && value.trim()) found.push(make("span", { className: "result", title: value }, value));
    else if (Array.isArray(value)) value.forEach(visit);
    else if (value && value.file && value.file.folder) {
      const { folder, name } = value.file;
      found.push(make("a", { className: "result", href: `${API}/files/${folder}/${path(name)}` }, name));
    }
  };
  for (const ports of Object.values(run.result)) Object.values(ports).forEach(visit);
  for (const error of run.errors.slice(0, 2)) {
    found.push(make("span", { className: "result failed", title: error.message }, `${error.node ? error.node + ": " : ""}${error.message}`));
  }
  return found;
}

function runRow(run) {
  const seconds = run.started ? (run.finished || Date.now() / 1000) - run.started : null;
  return make("tr", {},
    make("td", {}, String(run.number)),
    make("td", {}, make("a", { href: `${API}/runs/${encodeURIComponent(run.id)}` }, run.name || run.id.slice(0, 12))),
    make("td", {}, make("span", { className: `status ${run.status}` }, run.status)),
    make("td", {}, String(run.nodes)),
    make("td", {}, seconds === null ? "" : span(seconds)),
    make("td", {}, ...results(run)));
}

const fact = (value, label) => make("div", {}, make("b", {}, value), make("span", {}, label));

async function refresh() {
  try {
    const [system, { runs }] = await Promise.all([get("/system"), get("/runs?limit=20")]);
    $("state").textContent = `running for ${span(system.server.uptime_s)}, version ${system.version || ""}`;
    $("runs").replaceChildren(...runs.map(runRow));
    $("no-runs").hidden = runs.length > 0;
    $("facts").replaceChildren(
      fact(String(system.runs.active), system.runs.active === 1 ? "run at work" : "runs at work"),
      fact(String(system.tasks.running), "nodes computing"),
      fact(String(system.nodes), "node types"),
      fact(system.devices.join(", "), "devices"),
      fact(size(system.server.rss_bytes), "memory in use"));
  } catch (error) {
    $("state").textContent = error.message || "the server does not answer";
  }
}

async function start() {
  $("origin").textContent = location.origin;
  refresh();
  setInterval(() => document.hidden || refresh(), 2000);
  try {
    const { documents } = await get("/documents");
    $("workflows").replaceChildren(...(documents.length ? documents.map(workflowCard) : [make("p", { className: "quiet" }, "No workflow is saved yet.")]));
  } catch (error) {
    $("workflows").replaceChildren(make("p", { className: "quiet" }, error.message));
  }
}

start();
