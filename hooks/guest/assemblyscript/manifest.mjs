// Puts a manifest into a module as its custom section edge.manifest, in place:
//
//   node manifest.mjs manifest.json module.wasm
import { readFileSync, writeFileSync } from "node:fs";

const [manifest, file] = process.argv.slice(2);
if (!file) {
  console.error("usage: node manifest.mjs manifest.json module.wasm");
  process.exit(2);
}

function leb(n) {
  const out = [];
  for (; n > 0x7f; n >>>= 7) out.push((n & 0x7f) | 0x80);
  return [...out, n];
}

const name = Buffer.from("edge.manifest");
const text = Buffer.from(JSON.stringify(JSON.parse(readFileSync(manifest, "utf8"))));
const body = Buffer.concat([Buffer.from(leb(name.length)), name, text]);
const module = readFileSync(file);
if (module.includes(name)) {
  console.error(`${file} has a manifest already`);
  process.exit(1);
}
writeFileSync(file, Buffer.concat([module, Buffer.from([0]), Buffer.from(leb(body.length)), body]));
