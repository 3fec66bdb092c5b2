// Drives a real browser against an agent's page, one case after the other:
//
//	node page.mjs CASE,CASE… '{"url", "shots", "chromium", "banmesh", "socket", "leader", "ip", "token", "config"}'
//
// Exits 1 and says why where the page does not do what it should; what it
// measures goes to stdout as JSON. page_test.go gives it agents.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const run = promisify(execFile);
const [names, argument] = process.argv.slice(2);
let name; // of the case that runs
const given = JSON.parse(argument);
const patience = 15_000;

const browser = await chromium.launch({
  executablePath: given.chromium,
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

const complaints = []; // what no case may see
const measured = {};

// open loads the page in a browser that has never seen it. The measure begins
// when the window is there.
async function open(path = "/", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on("console", (m) => {
    if (["error", "warning"].includes(m.type())) complaints.push(`console: ${m.text()}`);
  });
  page.on("pageerror", (e) => complaints.push(`error: ${e.message}`));
  page.on("request", (r) => {
    if (new URL(r.url()).origin !== new URL(given.url).origin) complaints.push(`request to ${r.url()}`);
  });
  page.on("response", (r) => {
    if (r.status() >= 400) complaints.push(`${r.status()} for ${r.url()}`);
  });
  page.asked = performance.now();
  await page.goto(given.url + path, { waitUntil: "commit" });
  if (options.javaScriptEnabled === false) await page.waitForLoadState("load");
  else await linked(page, name === "crowded" ? "poll" : "live");
  return page;
}

const linked = (page, state) => page.waitForSelector(`html[data-link=${state}]`, { state: "attached" });

async function shot(page, file) {
  await page.screenshot({ path: join(given.shots, `${file}.png`), fullPage: true });
}

const banmesh = (...args) => run(given.banmesh, [...args, "--socket", given.socket]);

async function fits(page) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `the page is ${content} px wide in a window of ${window}`);
}

// readable checks that a phone shows tables whole, and each card in the full width, with a conductor's and without.
async function readable(page) {
  const bad = await page.evaluate(() => {
    const cut = [...document.querySelectorAll(".scroll, .newest [data-part], .most [data-part]")].filter((e) => e.offsetParent && !e.closest("details") && e.scrollWidth > e.clientWidth)
      .map((e) => `${e.getAttribute("aria-label") ?? e.dataset.part} is ${e.scrollWidth} px wide in ${e.clientWidth}`);
    document.querySelector(".conductor")?.remove();
    const narrow = [...document.querySelectorAll(".grid > *")].filter((e) => e.offsetParent && e.offsetWidth < 0.99 * e.parentElement.offsetWidth).map((e) => `${e.className} is ${e.offsetWidth} px wide`);
    return [...cut, ...narrow];
  });
  assert.deepEqual(bad, [], "on a phone");
}

// violations are what axe, which the page has loaded, complains of.
const violations = (page) => page.evaluate(async () => {
  for (const d of document.querySelectorAll("details")) d.open = true;
  const result = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
  return result.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).slice(0, 3).join(" ")}`);
});

const cases = {
  // The page comes up, follows, keeps to its host and leaves nothing behind.
  async loads() {
    const page = await open();
    assert.match(await page.title(), /router1/);
    for (const router of ["router1", "router2", "router3"]) {
      assert.equal(await page.locator(`svg.mesh [data-node="${router}"]`).count(), 1, `${router} in the ring`);
      assert.equal(await page.locator(".routers tbody th", { hasText: router }).count(), 1, `${router} in the table`);
    }
    assert.equal(await page.locator(".tiles [data-figure=leader]").innerText(), given.leader);
    assert.equal(await page.locator("svg.mesh .node.leader").getAttribute("data-key"), given.leader);
    assert.deepEqual(await page.context().cookies(), [], "cookies");
    await shot(page, "light");
  },

  // A ban at another router is on the page within a second of the command.
  async ban() {
    const page = await open();
    const took = [];
    for (let i = 0; i < 5; i++) {
      const ip = `203.0.113.${10 + i}`;
      const shown = page.locator(".newest tbody th", { hasText: ip }).waitFor();
      const said = performance.now();
      await banmesh("ban", ip, "--for", "1h", "--jail", "sshd");
      await shown;
      took.push(Math.round(performance.now() - said));
      const row = await page.locator(".newest tbody tr", { hasText: ip }).innerText();
      assert.match(row, /router2\s+sshd\s/, "its router and jail");
      assert.equal(await page.locator(".feed li", { hasText: ip }).first().locator(".kind").innerText(), "Ban");
    }
    measured.ban_shown_ms = took;
    took.sort((a, b) => a - b);
    assert.ok(took[2] < 1000, `bans are shown after ${took} ms`);
    // Who listens is told, and not of each.
    await page.waitForFunction(() => /bans?/i.test(document.getElementById("say").textContent));
    await page.waitForFunction(() => Number(document.querySelector("[data-figure=live]").textContent) >= 5);
  },

  async search() {
    const page = await open();
    // By the keyboard alone.
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.id), "why");
    await page.keyboard.type(given.ip);
    await page.keyboard.press("Enter");
    await page.locator("#h-answer").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "h-answer", "the answer has the focus");
    assert.match(await page.locator("#answer").innerText(), /It is banned[\s\S]*router2[\s\S]*sshd[\s\S]*live/);
    assert.match(page.url(), new RegExp(`/\\?why=${given.ip}$`));
    await shot(page, "answer");
    await page.locator("#why").fill("<img src=x onerror=alert(1)>");
    await page.locator("form.search button").click();
    await page.locator("#answer", { hasText: "That is not an IP address" }).waitFor();
    assert.equal(await page.locator("#answer img").count(), 0);
    await page.goBack();
    await page.locator("#answer", { hasText: "It is banned" }).waitFor();
    await page.locator("#answer .close").click();
    assert.equal(await page.locator("#answer *").count(), 0);
    // The link that the search has made.
    const again = await open(`/?why=${given.ip}`);
    assert.match(await again.locator("#answer").innerText(), /It is banned/);
  },

  async noscript() {
    const page = await open("/", { javaScriptEnabled: false });
    assert.match(await page.locator("noscript").innerText(), /Reload/);
    assert.match(await page.locator(".tiles").innerText(), /Live bans\s+\d/);
    assert.equal(await page.locator(".newest tbody tr", { hasText: given.ip }).count(), 1);
    assert.equal(await page.locator("svg.mesh .core").count(), 3);
    await page.locator("#why").fill(given.ip);
    await page.locator("form.search button").click();
    await page.locator("#h-answer").waitFor();
    assert.match(await page.locator("#answer").innerText(), /It is banned/);
    await shot(page, "noscript");
  },

  // From the overview to the list, to an address, to a router and back, with filters that are part of the address.
  async pages() {
    const page = await open();
    await page.locator("nav a", { hasText: "Bans" }).click();
    await linked(page, "live");
    assert.equal(await page.locator("table.bans tbody tr").count(), 5);
    await page.locator("#f-jail").fill("sshd");
    await page.locator("#f-q").fill("203.0.113.12/30");
    await page.locator("form.filter button").click();
    await page.waitForURL(/\/bans\?.*jail=sshd/);
    assert.equal(await page.locator("table.bans tbody tr").count(), 3, "203.0.113.12 to .14");
    await page.locator("thead a", { hasText: "Banned" }).click();
    await page.waitForURL(/sort=start/);
    assert.match(await page.locator("table.bans tbody tr").first().innerText(), /203\.0\.113\.14/);
    assert.equal(await page.locator("th[aria-sort=descending]").innerText(), "Banned");
    await page.locator("table.bans tbody a", { hasText: "203.0.113.14" }).click();
    await page.waitForURL(/\/address\?of=/);
    assert.match(await page.locator("main").innerText(), /It is banned[\s\S]*Bans in 203\.0\.113\.0\/24[\s\S]*What was/);
    await page.locator("main a.plain", { hasText: "router2" }).first().click();
    await page.waitForURL(/\/router\?name=router2/);
    assert.match(await page.locator("main").innerText(), /in sync[\s\S]*Its bans[\s\S]*203\.0\.113\.10/);
    await page.goBack();
    await page.goBack();
    assert.match(page.url(), /sort=start/);
    // A commit, and what the next one would change.
    const overview = await open();
    const leads = given.leader === await overview.locator("body").getAttribute("data-self");
    await overview.locator(".commits a", { hasText: leads ? /added/ : "" }).first().click();
    await overview.waitForURL(/\/commit\?at=/);
    assert.match(await overview.locator("main").innerText(), leads ? /Added[\s\S]*203\.0\.113\.1\d/ : /Only the page of router\d can say/);
    const { pathname, search } = new URL(overview.url());
    const plain = await open("/bans?state=not-effective", { javaScriptEnabled: false });
    assert.match(await plain.locator("main").innerText(), /No ban is like that/);
    const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
    for (const [file, options] of [["light", {}], ["phone-dark", { viewport: { width: 360, height: 740 }, colorScheme: "dark" }]]) {
      for (const path of ["/bans", `/address?of=${given.ip}`, "/router?name=router2", "/stats", "/allows", "/warnings", "/commits", pathname + search, "/diff"]) {
        const page = await open(path, { bypassCSP: true, ...options });
        await fits(page);
        await shot(page, `${path.slice(1).split("?")[0]}-${file}`);
        await page.addScriptTag({ path: axe });
        assert.deepEqual(await violations(page), [], `axe on ${path}, ${file}`);
        if (file === "phone-dark" && ["/bans", "/router?name=router2"].includes(path)) await readable(page);
        await page.context().close();
      }
    }
  },

  // Sizes, colours and what a screen reader needs.
  async access() {
    const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
    for (const [file, options] of [
      ["dark", { colorScheme: "dark" }],
      ["phone", { viewport: { width: 360, height: 740 } }],
      ["phone-dark", { viewport: { width: 360, height: 740 }, colorScheme: "dark" }],
      ["large-text", { viewport: { width: 640, height: 740 }, reducedMotion: "reduce" }],
    ]) {
      const page = await open(`/?why=${given.ip}`, { bypassCSP: true, ...options }); // axe is put into the page
      await fits(page);
      await shot(page, file);
      await page.addScriptTag({ path: axe });
      assert.deepEqual(await violations(page), [], `axe on ${file}`);
      if (file === "phone") await readable(page);
      await page.context().close();
    }
  },

  // The leader goes: its successor is shown, and the page goes on.
  async leader() {
    const page = await open();
    const shown = page.waitForFunction((old) => {
      const now = document.querySelector("[data-figure=leader]").textContent;
      return now !== old && now !== "none" ? now : false;
    }, given.leader);
    const said = performance.now();
    await banmesh("leave");
    const next = await (await shown).jsonValue();
    measured.leader_shown_ms = Math.round(performance.now() - said);
    assert.notEqual(next, given.leader);
    await page.locator(`svg.mesh .node.leader[data-key="${next}"]`).waitFor();
    await page.locator(".routers tbody tr", { hasText: given.leader }).filter({ hasText: "has left" }).waitFor();
    await shot(page, "leader-left");
  },

  // The agent goes: the page says so and marks its numbers, and comes back.
  async lost() {
    const page = await open();
    await banmesh("leave");
    await linked(page, "lost");
    assert.match(await page.locator("#link").innerText(), /Connection lost, trying again. The numbers are from \d/);
    await shot(page, "lost");
    complaints.length = 0; // the browser's own words about the connection
    const agent = spawn(given.banmesh, ["agent", "--config", given.config], { stdio: "ignore" });
    try {
      await linked(page, "live");
      assert.equal(await page.locator("#link").innerText(), "Live");
    } finally {
      const ended = new Promise((done) => agent.once("exit", done));
      agent.kill();
      await ended;
    }
    complaints.length = 0;
  },

  // Where no stream is to be had the page asks every few seconds.
  async crowded() {
    const page = await open();
    assert.match(await page.locator("#link").innerText(), /Every 5 seconds: the agent has too many viewers/);
    await banmesh("ban", "203.0.113.99", "--for", "1h");
    await page.locator(".newest tbody th", { hasText: "203.0.113.99" }).waitFor();
    const refused = complaints.filter((c) => !/503/.test(c));
    complaints.splice(0, complaints.length, ...refused);
  },

  // With a token all of it is behind one password, the stream too.
  async token() {
    const page = await open("/", { httpCredentials: { username: "any", password: given.token } });
    await banmesh("ban", "203.0.113.98", "--for", "1h");
    await page.locator(".newest tbody th", { hasText: "203.0.113.98" }).waitFor();
  },

  // Many bans: the page is no slower.
  async many() {
    const took = [];
    let page;
    for (let i = 0; i < 7; i++) {
      await page?.context().close();
      page = await open();
      took.push(Math.round(performance.now() - page.asked));
    }
    measured.interactive_ms = took;
    took.sort((a, b) => a - b);
    await page.locator("[data-figure=live]", { hasText: "10,00" }).waitFor();
    await shot(page, "many");
    await page.emulateMedia({ colorScheme: "dark" });
    await shot(page, "many-dark");
    await page.setViewportSize({ width: 360, height: 740 });
    await fits(page);
    await shot(page, "many-phone");
    assert.ok(took[3] < 1000, `the page answers after ${took} ms`);
  },
};

try {
  for (name of names.split(",")) {
    await cases[name]();
    assert.deepEqual(complaints, [], "what the browser complains of");
    for (const context of browser.contexts()) await context.close();
  }
  console.log(JSON.stringify(measured));
} catch (e) {
  console.error(`${name}: ${e.message}`);
  if (complaints.length > 0) console.error(complaints.join("\n"));
  process.exitCode = 1;
} finally {
  await browser.close();
}
