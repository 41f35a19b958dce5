"use strict";

// A link to what is closed opens it, and everything around it.
function open_target() {
  const target = document.getElementById(location.hash.slice(1));
  for (let place = target; place; place = place.parentElement) {
    if (place instanceof HTMLDetailsElement) place.open = true;
  }
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", open_target);
open_target();

const all = [...document.querySelectorAll("details")];
const opener = document.getElementById("open-all");
opener.hidden = false;
opener.addEventListener("click", () => {
  const are_open = all.every((each) => each.open);
  for (const each of all) each.open = !are_open;
  opener.textContent = are_open ? "open all" : "close all";
});

for (const command of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(command);
    await navigator.clipboard?.writeText(command.textContent).catch(() => {});
  });
  command.after(button);
}

addEventListener("beforeprint", () => {
  for (const each of all) each.open = true;
});
