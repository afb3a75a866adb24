// A real browser walks the console: every page as each role, wide and narrow, light and dark. It fails where a page logs an error,
// opens a dialogue, is wider than its window, takes too long, or has serious findings of axe. Screenshots go to the folder that is
// named.
//
//   node walk.mjs PLAN.json FOLDER
//
// The plan: { url, password, browser, milliseconds, roles: { NAME: [PATH, …] } }; the name "" is nobody.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [, , planFile, folder] = process.argv;
const plan = JSON.parse(readFileSync(planFile, "utf8"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const looks = [
  { name: "wide", viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  { name: "dark", viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  { name: "phone", viewport: { width: 390, height: 844 }, colorScheme: "light" },
];
const faults = [];
mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({ executablePath: plan.browser, args: ["--no-sandbox"] });
const times = [];

async function signIn(page, name) {
  await page.goto(`${plan.url}/login`);
  await page.fill('input[name="name"]', name);
  await page.fill('input[name="password"]', plan.password);
  await Promise.all([page.waitForNavigation(), page.click('form[action="/login"] button')]);
}

for (const [name, paths] of Object.entries(plan.roles)) {
  const context = await browser.newContext(looks[0]);
  const page = await context.newPage();
  page.on("console", (line) => {
    // A page that is not there, or not for this role, is asked for on purpose.
    if (line.type() === "error" && !/status of (403|404)/.test(line.text())) faults.push(`${name} ${page.url()}: ${line.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`${name} ${page.url()}: ${error}`));
  page.on("dialog", (dialog) => { faults.push(`${name} ${page.url()}: a dialogue: ${dialog.message()}`); dialog.dismiss(); });
  if (name) await signIn(page, name);
  for (const path of paths) {
    for (const look of looks) {
      await page.setViewportSize(look.viewport);
      await page.emulateMedia({ colorScheme: look.colorScheme });
      const begin = performance.now();
      await page.goto(plan.url + path, { waitUntil: "load" });
      const took = performance.now() - begin;
      if (!plan.slow.includes(path)) times.push([took, path]);
      const file = `${name || "nobody"}${path.replace(/[^a-zA-Z0-9]+/g, "-")}-${look.name}.png`;
      await page.screenshot({ path: `${folder}/${file}`, fullPage: true });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (over > 0) faults.push(`${name} ${path} ${look.name}: ${over} px wider than its window`);
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      for (const { id, impact, nodes } of found.violations) {
        const line = `${name} ${path} ${look.name}: axe ${impact} ${id}: ${nodes[0].html.slice(0, 120)} ${nodes[0].failureSummary.replace(/\s+/g, " ").slice(0, 160)}`;
        if (impact === "serious" || impact === "critical") faults.push(line); else console.log(`note: ${line}`);
      }
    }
  }
  await context.close();
}

// The script checks rules while they are written; without it the form does.
if (plan.rules) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await signIn(page, plan.rules);
  await page.goto(`${plan.url}/me`);
  await page.fill("#rules", "when nonsense");
  await page.waitForSelector("#told .bad", { timeout: 20000 });
  await context.close();
  const plain = await browser.newContext({ javaScriptEnabled: false });
  const other = await plain.newPage();
  await signIn(other, plan.rules);
  await other.goto(`${plan.url}/me`);
  await other.fill("#rules", "when nonsense");
  await Promise.all([other.waitForNavigation(), other.click('form[action="/me/rules"] button:not([name])')]);
  if (!(await other.locator("#told .bad").count())) faults.push("without JavaScript no error stands beside the rules");
  await plain.close();
}

// A candidate is refused in place, and put, by forms alone; a message is tried beside other rules.
if (plan.candidate) {
  const plain = await browser.newContext({ javaScriptEnabled: false });
  const page = await plain.newPage();
  await signIn(page, plan.candidate);
  const place = `${plan.url}/policies/ours/candidate`;
  const put = async (rules, wanted) => {
    await page.goto(place);
    await page.fill("#rules", rules);
    await Promise.all([page.waitForNavigation(), page.click('form:has(#rules) button')]);
    if (!(await page.locator(wanted).count())) faults.push(`a candidate ${JSON.stringify(rules)}: no ${wanted} on ${await page.textContent("main")}`);
    await page.screenshot({ path: `${folder}/candidate-${wanted.replace(/[^a-z]+/g, "-")}.png`, fullPage: true });
  };
  await put("when nonsense", ".notice.bad");
  await put("when result is missing: mark\notherwise accept", ".notice.good");
  await page.goto(place);
  await page.setInputFiles('input[name="component"]', { name: "x.wasm", mimeType: "application/wasm", buffer: Buffer.from("\0asm\x0d\0\x01\0") });
  await Promise.all([page.waitForNavigation(), page.click('form:has(input[name="component"]) button')]);
  if (!(await page.locator(".notice.bad").count())) faults.push("a component that is none is not refused");
  await page.goto(`${plan.url}/try`);
  await page.setInputFiles('input[name="file"]', { name: "a.eml", mimeType: "message/rfc822", buffer: Buffer.from("From: a@b.example\r\n\r\nx\r\n") });
  await page.selectOption('select[name="policy"]', "ours");
  await page.selectOption('select[name="result"]', "none");
  await page.selectOption('select[name="beside"]', "rules");
  await page.fill("#rules", "otherwise accept");
  await Promise.all([page.waitForNavigation(), page.click('form[action="/try"] button')]);
  if (!(await page.locator("mark").count())) faults.push("nothing is marked where two decisions differ");
  await page.screenshot({ path: `${folder}/try-both.png`, fullPage: true });
  await plain.close();
}

await browser.close();
times.sort((a, b) => a[0] - b[0]);
const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
console.log(`${times.length} pages: median ${at(0.5)[0].toFixed(0)} ms, 95 of 100 within ${at(0.95)[0].toFixed(0)} ms, slowest ${at(1)[0].toFixed(0)} ms (${at(1)[1]})`);
faults.forEach((fault) => console.log(`FAULT ${fault}`));
process.exit(faults.length ? 1 : 0);
