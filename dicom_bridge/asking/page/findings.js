// The table of findings: legend, words and what to take away.

function made(tag, content = {}, ...children) {
  const element = Object.assign(document.createElement(tag), content);
  element.append(...children);
  return element;
}

/**
 * Fill the table.
 * @param body the table's body
 * @param image asked
 * @param answer of it
 * @param shown set of the numbers of findings that are painted; the boxes change it
 * @param onShown when it has changed
 * @param onGo takes the finding to look at
 */
export function fillFindings(body, image, answer, shown, onShown, onGo) {
  body.replaceChildren();
  answer.findings.forEach((finding, number) => {
    const name = finding.target ?? finding.prompt;
    const what = made("td");
    if (finding.is_drawn) {
      const swatch = made("span", { className: "swatch" });
      swatch.style.backgroundColor = `rgb(${finding.colour.join(" ")})`;
      const go = made("button", { type: "button", className: "link", title: "Look at it" }, name);
      go.addEventListener("click", () => onGo(finding));
      what.append(swatch, go);
    } else {
      what.append(name);
    }
    if (finding.target && finding.prompt && finding.prompt.toLowerCase() !== name.toLowerCase()) {
      what.append(made("span", { className: "said" }, `asked: ${finding.prompt}`));
    }
    what.append(made("span", { className: "said" }, finding.said.replace(/`([^`]*)`/g, "\u201c$1\u201d")));

    const show = made("td");
    if (finding.is_drawn) {
      const box = made("input", { type: "checkbox", checked: shown.has(number), ariaLabel: `Show ${name}` });
      box.addEventListener("change", () => {
        if (box.checked) shown.add(number); else shown.delete(number);
        onShown();
      });
      show.append(box);
    }
    const row = made("tr", { className: `named ${finding.status}` }, show, what);
    if (finding.is_drawn || finding.presence !== null) {
      const link = made("a", { href: image.maskUrl(answer.number, number), download: "" }, "mask");
      link.ariaLabel = `Mask of ${name}`;
      const presence = finding.presence === null ? "" : `${Math.round(finding.presence * 100)} %`;
      row.append(made("td", { className: "count" }, presence), made("td", {}, finding.sizes.join(", ")),
        made("td", {}, finding.is_drawn ? link : ""));
    } else {
      what.colSpan = 4;
    }
    body.append(row);
    if (finding.description) body.append(made("tr", {}, made("td", { className: "text", colSpan: 5 }, finding.description)));
    else row.classList.remove("named");
  });
}
