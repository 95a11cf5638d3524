"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const number = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3 });
  root.classList.remove("no-script");

  // Light and dark: as the system has it, until the button is used.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const nameTheme = () => { theme.textContent = isDark() ? "Light page" : "Dark page"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  system.addEventListener("change", nameTheme);
  nameTheme();

  if (!data) return; // nothing is drawn

  // What is said of a point: beside it, and, where keys lead to it, under the picture.
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; all(".ring.on").forEach((ring) => ring.classList.remove("on")); };
  function show(svg, at, lines, readout) {
    hide();
    const ring = svg.querySelector(".ring");
    ring.setAttribute("cx", at.x); ring.setAttribute("cy", at.y); ring.classList.add("on");
    tip.textContent = lines.join("\n"); tip.hidden = false;
    const screen = new DOMPoint(at.x, at.y).matrixTransform(svg.getScreenCTM());
    const box = tip.getBoundingClientRect();
    const left = screen.x + 14 + box.width > innerWidth ? screen.x - 14 - box.width : screen.x + 14;
    tip.style.left = `${Math.min(Math.max(4, left), Math.max(4, innerWidth - box.width - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(screen.y + 12, innerHeight - box.height - 4))}px`;
    if (readout) readout.textContent = lines.join("; ");
  }

  // A picture of points: the nearest to the pointer is shown, and arrow keys go from one to the next.
  function points(svg, { x, y, seen, say, reach, only, readout }) {
    let current = -1;
    const order = x.map((_, i) => i).sort((a, b) => x[a] - x[b] || y[a] - y[b]);
    const open = (i, told) => { current = i; show(svg, { x: x[i], y: y[i] }, say(i), told); };
    const point = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = -1, least = reach;
      for (let i = 0; i < x.length; i++) {
        const far = only === "x" ? Math.abs(x[i] - at.x) : Math.hypot(x[i] - at.x, y[i] - at.y);
        if (far < least && seen(i)) { best = i; least = far; }
      }
      if (best < 0) hide(); else open(best);
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return undefined;
      event.preventDefault();
      const there = order.filter(seen);
      if (!there.length) return undefined;
      const place = there.indexOf(current);
      return open(there[place < 0 ? 0 : (place + step + there.length) % there.length], readout);
    });
    return open;
  }

  // Cells, with what can be hidden of them.
  const map = document.getElementById("cells");
  if (map) {
    const { side, type, x, y, detected, names, looks, given } = data.cells;
    const first = side.indexOf(1);
    const hidden = { side: new Set(), type: new Set() };
    const seen = (i) => !hidden.side.has(side[i]) && !hidden.type.has(type[i]);
    const redraw = () => all(".dots path", map).forEach((path) => {
      path.toggleAttribute("hidden", hidden.side.has(+path.dataset.side) || hidden.type.has(+path.dataset.type));
    });
    all("#controls input[type=checkbox]").forEach((box) => {
      box.checked = true;
      box.addEventListener("change", () => {
        hidden[box.name][box.checked ? "delete" : "add"](+box.value);
        hide(); redraw();
      });
    });
    all("#controls input[type=radio]").forEach((radio) => radio.addEventListener("change", () => {
      map.parentElement.classList.toggle("by-type", radio.value === "type");
      map.parentElement.classList.toggle("by-side", radio.value === "side");
    }));
    all("#controls button").forEach((button) => button.addEventListener("click", () => {
      all("#controls input[name=type]").forEach((box) => {
        if (box.checked !== (button.value === "all")) box.click();
      });
    }));
    const say = (i) => {
      const lines = [side[i] ? names[i - first] : "real cell"];
      if (side[i]) lines.push("synthetic");
      if (data.types.length) {
        lines.push(`${data.types[type[i]]}${side[i] && !given ? " (by its real neighbours)" : ""}`);
        if (side[i] && given && looks[i - first] !== type[i]) lines.push(`looks like ${data.types[looks[i - first]]}`);
      }
      return [...lines, `${detected[i].toLocaleString("en")} genes detected`];
    };
    points(map, { x, y, seen, say, reach: 40, readout: document.getElementById("cell-readout") });
  }

  // Genes: the same one in both panels.
  const panels = all("svg[data-panel]");
  const genes = data.genes, readout = document.getElementById("gene-readout");
  const markerOf = (i) => Object.keys(genes.markers).filter((t) => genes.markers[t].includes(i)).map((t) => data.types[t]);
  const sayGene = (i) => {
    const marks = markerOf(i);
    return [genes.names[i], `mean: real ${number(genes.means[0][i])}, synthetic ${number(genes.means[1][i])}`,
      `zeros: real ${number(100 * genes.zeros[0][i])} %, synthetic ${number(100 * genes.zeros[1][i])} %`,
      ...(marks.length ? [`marker of ${marks.join(", ")}`] : [])];
  };
  const openers = panels.map((svg, p) => points(svg, {
    ...genes.places[p], seen: () => true, say: sayGene, reach: 14, readout,
  }));
  const find = document.getElementById("gene"), list = document.getElementById("gene-names");
  genes.names.forEach((name) => { const option = document.createElement("option"); option.value = name; list.append(option); });
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    const i = genes.names.findIndex((name) => name.toLowerCase() === wanted);
    if (i < 0) { hide(); readout.textContent = wanted ? "no gene of that name is drawn" : ""; return; }
    openers[0](i, readout);
    panels.slice(1).forEach((svg, p) => {
      const ring = svg.querySelector(".ring"), at = genes.places[p + 1];
      ring.setAttribute("cx", at.x[i]); ring.setAttribute("cy", at.y[i]); ring.classList.add("on");
    });
  });
  const mark = document.getElementById("mark");
  if (mark) mark.addEventListener("change", () => panels.forEach((svg, p) => {
    const at = genes.places[p], chosen = genes.markers[mark.value] || [];
    svg.querySelector(".marked").setAttribute("d", chosen.map((i) => `M${at.x[i]} ${at.y[i]}h0`).join(""));
  }));

  // Bars: both sides of a bin.
  all("svg[data-histogram]").forEach((svg) => {
    const { x, edges, shares, what } = data.histograms[+svg.dataset.histogram];
    points(svg, {
      x, y: x.map(() => 24), only: "x", reach: 20, seen: () => true, readout: document.getElementById("bar-readout"),
      say: (i) => [`${number(edges[i])} to ${number(edges[i + 1])}`,
        `real: ${number(shares[0][i])} % of ${what}`, `synthetic: ${number(shares[1][i])} % of ${what}`],
    });
  });
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
