// Percentile curves: a peer's name hides and shows it; the pointer reads all curves at one share of requests.
for (const figure of document.querySelectorAll("figure.percentiles")) {
  const { right, curves } = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector(".wide svg"), cross = figure.querySelector(".cross"), reading = figure.querySelector(".reading");
  const hidden = new Set();
  for (const key of figure.querySelectorAll(".key")) key.onclick = () => {
    const on = key.getAttribute("aria-pressed") === "false";
    key.setAttribute("aria-pressed", on);
    on ? hidden.delete(key.dataset.peer) : hidden.add(key.dataset.peer);
    for (const path of svg.querySelectorAll(".curve")) if (path.dataset.peer === key.dataset.peer) path.classList.toggle("off", !on);
  };
  svg.onpointermove = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * 760 / box.width;
    const share = 1 - 10 ** -(right * Math.min(Math.max((x - 58) / 686, 0), 1));
    cross.setAttribute("d", `M${Math.min(Math.max(x, 58), 744)} 14V290`);
    const said = curves.filter(([peer]) => !hidden.has(peer)).map(([, title, points]) => {
      const point = points.find(([q]) => q >= share) || points[points.length - 1];
      return `${title} ${point[1] < 10 ? point[1].toFixed(2) : point[1].toFixed(1)} ms`;
    });
    reading.textContent = `${(100 * share).toFixed(share > .999 ? 3 : share > .99 ? 2 : 1)} %: ${said.join("   ")}`;
  };
  svg.onpointerleave = () => { cross.setAttribute("d", ""); reading.textContent = "\u00a0"; };
}
