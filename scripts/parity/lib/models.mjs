// The models and texts that parity is measured on, and where their logits lie once they are computed.
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileSource, readSafetensors } from '@filigree/checkpoint';
import { realModels } from '../../lib/models.mjs';
import { cache, execute, llamaTools, python, speech } from './environment.mjs';
import { LogitRows } from './logits.mjs';

/** Longer than Gemma's window of 512, so that the local layers leave something out. */
export const length = 768;
export const speeches = ['1862_abraham_lincoln_r', '1995_william_j_clinton_d'];

export const models = [
  { id: 'smollm2', title: 'SmolLM2-135M-Instruct Q4_1', variable: 'FILIGREE_MODEL_SMOLLM2' },
  { id: 'gemma3', title: 'Gemma 3 270M Q4_K_M', variable: 'FILIGREE_MODEL_GEMMA3' },
];

/** Path of the model's file. */
export async function modelPath(model) {
  return (await realModels())[model.variable];
}

/** A file of logits is as good as new while the program that wrote it is older. */
const fresh = (path, made) => existsSync(path) && made.every((source) => statSync(source).mtimeMs < statSync(path).mtimeMs);

/**
 * What transformers says: `path` of the file with everything, `tokens` (one array per text), `rows` of all texts in turn.
 */
export async function truthOf(model) {
  const path = join(cache, `${model.id}-truth.safetensors`);
  const script = join(import.meta.dirname, '../truth.py');
  const gguf = await modelPath(model);
  if (!fresh(path, [script])) {
    console.error(`${model.title}: computing the truth with transformers`);
    execute(python(), [script, gguf, path, String(length), ...speeches.map(speech)], {
      stdio: ['ignore', 'inherit', 'ignore'],
    });
  }
  const file = await readSafetensors(await fileSource(path));
  const [tokenInfo, logitInfo] = ['tokens', 'logits'].map((name) => file.tensor(name));
  const bytes = await tokenInfo.source.read(tokenInfo.offset, tokenInfo.byteLength);
  const ids = Array.from(new Int32Array(bytes.slice().buffer));
  const [texts, tokensEach, vocabulary] = logitInfo.shape;
  const tokens = Array.from({ length: texts }, (_, text) => ids.slice(text * tokensEach, (text + 1) * tokensEach));
  const open = () => new LogitRows(path, vocabulary, { offset: logitInfo.offset, rows: texts * tokensEach });
  return { path, gguf, tokens, vocabulary, open };
}

/** Logits of every text, in files that `write(tokensFile, logitsFile)` makes; those younger than `sources` are kept. */
function logitFiles(model, name, truth, sources, write) {
  const paths = truth.tokens.map((tokens, text) => {
    const [input, output] = ['i32', 'f32'].map((end) => join(cache, `${model.id}-${name}-${text}.${end}`));
    if (!sources || !fresh(output, [truth.path, ...sources])) {
      writeFileSync(input, Int32Array.from(tokens));
      write(input, output);
    }
    return output;
  });
  return () => {
    const files = paths.map((path) => new LogitRows(path, truth.vocabulary));
    return {
      rows: files.reduce((sum, file) => sum + file.rows, 0),
      read: (index) => files[Math.floor(index / length)].read(index % length),
      close: () => files.forEach((file) => file.close()),
    };
  };
}

/** What llama.cpp says, with its tools' defaults. */
export function llamaLogits(model, truth) {
  const program = join(llamaTools(), 'llama-logits');
  const args = (input, output) => [truth.gguf, input, output, String(availableParallelism())];
  return logitFiles(model, 'llama', truth, [program], (input, output) => execute(program, args(input, output)));
}

/** What we say under `options` of loadModel. Computed each time, in a process of its own. */
export function ourLogits(model, truth, name, options) {
  const script = join(import.meta.dirname, '../ours.mjs');
  const args = (input, output) => [script, truth.gguf, input, output, JSON.stringify(options)];
  return logitFiles(model, `ours-${name}`, truth, undefined, (input, output) => execute(process.execPath, args(input, output)));
}
