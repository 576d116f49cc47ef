// Live progress over server-sent events, and buttons that copy. Every page works without it.
"use strict";
for (const box of document.querySelectorAll(".copy")) {
  const text = box.querySelector("code, pre");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    navigator.clipboard.writeText(text.textContent).then(
      () => { button.textContent = "Copied"; },
      () => { getSelection().selectAllChildren(text); });
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  box.append(button);
}
const list = document.getElementById("list");
if (list && "now" in list.dataset) {
  const status = document.getElementById("listing");
  const fail = (text) => { list.hidden = false; status.textContent = text; };
  const headers = { Accept: "application/json" };
  // Not before somebody is there: crawlers run scripts, too, and begin nothing.
  const signs = ["pointermove", "pointerdown", "keydown", "scroll"];
  const begin = () => {
    for (const sign of signs) removeEventListener(sign, begin);
    list.hidden = true;
    status.textContent = "The go command looks for them, in a cell …";
    ask();
  };
  for (const sign of signs) addEventListener(sign, begin, { passive: true });
  const ask = () => fetch(list.action, { method: "POST", redirect: "manual", headers }).then(async (answer) => {
    if (answer.type === "opaqueredirect") return location.reload();
    const { detail, remedy } = await answer.json();
    fail(detail + ": " + remedy);
  }).catch(() => fail("The connection was lost."));
}
const live = document.getElementById("live");
if (live && window.EventSource) {
  const id = (name) => document.getElementById(name);
  const source = new EventSource(live.dataset.events);
  const begun = Date.now();
  let modules = 0;
  const on = (kind, act) => source.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  const say = (text) => { id("doing").textContent = text; id("bytes").textContent = ""; };
  const begin = () => {
    id("progress").textContent = "Progress";
    for (const part of live.querySelectorAll(".before")) part.hidden = true;
  };
  const clock = setInterval(() => {
    id("elapsed").textContent = ", " + Math.round((Date.now() - begun) / 1000) + " s";
  }, 1000);
  on("reset", () => { modules = 0; id("output").textContent = ""; });
  on("gap", () => id("output").append("[earlier output was dropped]\n"));
  on("queue", (data) => { begin(); say(data.text); });
  on("bytes", (data) => { id("bytes").textContent = data.text; });
  on("module", () => { modules += 1; id("modules").textContent = modules; });
  on("output", (data) => {
    const out = id("output");
    const atEnd = out.scrollHeight - out.scrollTop - out.clientHeight < 40;
    out.append(data.text);
    if (atEnd) out.scrollTop = out.scrollHeight;
  });
  on("phase", (data) => {
    begin();
    say(data.text);
    let state = "done";
    for (const step of live.querySelectorAll("[data-phase]")) {
      const now = step.dataset.phase === data.phase;
      if (now) state = "now";
      step.dataset.state = state;
      step.querySelector(".state").textContent = state;
      if (now) state = "to come";
    }
  });
  on("end", (data) => {
    source.close();
    clearInterval(clock);
    say(data.text);
    if (data.end === "built") location.replace(data.url);
    if (data.end === "failed") location.replace(data.url);
  });
  // An answer that is no stream ends it for good (HTML, 9.2.6); asked once more, it says why.
  const refused = async () => {
    clearInterval(clock);
    id("elapsed").textContent = "";
    const gone = new AbortController();
    try {
      const headers = { accept: "application/json" };
      const answer = await fetch(live.dataset.events, { headers, signal: gone.signal });
      if (answer.ok) {
        gone.abort();
        say("not begun; reload the page to try again");
        return;
      }
      const problem = await answer.json();
      say("not begun: " + problem.detail + "; " + problem.remedy);
    } catch {
      say("not begun, and the service does not say why; reload the page to try again");
    }
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) refused();
    else say("connection lost, trying again");
  };
}
