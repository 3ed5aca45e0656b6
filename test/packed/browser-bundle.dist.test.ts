import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, inject, it } from 'vitest';
import { bundleFiles, bundlers } from './support/bundlers.js';
import { examples } from './support/examples.js';

const { folder } = inject('installed');
const readme = fileURLToPath(new URL('../../packages/transformer/README.md', import.meta.url));

/** Kilobytes (1000 bytes) of the minified bundle, all its chunks together: the most it may have. */
const limits = JSON.parse(readFileSync(new URL('bundle-limits.json', import.meta.url), 'utf8')) as Record<string, number>;

describe("the transformer's README example, bundled for browsers", () => {
  it.each(Object.entries(bundlers))('by %s: nothing of Node, within its size', async (name, bundle) => {
    const work = mkdtempSync(join(folder, `bundle-${name}-`));
    const entry = join(work, 'example.js');
    writeFileSync(entry, examples(readme)[0].source);
    await bundle({ folder, entry, out: join(work, 'out') });

    const files = bundleFiles(join(work, 'out'));
    const text = [...files.values()].join('\n');
    expect([...files.keys()].filter((file) => !/\.(?:js|mjs)$/.test(file))).toEqual([]);
    expect(text.match(/["'`]node:[a-z/_]+["'`]|["'`][^"'`\s]*\.node["'`]|backend-native[^"'`\s]*["'`]/g) ?? []).toEqual([]);
    // It is the whole program: the shaders are in it.
    expect(text).toContain('@compute');

    const size = Buffer.byteLength(text) / 1000;
    const compressed = gzipSync(text).length / 1000;
    console.log(
      `bundle ${name}: ${size.toFixed(0)} kB minified, ${compressed.toFixed(0)} kB compressed (limit ${limits[name]} kB)`,
    );
    expect(size).toBeLessThanOrEqual(limits[name]);
    // A limit that is far away notices nothing.
    expect(size).toBeGreaterThan(limits[name] * 0.8);
  });
});
