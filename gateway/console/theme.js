// Before the first paint, so that nothing flashes: the theme that was chosen here, if one was.
(() => {
  const chosen = localStorage.getItem("pointsman.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
