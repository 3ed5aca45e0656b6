import { openGguf } from '@filigree/checkpoint';
import { tinyModel } from '@filigree/testing';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from './support/run.js';

const folder = mkdtempSync(join(tmpdir(), 'filigree-cli-quantize-'));
const model = join(folder, 'f16.gguf');
const output = join(folder, 'out.gguf');

beforeAll(async () => {
  writeFileSync(model, await tinyModel({ type: 'F16' }));
  writeFileSync(join(folder, 'q8.gguf'), await tinyModel({ type: 'Q8_0' }));
  writeFileSync(join(folder, 'short.txt'), 'too short');
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

const quantize = (...args: string[]): ReturnType<typeof run> => run(['quantize', ...args]);

describe('quantize', () => {
  it('writes the model and prints what became of each tensor', async () => {
    const { code, stdout, stderr } = await quantize(model, output, '--type', 'q4_0', '--force');
    expect(code).toBe(0);
    expect(stdout).toMatch(/tensor +count +from +to +before +after +bits per weight/);
    expect(stdout).toMatch(/blk\.\*\.attn_q\.weight +2 +F16 +Q4_0/);
    expect(stdout).toMatch(/output_norm\.weight +1 +F32 +same/);
    expect(stderr).toMatch(/out\.gguf: .* → .* bits per weight\.$/m);
    const file = await openGguf(output);
    expect(file.tensor('blk.1.attn_q.weight').type).toBe('Q4_0');
    await file.close();
  });

  it('says which types stand in where rows are no whole blocks', async () => {
    const { stderr } = await quantize(model, output, '-t', 'Q4_K_S', '--dry-run');
    expect(stderr).toMatch(/take Q5_0 instead of Q4_K/);
  });

  it('takes rules by parts of names and by expressions', async () => {
    const rules = ['--rule', 'attn_v=q8_0', '--rule', '/blk\\.0\\.ffn/=F16'];
    const { stdout } = await quantize(model, output, '-t', 'Q4_0', ...rules, '--dry-run');
    expect(stdout).toMatch(/attn_v\.weight +2 +F16 +Q8_0/);
    expect(stdout).toMatch(/ffn_down\.weight +1 +F16 +same/);
    expect(stdout).toMatch(/ffn_down\.weight +1 +F16 +Q4_0/);
  });

  it('writes nothing in a dry run', async () => {
    const target = join(folder, 'none.gguf');
    const { code } = await quantize(model, target, '-t', 'Q8_0', '--dry-run');
    expect(code).toBe(0);
    expect(() => readFileSync(target)).toThrow();
  });

  it('measures a copy as the same model, and a coarse one as another', async () => {
    const measure = async (type: string): Promise<Record<string, number>> => {
      const { code, stdout, stderr } = await quantize(
        ...[model, output, '-t', type, '--quality', '--windows', '1', '--force', '--json'],
      );
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const { quality } = JSON.parse(stdout) as { quality: Record<string, number> };
      return quality;
    };
    const same = await measure('F16');
    expect(same).toMatchObject({ windows: 1, tokens: 255, klMean: 0, klMax: 0, sameTop: 1 });
    expect(same.perplexityAfter).toBe(same.perplexityBefore);
    const coarse = await measure('Q2_K');
    expect(coarse.perplexityBefore).toBe(same.perplexityBefore);
    expect(coarse.klMean).toBeGreaterThan(1e-3);
    expect(coarse.klMax).toBeGreaterThanOrEqual(coarse.kl99);
  });

  it('prints one JSON object of sizes that add up', async () => {
    const { stdout } = await quantize(model, output, '-t', 'Q4_0', '--dry-run', '--json');
    const { bytesAfter, tensors, weights, bitsPerWeight } = JSON.parse(stdout) as {
      bytesAfter: number;
      weights: number;
      bitsPerWeight: number;
      tensors: { bytesAfter: number; name: string; from: string; to: string }[];
    };
    expect(tensors.reduce((sum, tensor) => sum + tensor.bytesAfter, 0)).toBe(bytesAfter);
    expect(bitsPerWeight).toBeCloseTo((8 * bytesAfter) / weights, 9);
    expect(tensors[0]).toMatchObject({ from: 'F16' });
  });

  it.each([
    ['a file that is there', [model, output, '-t', 'Q4_0'], 2, /is there already; --force/],
    ['its own input', [model, model, '-t', 'Q4_0', '--force'], 2, /is the model that is read/],
    [
      'weights that are quantised',
      [join(folder, 'q8.gguf'), output, '-t', 'Q4_0', '--force'],
      1,
      /OPTION.*Q8_0 already.*--allow-requantize/,
    ],
    ['an unknown type', [model, output, '-t', 'Q9', '--force'], 1, /'Q9' is no type.*Q4_K_M/],
    ['a rule without a type', [model, output, '-t', 'Q4_0', '--rule', 'attn'], 2, /pattern=TYPE/],
    ['a rule that matches nothing', [model, output, '-t', 'Q4_0', '--rule', 'attnv=F16', '--force'], 1, /attnv=F16/],
    ['a text without --quality', [model, output, '-t', 'Q4_0', '--text', 'x', '--force'], 2, /--text.* goes with --quality/],
    ['--quality of nothing', [model, output, '-t', 'Q4_0', '--quality', '--dry-run'], 2, /--dry-run/],
    [
      'a text that is too short',
      [model, output, '-t', 'Q4_0', '--quality', '--text', join(folder, 'short.txt'), '--force'],
      2,
      /needs 512 tokens/,
    ],
  ])('refuses %s', async (_, args, expected, message) => {
    writeFileSync(output, 'old');
    const { code, stderr } = await quantize(...args);
    expect(code).toBe(expected);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split('\n').at(-1)).toMatch(/^filigree: /);
  });
});
