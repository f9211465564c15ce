
(() => {
  const seconds = Number(document.documentElement.dataset.refresh);
  if (!seconds) return;
  // Whoever types, chooses or reads what he opened is not disturbed.
  const inUse = () => document.hidden || document.activeElement.matches("input, select, button, summary")
    || document.querySelector("details[open]")
    || Array.from(document.querySelectorAll("input:not([type=hidden])")).some((one) => one.value !== one.defaultValue);
  const say = (text) => { const place = document.getElementById("refreshed"); if (place) place.textContent = text; };
  setInterval(async () => {
    if (inUse()) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (inUse()) return;
      document.title = fresh.title;
      document.body.replaceWith(fresh.body);
    } catch (error) {
      say("the gateway does not answer: what you see is old");
    }
  }, seconds * 1000);
})();
