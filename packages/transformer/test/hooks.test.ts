import { fromArray, keep, unary, type Tensor } from '@filigree/core-tensor';
import type { Model } from '@filigree/transformer';
import { layerHooks } from '@filigree/transformer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadTiny } from './support/tiny.js';

const tokens = [1, 5, 9, 13, 2];

describe('hooks', () => {
  let model: Model;

  beforeAll(async () => {
    model = await loadTiny({ kvType: 'f32', activations: 'none' });
  });

  afterAll(() => {
    model.dispose();
  });

  async function values(tensor: Tensor): Promise<Float32Array> {
    const read = (await tensor.read()) as Float32Array;
    tensor.dispose();
    return read;
  }

  it('shows every named activation, in order, without changing the result', async () => {
    const seen: string[] = [];
    const read = Object.fromEntries(model.hooks().map((name) => [name, () => void seen.push(name)]));
    const hooked = await values(await model.run(tokens, { read }));
    expect(seen).toEqual(model.hooks());
    expect(seen).toHaveLength(3 + 2 * layerHooks.length);
    const plain = await values(await model.logits(tokens));
    // Branches that are hooked are added in a pass of their own.
    hooked.forEach((value, index) => {
      expect(Math.abs(value - plain[index])).toBeLessThan(1e-4);
    });
  });

  it('gives the last row of logits alone when asked to', async () => {
    const all = await values(await model.logits(tokens));
    const last = await values(await model.run(tokens, { logits: 'last' }));
    expect(last).toHaveLength(model.config.vocabularySize);
    expect(last).toEqual(all.slice(-last.length));
  });

  it('runs under sparse attention, in steps of the length asked for', async () => {
    const attention = { prefill: { method: 'sliding-window', options: { window: 2 } } };
    let calls = 0;
    const read = { 'final-norm': () => void calls++ };
    const hooked = await values(await model.run(tokens, { read, attention, prefillChunk: 2 }));
    expect(calls).toBe(3);
    const plain = await values(await model.logits(tokens, { attention }));
    hooked.forEach((value, index) => {
      expect(Math.abs(value - plain[index])).toBeLessThan(1e-4);
    });
  });

  it('lets readers keep what they see', async () => {
    let kept: Tensor | undefined;
    const read = {
      'layers.1.residual-out': (x: Tensor) => {
        kept = x.view(x.shape);
      },
    };
    (await model.run(tokens, { read })).dispose();
    expect(kept?.shape).toEqual([tokens.length, model.config.hiddenSize]);
    if (kept) expect((await values(kept)).every(Number.isFinite)).toBe(true);
  });

  it('goes on with replacements: zeroed branches leave the embedding', async () => {
    const zero = (x: Tensor): Tensor => fromArray(x.backend, new Float32Array(x.size), x.shape);
    const replace = Object.fromEntries(
      model
        .hooks()
        .filter((name) => /\.(attention|mlp)\.output$/.test(name))
        .map((name) => [name, zero]),
    );
    const found: Tensor[] = [];
    const read = {
      embedding: (x: Tensor) => void found.push(x.view(x.shape)),
      'layers.1.residual-out': (x: Tensor) => void found.push(x.view(x.shape)),
    };
    (await model.run(tokens, { read, replace })).dispose();
    expect(await values(found[1])).toEqual(await values(found[0]));
  });

  it('rejects unknown names and replacements of another shape', async () => {
    await expect(model.run(tokens, { read: { 'layers.9.mlp': () => undefined } })).rejects.toThrow(/no hook "layers.9.mlp"/);
    const replace = { embedding: (x: Tensor) => fromArray(x.backend, [1, 2], [2]) };
    await expect(model.run(tokens, { replace })).rejects.toThrow(/replacement for "embedding" is f32 \[2\]/);
  });

  it('returns to its memory when a hook fails', async () => {
    await model.backend.sync();
    const before = model.backend.memory().liveBytes;
    const read = {
      'layers.0.mlp.hidden': (x: Tensor) => {
        keep(unary(x, 'silu')).dispose();
        throw new Error('mine');
      },
    };
    await expect(model.run(tokens, { read })).rejects.toThrow('mine');
    await model.backend.sync();
    expect(model.backend.memory().liveBytes).toBe(before);
  });
});
