import { matmul, reshape, scope, type Tensor } from '@filigree/core-tensor';
import { afterAll, describe, expect, it } from 'vitest';
import { backends, loadTiny } from './support/tiny.js';

describe.each(backends)('the output matrix of attention on %s', (_, create) => {
  const backend = create();
  afterAll(() => {
    backend.dispose();
  });

  it('takes what heads gathered to the residual stream', async () => {
    const model = await loadTiny({ backend, activations: 'none' });
    const { heads, headDim, hiddenSize } = model.config;
    const found: Record<string, Tensor> = {};
    const read = Object.fromEntries(
      ['mixed', 'output'].map((name) => [
        `layers.1.attention.${name}`,
        (x: Tensor): void => {
          found[name] = reshape(x, x.shape);
        },
      ]),
    );
    (await model.run([1, 5, 9, 13, 2], { read })).dispose();
    const session = model.session(1);
    const product = scope(() => {
      const weight = session.decoder.outputWeight(1);
      expect(weight.shape).toEqual([heads, headDim, hiddenSize]);
      return matmul(found.mixed, reshape(weight, [heads * headDim, hiddenSize]));
    });
    const [own, expected] = [await product.readNumbers(), await found.output.readNumbers()];
    for (const [index, value] of expected.entries()) expect(Math.abs(own[index] - value)).toBeLessThan(1e-4);
    for (const tensor of [product, found.mixed, found.output]) tensor.dispose();
    session.dispose();
    model.dispose();
  });
});
