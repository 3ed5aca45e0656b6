import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { blobSource, bytesSource, concatSource, fileSource, SourceReadError, type ByteSource } from '@filigree/checkpoint';
import { temporaryFolder } from './lib/temporary-folder.js';

const content = Uint8Array.from({ length: 1000 }, (_, index) => (index * 7) % 251);

const kinds: [string, () => Promise<ByteSource>][] = [
  ['memory', async () => bytesSource(content)],
  ['a Blob', async () => blobSource(new Blob([content]))],
  [
    'a file',
    async () => {
      const path = join(await temporaryFolder(), 'content');
      await writeFile(path, content);
      return fileSource(path);
    },
  ],
  [
    'several sources in order',
    async () =>
      concatSource(
        [
          [0, 100],
          [100, 100],
          [100, 700],
          [700, 1000],
        ].map(([a, b]) => bytesSource(content.slice(a, b))),
      ),
  ],
];

it.each(kinds)('reads any range of %s, and nothing outside of it', async (_, open) => {
  const source = await open();
  expect(source.size).toBe(content.byteLength);
  await fc.assert(
    fc.asyncProperty(fc.nat(1000), fc.nat(1000), async (a, b) => {
      const [start, end] = [Math.min(a, b), Math.max(a, b)];
      expect(await source.read(start, end - start)).toEqual(content.slice(start, end));
    }),
    { numRuns: 100, seed: 3 },
  );
  for (const [offset, length] of [
    [999, 2],
    [1001, 0],
    [-1, 1],
    [0, -1],
    [0.5, 1],
    [0, Number.NaN],
    [Number.MAX_SAFE_INTEGER, 1],
  ])
    await expect(source.read(offset, length), `${offset}, ${length}`).rejects.toThrow(SourceReadError);
  await expect(source.read(0, 1, AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError', code: 'ABORTED' });
  await source.close?.();
});

it('gives copies: writing into what was read does not reach the source', async () => {
  const source = bytesSource(content);
  (await source.read(0, 4)).fill(255);
  expect(await source.read(0, 4)).toEqual(content.slice(0, 4));
});

it('says what is wrong with a path', async () => {
  const folder = await temporaryFolder();
  await expect(fileSource(join(folder, 'nothing'))).rejects.toThrow('cannot be opened (ENOENT)');
  await mkdir(join(folder, 'folder'));
  await expect(fileSource(join(folder, 'folder'))).rejects.toThrow('not a regular file');
});

it('says that a file shrank while it was open', async () => {
  const path = join(await temporaryFolder(), 'content');
  await writeFile(path, content);
  const source = await fileSource(path);
  await truncate(path, 500);
  await expect(source.read(400, 200)).rejects.toThrow('the file ends at 500; it was 1000 bytes when opened');
  await source.close?.();
});

it('says that a blob cannot be read', async () => {
  const failing = { size: 10, slice: () => ({ arrayBuffer: () => Promise.reject(new Error('gone')) }) } as unknown as Blob;
  await expect(blobSource(failing).read(0, 4)).rejects.toThrow('the blob cannot be read');
});
