// Decides one message by the policy beside this file, and prints the decision: node decide.mjs '{"status": "invalid"}' ['[SETTINGS]']
// Facts and settings are as in interfaces/*.d.ts; an address may be a text, "a@b.example". Whole numbers there are BigInt: write them
// as "n:5". Without settings each has its default. What cannot be meant ends with exit code 2 and decides nothing.
import { policy } from './policy.js';

const FACTS = ['status', 'why', 'sender', 'recipient', 'envelopeSender', 'client', 'size', 'trail', 'mailAuth', 'claim', 'lastValid', 'headers'];
const ADDRESSES = ['sender', 'recipient', 'envelopeSender'];
const MARKS = ['mailingList', 'forwarded', 'resent', 'automatic', 'bounce'];

const fail = (text) => {
  console.error(`decide.mjs: ${text}`);
  process.exit(2);
};
const read = (text, what) => {
  try {
    return JSON.parse(text, (_, value) => (/^n:-?\d+$/.test(value) ? BigInt(value.slice(2)) : value));
  } catch (error) {
    return fail(`${what}: ${error.message}`);
  }
};
const address = (text) => ({ local: text.slice(0, text.lastIndexOf('@')), domain: text.slice(text.lastIndexOf('@') + 1) });

const factsOf = (text) => {
  const facts = read(text, 'the facts');
  const unknown = Object.keys(facts ?? {}).filter((name) => !FACTS.includes(name));
  if (unknown.length > 0) fail(`no fact is called ${unknown.join(', ')}: write ${FACTS.join(', ')}`);
  const marks = Object.keys(facts?.trail ?? {}).filter((name) => !MARKS.includes(name));
  if (marks.length > 0) fail(`no mark of a trail is called ${marks.join(', ')}: write ${MARKS.join(', ')}`);
  if (!facts?.status) fail('the facts need a status: valid, invalid, missing, none, unverified or unusable');
  for (const name of ADDRESSES.filter((name) => typeof facts[name] === 'string')) {
    if (!/.@./.test(facts[name])) fail(`${name}: ${facts[name]} is no address`);
    facts[name] = address(facts[name]);
  }
  return facts;
};

const settingsOf = (text) => {
  const known = policy.describe().settings;
  const names = known.map(({ name, kind }) => `${name} (${kind.tag})`).join(', ') || 'none';
  if (text === undefined) {
    const open = known.filter(({ kind }) => kind.val === undefined).map(({ name }) => name);
    if (open.length > 0) fail(`${open.join(', ')} must be set: give all settings, in this order: ${names}`);
    return known.map(({ kind }) => kind);
  }
  const settings = read(text, 'the settings');
  const fits = Array.isArray(settings) && settings.length === known.length && known.every(({ kind }, at) => kind.tag === settings[at]?.tag);
  if (!fits) fail(`the settings of this policy are, in this order: ${names}; write each as {"tag": …, "val": …}`);
  return settings;
};

const [facts, settings] = [factsOf(process.argv[2] ?? '{"status": "invalid"}'), settingsOf(process.argv[3])];
try {
  const wanted = policy.checkSettings(settings);
  console.error(JSON.stringify({ wanted }));
  console.log(JSON.stringify(policy.decide({ headers: wanted.headers.map(() => []), ...facts }, settings)));
} catch (error) {
  fail(error.payload ?? error.message);
}
