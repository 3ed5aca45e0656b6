import { tinyModel } from '@filigree/testing';
import { bytesSink, writeSafetensors } from '@filigree/checkpoint';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from './support/run.js';

const folder = mkdtempSync(join(tmpdir(), 'filigree-inspect-'));
const gguf = join(folder, 'tiny.gguf');
let tiny: Uint8Array;

beforeAll(async () => {
  tiny = await tinyModel();
  writeFileSync(gguf, tiny);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

async function json(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await run(['inspect', ...args, '--json']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.match(/\n/g)).toHaveLength(1);
  return JSON.parse(stdout) as Record<string, unknown>;
}

async function safetensors(name: string): Promise<string> {
  const sink = bytesSink();
  const data = new Uint8Array(24);
  await writeSafetensors(sink, [{ name: 'w', dtype: 'F32', shape: [2, 3], data }], { format: 'pt' });
  writeFileSync(join(folder, name), sink.bytes());
  return join(folder, name);
}

describe('inspect --json', () => {
  it('lists every tensor of a GGUF file with its type, shape, bytes and place', async () => {
    const found = await json(gguf);
    const sums = ['parameters', 'bitsPerWeight', 'types', 'parts'];
    expect(Object.keys(found)).toEqual(['file', 'format', 'version', 'bytes', ...sums, 'metadata', 'tensors']);
    expect(found).toMatchObject({ file: gguf, format: 'gguf', version: 3, bytes: tiny.byteLength });
    const tensors = found.tensors as Record<string, unknown>[];
    expect(tensors).toHaveLength(20);
    const query = tensors.find(({ name }) => name === 'blk.1.attn_q.weight');
    expect(query).toMatchObject({ type: 'Q8_0', shape: [64, 64], parameters: 4096, bytes: 4096 + 2 * 128, file: gguf });
  });

  it('adds the types up to the parameters', async () => {
    const { types, parameters } = await json(gguf);
    const shares = types as { type: string; tensors: number; parameters: number }[];
    expect(shares.map(({ type, tensors }) => [type, tensors])).toEqual([
      ['Q8_0', 15],
      ['F32', 5],
    ]);
    expect(shares.reduce((sum, share) => sum + share.parameters, 0)).toBe(parameters);
  });

  it('says which types each part of the model has', async () => {
    const { parts } = await json(gguf);
    const found = parts as {
      part: string;
      tensors: number;
      bitsPerWeight: number;
      types: { type: string; tensors: number }[];
    }[];
    expect(found.map(({ part, tensors, types: [{ type }] }) => [part, tensors, type])).toEqual([
      ['embedding', 1, 'Q8_0'],
      ['query', 2, 'Q8_0'],
      ['key', 2, 'Q8_0'],
      ['value', 2, 'Q8_0'],
      ['attention-output', 2, 'Q8_0'],
      ['gate', 2, 'Q8_0'],
      ['up', 2, 'Q8_0'],
      ['down', 2, 'Q8_0'],
      ['norm', 5, 'F32'],
    ]);
    expect(found.map(({ bitsPerWeight }) => bitsPerWeight)).toEqual([...Array<number>(8).fill(8.5), 32]);
  });

  it('shortens long arrays of the metadata unless --full', async () => {
    const short = (await json(gguf)).metadata as Record<string, { length: number; value: unknown[] }>;
    const full = (await json(gguf, '--full')).metadata as typeof short;
    expect(short['tokenizer.ggml.tokens'].value).toHaveLength(8);
    expect(full['tokenizer.ggml.tokens'].value).toHaveLength(short['tokenizer.ggml.tokens'].length);
  });

  it('shows an f32 with the digits it has', async () => {
    expect((await json(gguf)).metadata).toMatchObject({
      'llama.attention.layer_norm_rms_epsilon': { type: 'f32', value: 1e-5 },
    });
  });

  it('reads safetensors, alone and by its folder', async () => {
    const file = await safetensors('model.safetensors');
    const tensor = { name: 'w', type: 'F32', shape: [2, 3], parameters: 6, bytes: 24 };
    for (const place of [file, folder])
      expect(await json(place)).toMatchObject({
        format: 'safetensors',
        file,
        metadata: { format: { value: 'pt' } },
        tensors: [tensor],
      });
  });

  it('reads an index of shards', async () => {
    await safetensors('part.safetensors');
    const index = join(folder, 'some.index.json');
    writeFileSync(index, JSON.stringify({ metadata: {}, weight_map: { w: 'part.safetensors' } }));
    expect(await json(index)).toMatchObject({ format: 'safetensors', parameters: 6 });
  });
});

describe('inspect', () => {
  it('prints the mix of types, in all and by part, the metadata and the tensors', async () => {
    const { code, stdout } = await run(['inspect', gguf]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^architecture +llama$/m);
    expect(stdout).toMatch(/^Q8_0 +15 +\S+ k +\S+ KB +\S+ % +8\.50$/m);
    expect(stdout).toMatch(/^all +20 +\S+ k +\S+ KB +100 % +\S+$/m);
    expect(stdout).toMatch(/^attention q +2 +8\.19 k +8\.70 KB +\S+ % +8\.50 +Q8_0 × 2$/m);
    expect(stdout).toMatch(/^tokenizer\.ggml\.tokens +array +string\[\d+\] "<\|endoftext\|>"/m);
    expect(stdout).toMatch(/^blk\.0\.attn_k\.weight +Q8_0 +32 × 64 +2\.18 KB$/m);
  });

  it('prints no parts where names do not tell them', async () => {
    const { stdout } = await run(['inspect', await safetensors('plain.safetensors')]);
    expect(stdout).toMatch(/^all +1 /m);
    expect(stdout).not.toContain('part ');
  });

  it('leaves the lists out with --summary', async () => {
    const { stdout } = await run(['inspect', gguf, '--summary']);
    expect(stdout).toMatch(/^F32 +5 /m);
    expect(stdout).not.toContain('blk.0');
  });

  it('prints no control characters of the file', async () => {
    const hostile = join(folder, 'hostile-name.gguf');
    const escape = '\u001B]0;owned\u0007\u202E';
    writeFileSync(hostile, await tinyModel({ metadata: [[`a${escape}`, { type: 'string', value: `b${escape}\nc` }]] }));
    const { stdout } = await run(['inspect', hostile]);
    expect(stdout).toContain('b\\u001b]0;owned\\u0007\\u202e\\nc');
    expect(stdout).not.toMatch(/[\u001B\u0007\u202E]/);
  });
});

describe('inspect of what is no checkpoint', () => {
  const cases: readonly (readonly [string, () => Uint8Array, RegExp])[] = [
    ['an empty file', () => new Uint8Array(0), /^filigree: UNKNOWN_FORMAT: .*begin with nothing$/m],
    ['text', () => new TextEncoder().encode('hello world'), /^filigree: UNKNOWN_FORMAT: /],
    ['a truncated GGUF file', () => tiny.subarray(0, 5000), /^filigree: GGUF_FORMAT: .*is the file complete\?/],
    [
      'a GGUF file without the end of its data',
      () => tiny.subarray(0, tiny.byteLength - 1000),
      /^filigree: GGUF_FORMAT: .*tensor ".*past the end of the file, which has \d+ of the \d+ bytes .*1 of 20 tensors/,
    ],
    [
      'a GGUF file with an absurd tensor count',
      () => Uint8Array.from(tiny, (byte, index) => (index >= 8 && index < 16 ? 0xff : byte)),
      /^filigree: GGUF_FORMAT: /,
    ],
    [
      'safetensors that are all header',
      () => Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 127, 0x7b),
      /^filigree: SAFETENSORS_FORMAT: /,
    ],
  ];

  it.each(cases)('%s: exit code 1, a typed error on one line, no stack', async (name, content, message) => {
    const file = join(folder, `${name.replaceAll(' ', '-')}.bin`);
    writeFileSync(file, content());
    const { code, stdout, stderr } = await run(['inspect', file]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd()).not.toContain('\n');
  });

  it('no file at all: the path and the reason', async () => {
    const { code, stderr } = await run(['inspect', join(folder, 'absent.gguf')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^filigree: SOURCE_READ: .*absent\.gguf.*ENOENT/);
  });

  it('FILIGREE_DEBUG=1 adds the stack', async () => {
    const { stderr } = await run(['inspect', join(folder, 'absent.gguf')], { env: { FILIGREE_DEBUG: '1' } });
    expect(stderr).toMatch(/\n +at /);
  });
});
