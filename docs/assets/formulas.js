// Formulas, by the copy of KaTeX beside this file.
document.querySelectorAll(".arithmatex").forEach((element) => {
  const [, open, formula] = element.textContent.trim().match(/^\\([([])([\s\S]*)\\[)\]]$/);
  katex.render(formula, element, { displayMode: open === "[" });
});
