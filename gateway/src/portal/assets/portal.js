// Makes a request of a form and shows what is answered. Nothing goes anywhere but to where the page comes from, and nothing is kept
// but cookies that a form has.
"use strict";

const MOST_SHOWN = 100_000;

for (const form of document.querySelectorAll("form.try")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}

async function send(form) {
  const output = form.querySelector("output");
  const show = (status, headers, body) => {
    output.querySelector(".status").textContent = status;
    output.querySelector(".headers").textContent = headers;
    output.querySelector(".body").textContent = body;
    output.hidden = false;
  };
  try {
    const request = read(form);
    const command = form.querySelector(".command");
    command.textContent = curl(request);
    command.hidden = false;
    const { url, ...rest } = request;
    const answer = await fetch(url, { ...rest, credentials: "same-origin", cache: "no-store" });
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    show(`${answer.status} ${answer.statusText}`, headers, pretty(await answer.text()));
  } catch (error) {
    show("No answer", "", String(error));
  }
}

// The request that a form describes, as `fetch` takes it.
function read(form) {
  const { method, path, headers: fields, query: fixed } = form.dataset;
  const headers = new Headers(JSON.parse(fields));
  const given = JSON.parse(fixed);
  const query = Object.entries(given);
  const cookies = [];
  let target = path;
  let body;
  let media;
  for (const input of form.querySelectorAll("[data-in]")) {
    const { value } = input;
    const { in: place, name, style } = input.dataset;
    if (place === "media") media = value;
    else if (place === "body") body = value || undefined;
    else if (place === "path") target = filled(target, name, value);
    else if (value === "") continue;
    // What the version is selected by stands already.
    else if (place === "query" && !Object.hasOwn(given, name)) query.push(...parameters(name, value, style));
    else if (place === "header") headers.set(name, value);
    else if (place === "cookie") cookies.push(`${name}=${encodeURIComponent(value)}`);
  }
  if (body !== undefined && media) headers.set("Content-Type", media);
  // A page may not write the field itself.
  for (const cookie of cookies) document.cookie = `${cookie}; path=/; SameSite=Strict`;
  const name = document.querySelector("#credential-name")?.value.trim();
  const credential = document.querySelector("#credential")?.value;
  if (name && credential) headers.set(name, credential);
  const url = new URL(target, location.origin);
  for (const [name, value] of query) url.searchParams.append(name, value);
  return { url: url.href, method, headers, body };
}

// `*` is the rest of a path, with slashes of its own.
function filled(path, name, value) {
  if (name === "*") return path.replace(/\*$/, value.split("/").map(encodeURIComponent).join("/"));
  return path.replace(`{${name}}`, encodeURIComponent(value));
}

// A query parameter, or several of its name.
function parameters(name, value, style) {
  if (style === "each") return value.split(",").map((part) => [name, part.trim()]);
  if (style === "deepObject") {
    try {
      return Object.entries(JSON.parse(value)).map(([key, part]) => [`${name}[${key}]`, String(part)]);
    } catch {
      return [[name, value]];
    }
  }
  return [[name, value]];
}

function pretty(text) {
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // It is shown as it came.
  }
  return shown.length > MOST_SHOWN ? `${shown.slice(0, MOST_SHOWN)}…` : shown;
}

function curl({ url, method, headers, body }) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const fields = [...headers].map(([name, value]) => ` -H ${quoted(`${name}: ${value}`)}`);
  return `curl -X ${method} ${quoted(url)}${fields.join("")}${body === undefined ? "" : ` --data-raw ${quoted(body)}`}`;
}
