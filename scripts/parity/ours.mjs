// node ours.mjs MODEL TOKENS OUT OPTIONS: the logits of a file of i32 tokens under JSON options of loadModel, as f32 rows in OUT.
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { loadModel } from '@filigree/transformer';

const [path, input, output, options] = process.argv.slice(2);
const rowsAtOnce = 32;

const bytes = readFileSync(input);
const tokens = Array.from(new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)));
const model = await loadModel(path, JSON.parse(options));
const logits = await model.logits(tokens);
const file = openSync(output, 'w');
for (let start = 0; start < tokens.length; start += rowsAtOnce) {
  const count = Math.min(rowsAtOnce, tokens.length - start);
  const rows = logits.view([count, logits.shape[1]], start * logits.shape[1]);
  writeSync(file, await rows.readBytes());
  rows.dispose();
}
closeSync(file);
logits.dispose();
model.dispose();
