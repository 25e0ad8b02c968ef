// Compares the signer's signatures of random typed data with MetaMask's, byte for byte.
// Usage: node compare.mjs PROGRAM [COUNT]; PROGRAM is signer-api's example typed_data.

import { spawnSync } from "node:child_process";
import { SignTypedDataVersion, signTypedData } from "@metamask/eth-sig-util";
import { typedData } from "./generate.mjs";

const KEY = Buffer.from("01".repeat(32), "hex");
// Without a value there are more than the signer takes of one request, now and then.
const MAX_VALUES = 2048;

function count(value) {
  if (typeof value !== "object") return 1;
  return Object.values(value).reduce((sum, inner) => sum + count(inner), 1);
}

const [program, wanted = "200"] = process.argv.slice(2);
if (program === undefined) {
  console.error("usage: node compare.mjs PROGRAM [COUNT]");
  process.exit(2);
}
const all = [];
for (let seed = 1; all.length < Number(wanted); seed += 1) {
  const data = typedData(seed);
  if (count(data.message) + count(data.domain) < MAX_VALUES) all.push({ seed, data });
}
const input = all.map(({ data }) => JSON.stringify(data)).join("\n");
const { status, stdout, stderr } = spawnSync(program, { input, encoding: "utf8", maxBuffer: 1 << 28 });
if (status !== 0) throw new Error(`${program}: status ${status}: ${stderr}`);
const answers = stdout.trimEnd().split("\n");
if (answers.length !== all.length) throw new Error(`${answers.length} answers, expected ${all.length}`);

let different = 0;
for (const [at, { seed, data }] of all.entries()) {
  const expected = signTypedData({ privateKey: KEY, data, version: SignTypedDataVersion.V4 });
  if (answers[at] !== expected) {
    different += 1;
    console.error(`seed ${seed}: ${answers[at]}, expected ${expected}\n${JSON.stringify(data)}`);
  }
}
console.log(`${all.length} signatures compared, ${different} different`);
process.exitCode = different === 0 ? 0 : 1;
