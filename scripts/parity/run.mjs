// node scripts/parity/run.mjs [smollm2|gemma3 …] [--weights] [--json]
//
// How far our logits and llama.cpp's are from the truth (transformers, f32) on the same file and real text. Build the packages first.
// `--weights` also compares every dequantised weight bit by bit. The first run installs Python packages and builds llama.cpp's tools.
import { parseArgs } from 'node:util';
import { argMax, compareRows, logSumExp, meanOf } from './lib/divergence.mjs';
import { llamaLogits, models, ourLogits, truthOf } from './lib/models.mjs';
import { differingWeights } from './weights.mjs';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { weights: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
});

/** Compares two sets of logits position by position. */
function compare(p, q) {
  const [divergences, agreements] = [[], []];
  let largest = 0;
  for (let row = 0; row < p.rows; row++) {
    const [a, b] = [p.read(row), q.read(row)];
    const compared = compareRows(a, b);
    divergences.push(compared.divergence);
    agreements.push(argMax(a) === argMax(b) ? 1 : 0);
    largest = Math.max(largest, compared.largest);
  }
  const [divergence, top1] = [meanOf(divergences), meanOf(agreements)];
  return {
    positions: p.rows,
    kl: divergence.mean,
    klError: divergence.error,
    klLargest: Math.max(...divergences),
    largestDifference: largest,
    top1: top1.mean,
    top1Error: top1.error,
  };
}

/** exp of the mean negative log-likelihood of the text itself. */
function perplexity(rows, tokens) {
  const losses = [];
  tokens.forEach((text, index) => {
    for (let position = 0; position + 1 < text.length; position++) {
      const row = rows.read(index * text.length + position);
      losses.push(logSumExp(row) - row[text[position + 1]]);
    }
  });
  return Math.exp(meanOf(losses).mean);
}

async function measure(model) {
  const truth = await truthOf(model);
  const opened = {
    truth: truth.open,
    'llama.cpp': llamaLogits(model, truth),
    'ours f32': ourLogits(model, truth, 'f32', { activations: 'none', kvType: 'f32' }),
    ours: ourLogits(model, truth, 'shipped', {}),
  };
  const files = Object.fromEntries(Object.entries(opened).map(([name, open]) => [name, open()]));
  const pairs = [
    ['truth', 'ours f32'],
    ['truth', 'ours'],
    ['truth', 'llama.cpp'],
    ['ours', 'llama.cpp'],
  ];
  const records = pairs.map(([p, q]) => ({ model: model.title, pair: `${p} ‖ ${q}`, ...compare(files[p], files[q]) }));
  const perplexities = Object.fromEntries(Object.entries(files).map(([name, rows]) => [name, perplexity(rows, truth.tokens)]));
  for (const file of Object.values(files)) file.close();
  return { records, perplexities, weights: flags.weights ? await differingWeights(truth.gguf, truth.path) : undefined };
}

/** What the measured figures must be; empty when all are. */
function faults(records) {
  const [f32, ours, llama] = records;
  const found = [];
  if (f32.kl > 1e-6) found.push(`f32: KL ${f32.kl.toExponential(2)} is more than 1e-6`);
  if (f32.largestDifference > 1e-2) found.push(`f32: a logit is ${f32.largestDifference.toFixed(4)} off, more than 0.01`);
  if (ours.kl > 1.1 * llama.kl)
    found.push(`as shipped: KL ${ours.kl.toExponential(2)} is more than 1.1 × llama.cpp's ${llama.kl.toExponential(2)}`);
  if (ours.top1 < llama.top1 - llama.top1Error)
    found.push(
      `as shipped: top-1 ${(100 * ours.top1).toFixed(2)} % is below llama.cpp's ${(100 * llama.top1).toFixed(2)} % less its error`,
    );
  return found;
}

const percent = (value) => `${(100 * value).toFixed(2)} %`;
const chosen = models.filter(({ id }) => positionals.length === 0 || positionals.includes(id));
const results = [];
for (const model of chosen) {
  const { records, perplexities, weights } = await measure(model);
  const wrong = faults(records);
  if (weights && weights.differing.length > 0) wrong.push(`weights differ: ${weights.differing.join(', ')}`);
  results.push({ model: model.title, records, perplexities, weights, faults: wrong });
  if (flags.json) continue;
  console.log(`\n${model.title}, ${records[0].positions} positions`);
  for (const record of records) {
    const kl = `KL ${record.kl.toExponential(3)} ± ${record.klError.toExponential(1)}`;
    const top = `top-1 ${percent(record.top1)} ± ${percent(record.top1Error)}`;
    console.log(`  ${record.pair.padEnd(20)} ${kl}  max |Δlogit| ${record.largestDifference.toExponential(2)}  ${top}`);
  }
  const named = Object.entries(perplexities).map(([name, value]) => `${name} ${value.toFixed(4)}`);
  console.log(`  perplexity           ${named.join(', ')}`);
  if (weights) console.log(`  weights              ${weights.differing.length} of ${weights.tensors} tensors differ`);
  for (const fault of wrong) console.log(`  ✖ ${fault}`);
}
if (flags.json) console.log(JSON.stringify(results, null, 2));
process.exitCode = results.some((result) => result.faults.length > 0) ? 1 : 0;
