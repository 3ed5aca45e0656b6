// node scripts/parity/golden.mjs FOLDER: the goldens of the full tier's parity test, a part of what transformers and llama.cpp say that is
// small enough to commit. Of every position: the 24 likeliest tokens by the truth and 8 seeded others, with both sets of logits and both
// normalisers (log Σ exp over the whole vocabulary), so that a comparison of distributions over these tokens and "any other" is exact.
//
//   tokens      i32 [texts, length]
//   ids         i32 [texts · length, 32]   the likeliest first
//   truth       f32 [texts · length, 32]   truthNorm   f64 [texts · length]
//   llama       f32 [texts · length, 32]   llamaNorm   f64 [texts · length]
//   llamaTop    i32 [texts · length]       the likeliest token by llama.cpp
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '@filigree/checkpoint';
import { argMax, logSumExp } from './lib/divergence.mjs';
import { length, llamaLogits, models, speeches, truthOf } from './lib/models.mjs';

const likeliest = 24;
const others = 8;
const perRow = likeliest + others;

/** Ids of the largest values, largest first. */
function topIds(row, count) {
  const top = [];
  for (let id = 0; id < row.length; id++) {
    if (top.length === count && row[id] <= row[top[count - 1]]) continue;
    let at = top.length;
    while (at > 0 && row[top[at - 1]] < row[id]) at--;
    top.splice(at, 0, id);
    if (top.length > count) top.pop();
  }
  return top;
}

/** A permutation-like walk over the vocabulary: the same ids on every run. */
function otherIds(row, vocabulary, taken) {
  const ids = [];
  for (let step = 1; ids.length < others; step++) {
    const id = (row * 7919 + step * 104729) % vocabulary;
    if (!taken.includes(id) && !ids.includes(id)) ids.push(id);
  }
  return ids;
}

const bytesOf = (array) => new Uint8Array(array.buffer);

async function writeGolden(model, folder) {
  const truth = await truthOf(model);
  const [rows, theirs] = [truth.open(), llamaLogits(model, truth)()];
  const ids = new Int32Array(rows.rows * perRow);
  const [truthLogits, llama] = [new Float32Array(ids.length), new Float32Array(ids.length)];
  const [truthNorm, llamaNorm] = [new Float64Array(rows.rows), new Float64Array(rows.rows)];
  const llamaTop = new Int32Array(rows.rows);
  for (let row = 0; row < rows.rows; row++) {
    const [p, q] = [rows.read(row), theirs.read(row)];
    const top = topIds(p, likeliest);
    for (const [index, id] of [...top, ...otherIds(row, truth.vocabulary, top)].entries()) {
      ids[row * perRow + index] = id;
      truthLogits[row * perRow + index] = p[id];
      llama[row * perRow + index] = q[id];
    }
    truthNorm[row] = logSumExp(p);
    llamaNorm[row] = logSumExp(q);
    llamaTop[row] = argMax(q);
  }
  const perPosition = [rows.rows];
  const entry = (name, dtype, shape, array) => ({ name, dtype, shape, data: bytesOf(array) });
  const tokens = Int32Array.from(truth.tokens.flat());
  const entries = [
    entry('tokens', 'I32', [speeches.length, length], tokens),
    entry('ids', 'I32', [rows.rows, perRow], ids),
    entry('truth', 'F32', [rows.rows, perRow], truthLogits),
    entry('truthNorm', 'F64', perPosition, truthNorm),
    entry('llama', 'F32', [rows.rows, perRow], llama),
    entry('llamaNorm', 'F64', perPosition, llamaNorm),
    entry('llamaTop', 'I32', perPosition, llamaTop),
  ];
  await writeSafetensors(join(folder, `parity-${model.id}.safetensors`), entries);
  rows.close();
  theirs.close();
}

const folder = process.argv[2];
if (!folder) throw new Error('usage: node scripts/parity/golden.mjs FOLDER');
mkdirSync(folder, { recursive: true });
for (const model of models) await writeGolden(model, folder);
