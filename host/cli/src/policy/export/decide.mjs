// Decides one message by the policy beside this file, and prints the decision: node decide.mjs '{"status": "invalid"}' ['[SETTINGS]']
// Facts and settings are as in interfaces/*.d.ts. Whole numbers there are BigInt: write them as "n:5".
import { policy } from './policy.js';

const read = (text) => JSON.parse(text, (_, value) => (/^n:-?\d+$/.test(value) ? BigInt(value.slice(2)) : value));
const [facts, settings] = [process.argv[2] ?? '{"status": "invalid"}', process.argv[3] ?? '[]'].map(read);
const wanted = policy.checkSettings(settings);
console.error(JSON.stringify({ wanted }));
console.log(JSON.stringify(policy.decide({ headers: wanted.headers.map(() => []), ...facts }, settings)));
