// Token ids by llama.cpp of the texts in packages/transformer/test/support/tokenizer-texts.ts, as SHA-256 of each sequence:
//
//   npm run build && FILIGREE_LLAMA_BIN=<folder with llama-tokenize> node scripts/goldens/tokenizer-ids.mjs
//
// writes packages/transformer/test/goldens/tokenizer-ids.json: of the two real models (scripts/lib/models.mjs fetches them), of a small
// vocabulary under every name of a pre-tokenizer, and of the vocabularies that tokenizer-small.py makes with SentencePiece. The goldens there were made by llama.cpp as in the sdist of llama-cpp-python 0.3.36.
import { build } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realModels } from '../lib/models.mjs';
import { root } from '../lib/run.mjs';

const tests = join(root, 'packages/transformer/test');
const llamaBin = process.env['FILIGREE_LLAMA_BIN'];
if (!llamaBin) throw new Error('FILIGREE_LLAMA_BIN must name the folder with llama-tokenize');
const work = mkdtempSync(join(tmpdir(), 'filigree-tokenizer-ids-'));

/** The test's own texts and vocabularies, bundled where their imports resolve. */
async function support() {
  const outfile = join(tests, 'support/.tokenizer-goldens.mjs');
  const contents = `export * from './tokenizer-texts.ts'; export * from './tokenizer-gguf.ts'; export * from './tokenizer-goldens.ts'; export * from '../../src/tokenizer/pre-tokenizers.ts'; export { writeGguf, fileSink } from '@filigree/checkpoint';`;
  await build({
    stdin: { contents, resolveDir: join(tests, 'support'), loader: 'ts' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    outfile,
  });
  try {
    return await import(outfile);
  } finally {
    rmSync(outfile);
  }
}

/** Ids, without `bos` and with control tokens not parsed, or as llama.cpp does by default. */
function llamaIds(model, text, { special = false } = {}) {
  const file = join(work, 'text.txt');
  writeFileSync(file, text);
  const flags = ['--ids', '--no-escape', '--log-disable', ...(special ? [] : ['--no-bos', '--no-parse-special'])];
  const args = ['-m', model, ...flags, '-f', file];
  const output = execFileSync(join(llamaBin, 'llama-tokenize'), args, {
    maxBuffer: 2 ** 30,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ids = JSON.parse(output);
  return { count: ids.length, sha256: createHash('sha256').update(Int32Array.from(ids)).digest('hex') };
}

const {
  realText,
  unicodeText,
  mixedText,
  pairTokenizer,
  tinyLlama,
  sentencePieceGolden,
  preTokenizerNames,
  writeGguf,
  fileSink,
} = await support();
const texts = { real: realText(), unicode: unicodeText(), mixed: mixedText(1, 40_000) };
const goldens = { models: {}, preTokenizers: {}, sentencePiece: {} };
const models = await realModels();
for (const [name, path] of Object.entries(models)) {
  goldens.models[name] = Object.fromEntries(Object.entries(texts).map(([text, content]) => [text, llamaIds(path, content)]));
  goldens.models[name].special = llamaIds(path, texts.mixed, { special: true });
  console.log(name, goldens.models[name]);
}
const short = mixedText(2, 20_000);
for (const name of preTokenizerNames) {
  const model = join(work, 'pre.gguf');
  await writeGguf(await fileSink(model), { metadata: pairTokenizer(name) });
  goldens.preTokenizers[name] = llamaIds(model, short);
  console.log(name, goldens.preTokenizers[name]);
}
for (const name of ['spaced', 'prefixed']) {
  const model = join(work, `${name}.gguf`);
  await writeGguf(await fileSink(model), { metadata: [...tinyLlama, ...sentencePieceGolden(name).file.metadata] });
  goldens.sentencePiece[name] = { mixed: llamaIds(model, short), special: llamaIds(model, short, { special: true }) };
  console.log(name, goldens.sentencePiece[name]);
}
writeFileSync(join(tests, 'goldens/tokenizer-ids.json'), `${JSON.stringify(goldens, undefined, 2)}\n`);
rmSync(work, { recursive: true });
