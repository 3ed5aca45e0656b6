import { fileSource, readGguf } from '@filigree/checkpoint';
import { fullTier } from '@filigree/testing';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createGgufTokenizer } from '../src/tokenizer/gguf-tokenizer.js';
import { preTokenizerNames } from '../src/tokenizer/pre-tokenizers.js';
import type { Tokenizer } from '../src/tokenizer/tokenizer.js';
import goldens from './goldens/tokenizer-ids.json' with { type: 'json' };
import { sentencePieceGolden } from './support/tokenizer-goldens.js';
import { ggufFile, pairTokenizer, string } from './support/tokenizer-gguf.js';
import { mixedText, realText, unicodeText } from './support/tokenizer-texts.js';

/** What scripts/goldens/tokenizer-ids.mjs writes about a sequence. */
interface Golden {
  readonly count: number;
  readonly sha256: string;
}

function goldenOf(ids: readonly number[]): Golden {
  return { count: ids.length, sha256: createHash('sha256').update(Int32Array.from(ids)).digest('hex') };
}

describe('token ids are those of llama.cpp', () => {
  const text = mixedText(2, 20_000);
  const metadata = pairTokenizer('');

  it.each(preTokenizerNames)('with the pre-tokenizer %s', (name) => {
    const named = metadata.map(([key, value]) => [key, key === 'tokenizer.ggml.pre' ? string(name) : value] as const);
    const ids = createGgufTokenizer(ggufFile(named)).encode(text, { addBos: false });
    expect(goldenOf(ids)).toEqual((goldens.preTokenizers as Record<string, Golden>)[name]);
  });
});

describe('token ids are those of llama.cpp', () => {
  const text = mixedText(2, 20_000);

  it.each(['spaced', 'prefixed'] as const)('with SentencePiece, %s', (name) => {
    const tokenizer = createGgufTokenizer(sentencePieceGolden(name).file);
    expect(goldenOf(tokenizer.encode(text, { addBos: false }))).toEqual(goldens.sentencePiece[name].mixed);
    expect(goldenOf(tokenizer.encode(text, { special: true }))).toEqual(goldens.sentencePiece[name].special);
  });
});

const models = ['FILIGREE_MODEL_SMOLLM2', 'FILIGREE_MODEL_GEMMA3'] as const;

/** Ids by llama-tokenize of the folder. */
function llamaIds(folder: string, model: string, text: string): unknown {
  const work = mkdtempSync(join(tmpdir(), 'filigree-tokenizer-'));
  try {
    writeFileSync(join(work, 'text.txt'), text);
    const flags = ['--ids', '--no-bos', '--no-parse-special', '--no-escape', '--log-disable'];
    const args = ['-m', model, ...flags, '-f', join(work, 'text.txt')];
    return JSON.parse(execFileSync(join(folder, 'llama-tokenize'), args, { maxBuffer: 2 ** 30, encoding: 'utf8' }));
  } finally {
    rmSync(work, { recursive: true });
  }
}

if (fullTier) {
  describe.each(models)('token ids of %s are those of llama.cpp', (variable) => {
    const texts = { real: realText(), unicode: unicodeText(), mixed: mixedText(1, 40_000) };

    it.each(['real', 'unicode', 'mixed'] as const)('for the %s text', async (name) => {
      const ids = (await openTokenizer(modelPath(variable))).encode(texts[name], { addBos: false });
      expect(goldenOf(ids)).toEqual(goldens.models[variable][name]);
    });

    it('for control tokens, parsed where asked to', async () => {
      const ids = (await openTokenizer(modelPath(variable))).encode(texts.mixed, { special: true });
      expect(goldenOf(ids)).toEqual(goldens.models[variable].special);
    });

    // The texts above have goldens; where the program is at hand, each run compares another one.
    const folder = process.env['FILIGREE_LLAMA_BIN'];
    if (folder === undefined) return;
    it('for a text of this run', async () => {
      const text = mixedText(Date.now(), 20_000);
      const ids = (await openTokenizer(modelPath(variable))).encode(text, { addBos: false });
      expect(ids).toEqual(llamaIds(folder, modelPath(variable), text));
    });
  });
}

function modelPath(variable: string): string {
  const path = process.env[variable];
  if (path === undefined) throw new Error(`the full tier needs ${variable}, which scripts/test.mjs sets`);
  return path;
}

async function openTokenizer(path: string): Promise<Tokenizer> {
  const file = await readGguf(await fileSource(path));
  try {
    return createGgufTokenizer(file);
  } finally {
    await file.close();
  }
}
