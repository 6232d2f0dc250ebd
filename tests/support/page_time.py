"""Control the timers of the panel and the tab from outside: some fire only on a test's command.

On a slow machine, a page may take longer than a clerk would wait, and refreshes would interrupt other steps.
"""

from __future__ import annotations

import json

REREAD, LOST, GIVEN_UP = 800, 4_000, 15_000
"""Milliseconds until the client's figures are at rest, until the group's page is late, and until a request times out.
"""

SCRIPT = """
window.underWay = { waits: new Map(), held: new Set(HELD), questions: 0 };
{
  const { waits, held } = underWay;
  const [wait, stop, ask] = [setTimeout, clearTimeout, fetch.bind(window)];
  let last = 0;
  window.setTimeout = (work, ms, ...rest) => {
    if (!KNOWN.includes(ms)) return wait(work, ms, ...rest);
    const id = --last;
    const end = () => waits.delete(id) && work(...rest);
    waits.set(id, { ms, end });
    if (!held.has(ms)) wait(end, ms);
    return id;
  };
  window.clearTimeout = (id) => waits.delete(id) || stop(id);
  window.fetch = async (place, ...more) => {
    if (!String(place).endsWith("/summary")) return ask(place, ...more);
    underWay.questions += 1;
    try {
      const response = await ask(place, ...more);
      return new Response(await response.text(), response);
    } finally {
      underWay.questions -= 1;
    }
  };
}
""".replace("HELD", json.dumps([LOST, GIVEN_UP])).replace("KNOWN", json.dumps([REREAD, LOST, GIVEN_UP]))
"""Runs in each new document."""

HOLD = "underWay.held.add(arguments[0])"
PASS = "for (const { ms, end } of [...underWay.waits.values()]) if (ms === arguments[0]) end()"
AT_REST = f"return !underWay.questions && ![...underWay.waits.values()].some(({{ ms }}) => ms === {REREAD})"
