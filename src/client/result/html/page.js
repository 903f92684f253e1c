for (const figure of document.querySelectorAll("figure[data-points]")) {
  const points = JSON.parse(figure.dataset.points);
  const buttons = [...figure.querySelectorAll("button[data-line]")];
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  figure.append(tip);
  const off = new Set();
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const line = button.dataset.line;
      if (!off.delete(line)) off.add(line);
      button.setAttribute("aria-pressed", String(!off.has(line)));
      for (const drawn of figure.querySelectorAll(`g[data-line="${line}"]`)) drawn.style.display = off.has(line) ? "none" : "";
    });
  }
  for (const svg of figure.querySelectorAll("svg")) {
    const plot = svg.querySelector(".plot"), pointer = svg.querySelector(".pointer");
    const hide = () => { tip.hidden = true; pointer.style.visibility = "hidden"; };
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", event => {
      const box = plot.getBoundingClientRect(), part = (event.clientX - box.left) / box.width;
      if (part < -0.02 || part > 1.02 || !points.length) return hide();
      const near = points.reduce((a, b) => Math.abs(b[0] - part) < Math.abs(a[0] - part) ? b : a);
      const x = +plot.getAttribute("x") + near[0] * +plot.getAttribute("width");
      pointer.setAttribute("transform", `translate(${x} 0)`);
      pointer.style.visibility = "visible";
      const head = document.createElement("strong");
      head.textContent = near[1];
      tip.replaceChildren(head);
      buttons.forEach((button, at) => {
        if (off.has(button.dataset.line)) return;
        const row = document.createElement("div"), value = document.createElement("span");
        value.textContent = near[2][at];
        row.append(button.querySelector("i").cloneNode(), button.textContent, value);
        tip.append(row);
      });
      tip.hidden = false;
      const whole = figure.getBoundingClientRect(), at = box.left - whole.left + near[0] * box.width;
      tip.style.top = `${box.top - whole.top + 6}px`;
      const right = at + 12 + tip.offsetWidth > whole.width;
      tip.style.left = `${right ? Math.max(0, at - 12 - tip.offsetWidth) : at + 12}px`;
    });
  }
}
for (const button of document.querySelectorAll(".copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.nextElementSibling.textContent);
    button.textContent = "copied";
  });
}
