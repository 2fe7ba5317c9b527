// Calls one function of a module for the tests: module, name and arguments come in as JSON, the result goes out.
import { readFileSync } from "node:fs";

const question = JSON.parse(readFileSync(0, "utf-8"), (_, value) =>
  value?.floats ? Float64Array.from(value.floats) : value?.bytes ? Uint8Array.from(value.bytes) : value,
);
const module = await import(question.module);
const result = await module[question.name](...question.arguments);
process.stdout.write(JSON.stringify(result, (_, value) => (ArrayBuffer.isView(value) ? [...value] : value)));
