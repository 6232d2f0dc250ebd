// Opening the login page ends the session, as it does in the staff client.
import { gettext, request, token } from "./ils.js";

const former = token();
document.cookie = "eg.auth.token=; path=/; max-age=0";
if (former) await request("open-ils.auth", "open-ils.auth.session.delete", former);

const form = document.forms[0];
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const login = { username: form.username.value, password: form.password.value, type: "staff" };
  try {
    const answer = await request("open-ils.auth", "open-ils.auth.login", login);
    document.cookie = `eg.auth.token=${encodeURIComponent(JSON.stringify(answer.payload.authtoken))}; path=/`;
    const routed = new URLSearchParams(location.search).get("routeTo") || "";
    location.href = /^\/eg2?\//.test(routed) ? routed : form.client.value;
  } catch {
    form.querySelector("[role=alert]").textContent = gettext("The login failed. Try again.");
  }
});
form.dataset.ready = "";
