// The functions of the default type as a table; only text, never markup, is made of what the API sends.
"use strict";

async function ask(path) {
  const response = await fetch(path);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

function amount(value, unit) {
  return unit === "nanoseconds" ? (value / 1e9).toFixed(3) + " s" : value + " " + unit;
}

async function show() {
  const about = document.getElementById("about");
  try {
    const session = await ask("./api/session");
    const search = encodeURIComponent(document.getElementById("search").value);
    const found = await ask("./api/functions?limit=100&search=" + search);
    document.getElementById("title").textContent = session.title;
    about.textContent =
      `${session.default_type}: ${amount(found.total, found.unit)}, ${found.count} functions`;
    const rows = document.getElementById("rows");
    rows.replaceChildren();
    for (const one of found.rows) {
      const row = rows.insertRow();
      const cells = [amount(one.self, found.unit), amount(one.total, found.unit), one.module, one.name];
      for (const text of cells) row.insertCell().textContent = text;
    }
  } catch (error) {
    about.textContent = error.message;
  }
}

document.getElementById("search").addEventListener("change", show);
show();
