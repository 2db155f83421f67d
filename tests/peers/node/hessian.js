'use strict';
// node hessian.js: reads lines of hex from stdin and writes for each the Hessian 2 values in it, one after the other, as JSON:
// another opinion on what a Dubbo body holds.

const readline = require('readline');
const hessian = require('hessian.js');

/** An exception is its own cause; what JSON cannot hold is left out. */
function shown() {
  const seen = new Set();
  return (key, value) => {
    if (typeof value !== 'object' || value === null) return typeof value === 'bigint' ? String(value) : value;
    if (seen.has(value)) return undefined;
    seen.add(value);
    return value;
  };
}

readline.createInterface({ input: process.stdin }).on('line', line => {
  const bytes = Buffer.from(line, 'hex');
  const decoder = new hessian.DecoderV2(bytes);
  const values = [];
  while (decoder.byteBuffer.position() < bytes.length) {
    try {
      values.push(decoder.read());
    } catch (error) {
      values.push({ undecodable: error.message });
      break;
    }
  }
  console.log(JSON.stringify(values, shown()));
});
