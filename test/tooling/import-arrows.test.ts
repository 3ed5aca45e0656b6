import { ESLint } from 'eslint';
import { fileURLToPath } from 'node:url';
import tseslint from 'typescript-eslint';
import { describe, expect, it } from 'vitest';

const eslint = new ESLint({
  cwd: fileURLToPath(new URL('../..', import.meta.url)),
  // The files below do not exist, so the rules that need types cannot look at them.
  overrideConfig: { files: ['**/*.ts'], ...tseslint.configs.disableTypeChecked },
});

/** Rules that object to a file with this text at this place. */
async function objections(path: string, text: string): Promise<(string | null)[]> {
  const results = await eslint.lintText(`${text}\n`, { filePath: path });
  return results.flatMap(({ messages }) => messages.map(({ ruleId }) => ruleId));
}

const arrow = 'filigree/import-arrows';

describe('the import arrows', () => {
  it.each([
    ['packages/core-tensor/src/a.ts', "export * from '@filigree/checkpoint';"],
    ['packages/checkpoint/src/a.ts', "export { attention } from '@filigree/sparse-attention';"],
    ['packages/sparse-attention/src/a.ts', "import { KvCache } from '@filigree/kv-cache';\nKvCache();"],
    ['packages/sparse-attention/src/a.ts', "import type { KvCache } from '@filigree/kv-cache';\nexport type A = KvCache;"],
    ['packages/sparse-attention/src/a.ts', "export type A = import('@filigree/kv-cache').KvCache;"],
    ['packages/kv-cache/src/a.ts', "export const load = () => import('@filigree/transformer');"],
    ['packages/kv-cache/src/a.ts', "export * from '@filigree/transformer/deep';"],
    ['packages/kv-cache/src/methods/a.ts', "export * from '../../../quantization/src/index.js';"],
    ['packages/backend-webgpu/src/a.ts', "export * from '@filigree/backend-native';"],
    ['packages/transformer/src/a.ts', "export * from '@filigree/backend-native';"],
    ['packages/transformer/src/a.ts', "export * from '@filigree/testing';"],
    ['packages/unheard-of/src/a.ts', 'export const a = 1;'],
  ])('forbids in %s: %s', async (path, text) => {
    expect(await objections(path, text)).toContain(arrow);
  });

  it.each([
    ['packages/kv-cache/src/a.ts', "export * from '@filigree/sparse-attention';"],
    ['packages/quantization/src/a.ts', "export * from '@filigree/nm-sparsity';"],
    ['packages/evaluation/src/a.ts', "export * from '@filigree/transformer';"],
    ['packages/transformer/src/default-backend.node.ts', "export * from '@filigree/backend-native';"],
    ['packages/core-tensor/src/ops/a.ts', "export { default as shader } from '@filigree/wgsl/core/a.wgsl';"],
    ['packages/core-tensor/src/ops/a.ts', "export * from '../shape.js';"],
    ['packages/core-tensor/test/a.test.ts', "export * from '@filigree/transformer';"],
    ['apps/cli/src/a.ts', "export * from '@filigree/transformer';\nexport * from 'node:fs';"],
  ])('allows in %s: %s', async (path, text) => {
    expect(await objections(path, text)).toEqual([]);
  });
});

describe('Node in portable files', () => {
  it.each([
    ["export * from 'node:fs';", arrow],
    ["export const load = () => import('node:fs');", arrow],
    ["export * from './file-source.node.js';", arrow],
    ['export const memory = () => process.memoryUsage();', 'no-restricted-globals'],
    ["export const bytes = Buffer.from('');", 'no-restricted-globals'],
  ])('forbids %s', async (text, rule) => {
    expect(await objections('packages/checkpoint/src/a.ts', text)).toContain(rule);
  });

  it.each([
    ['packages/checkpoint/src/file-source.node.ts', "export * from 'node:fs';\nexport * from './gguf.js';"],
    ['packages/checkpoint/src/a.ts', "export * from '#file-source';"],
    ['packages/backend-native/src/a.ts', "export * from 'node:fs';\nexport const { pid } = process;"],
  ])('allows it in %s: %s', async (path, text) => {
    expect(await objections(path, text)).toEqual([]);
  });
});

describe('house rules', () => {
  it.each([
    ['export default 1;', 'no-restricted-syntax'],
    ['export const a = (b: any) => b;', '@typescript-eslint/no-explicit-any'],
    ['export const a = (b?: number) => b!;', '@typescript-eslint/no-non-null-assertion'],
  ])('forbid %s', async (text, rule) => {
    expect(await objections('packages/checkpoint/src/a.ts', text)).toContain(rule);
  });
});
