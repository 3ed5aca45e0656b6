// SHA-256 of the blocks that llama.cpp makes of the weights in packages/quantization/test/support/golden-weights.ts, by type:
//
//   npm run build && FILIGREE_LLAMA_BIN=<folder with llama-quantize> node scripts/goldens/quantized-blocks.mjs
//
// writes packages/quantization/test/goldens/quantized-blocks.json. The goldens there were made by llama.cpp as in the sdist of
// llama-cpp-python 0.3.36.
import { build } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from '../lib/run.mjs';

const test = join(root, 'packages/quantization/test');
const llamaBin = process.env['FILIGREE_LLAMA_BIN'];
if (!llamaBin) throw new Error('FILIGREE_LLAMA_BIN must name the folder with llama-quantize');

/** Types that llama-quantize writes without an importance matrix. The rest differs on purpose (NVFP4) or is not offered (MXFP4 of dense weights). */
const types = [
  'F16',
  'BF16',
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q8_0',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ4_NL',
  'IQ4_XS',
  'TQ1_0',
  'TQ2_0',
  'Q1_0',
  'Q2_0',
];

const work = mkdtempSync(join(tmpdir(), 'filigree-quantized-'));
const outfile = join(test, 'support/.golden-weights.mjs');
try {
  await build({
    stdin: {
      contents: `export * from './golden-weights.ts'; export { tinyModel } from '@filigree/testing'; export { bytesSource, fileSink, openGguf, readGguf, writeGguf } from '@filigree/checkpoint';`,
      resolveDir: join(test, 'support'),
      loader: 'ts',
    },
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    alias: { '@filigree/testing': join(root, 'internal/testing/src/tiny-model.ts') },
    outfile,
  });
  const { bytesSource, goldenRows, goldenWeights, goldenWidth, openGguf, readGguf, tinyModel, writeGguf } = await import(
    outfile
  );
  // A real header, so that llama-quantize takes the file; the only weight is ours.
  const { metadata } = await readGguf(bytesSource(await tinyModel()));
  const name = 'blk.0.ffn_down.weight';
  const data = new Uint8Array(goldenWeights().buffer);
  const source = join(work, 'source.gguf');
  await writeGguf(source, { metadata, tensors: [{ name, type: 'F32', shape: [goldenRows, goldenWidth], data }] });
  const goldens = {};
  for (const type of types) {
    const target = join(work, `${type}.gguf`);
    execFileSync(join(llamaBin, 'llama-quantize'), ['--pure', source, target, type], { stdio: 'ignore' });
    const file = await openGguf(target);
    const tensor = file.tensor(name);
    if (tensor.type !== type) throw new Error(`llama-quantize made ${tensor.type} of ${type}`);
    goldens[type] = createHash('sha256')
      .update(await file.readBytes(tensor))
      .digest('hex');
    await file.close();
  }
  writeFileSync(join(test, 'goldens/quantized-blocks.json'), `${JSON.stringify(goldens, null, 2)}\n`);
} finally {
  rmSync(outfile, { force: true });
  rmSync(work, { recursive: true, force: true });
}
