import { fileSource, readSafetensors, type SafetensorsTensorInfo } from '@filigree/checkpoint';
import { createReferenceBackend, type Backend } from '@filigree/core-tensor';
import { nativeBackends, webGpuBackends } from '@filigree/testing';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../src/index.js';

// Models of every architecture as they lie on the Hub, and their logits by transformers in f32: scripts/goldens/transformer-tiny.py.
const goldens = join(import.meta.dirname, 'goldens');
const folders = readdirSync(goldens).filter((name) => existsSync(join(goldens, name, 'golden.safetensors')));

const backends = [
  { name: 'reference', create: () => Promise.resolve<Backend>(createReferenceBackend()) },
  ...nativeBackends().map(({ name, create }) => ({ name, create: () => create([]) })),
  ...webGpuBackends()
    .filter(({ name }) => name === 'webgpu/plain')
    .map(({ name, create }) => ({ name, create: () => create([]) })),
];

async function readInfo(info: SafetensorsTensorInfo): Promise<ArrayBuffer> {
  return (await info.source.read(info.offset, info.byteLength)).slice().buffer;
}

/** Tokens and the logits that transformers computes for them. */
async function readGolden(folder: string): Promise<{ tokens: number[]; logits: Float32Array; vocabulary: number }> {
  const file = await readSafetensors(await fileSource(join(goldens, folder, 'golden.safetensors')));
  const logits = file.tensor('logits');
  return {
    tokens: Array.from(new Int32Array(await readInfo(file.tensor('tokens')))),
    logits: new Float32Array(await readInfo(logits)),
    vocabulary: logits.shape[1],
  };
}

/** The largest difference of two arrays; NaN when one of them has it. */
function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = 0;
  for (let index = 0; index < a.length; index++) {
    const difference = Math.abs(a[index] - b[index]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

it('covers every architecture', () => {
  expect(folders.sort()).toEqual(['gemma3', 'gemma3-new', 'llama', 'llama3', 'mistral', 'qwen2', 'qwen3']);
});

for (const { name, create } of backends) {
  describe(`logits on ${name} are those of transformers in f32`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await create();
    });
    afterAll(() => {
      backend.dispose();
    });

    for (const folder of folders) {
      it(folder, async () => {
        const { tokens, logits: expected, vocabulary } = await readGolden(folder);
        const model = await loadModel(join(goldens, folder), { backend, activations: 'none', kvType: 'f32' });
        try {
          const logits = await model.logits(tokens);
          expect(logits.shape).toEqual([tokens.length, vocabulary]);
          // The logits reach ± 18; f32 sums in another order move them by some 1e-5.
          expect(largestDifference((await logits.read()) as Float32Array, expected)).toBeLessThan(1e-4);
          logits.dispose();
        } finally {
          model.dispose();
        }
      });
    }
  });
}
