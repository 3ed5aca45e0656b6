import { readdir, readFile, writeFile } from 'node:fs/promises';
import type * as FileSystem from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, expect, it, vi } from 'vitest';
import { fileSource, readSafetensors, SinkWriteError, writeGguf, writeSafetensors } from '@filigree/checkpoint';
import { temporaryFolder } from './lib/temporary-folder.js';

/** What the file system below did, and how much it still takes. */
const disk = vi.hoisted(() => ({ free: Infinity, failSync: false, steps: [] as string[] }));

/** The real file system, but for a disk that fills up and a note of the steps that make a file durable. */
vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof FileSystem>();
  const failure = (code: string) => Object.assign(new Error(code), { code, syscall: 'write' });
  const open: typeof real.open = async (path, flags, mode) => {
    const handle = await real.open(path, flags, mode);
    if (flags !== 'wx') return handle;
    const write = handle.write.bind(handle) as (
      bytes: Uint8Array,
      start: number,
      length?: number,
    ) => ReturnType<typeof handle.write>;
    const sync = handle.sync.bind(handle);
    return Object.assign(handle, {
      write: async (bytes: Uint8Array, start: number) => {
        if (disk.free === 0) throw failure('ENOSPC');
        // A disk that is nearly full takes a part of what it is given.
        const result = await write(bytes, start, Math.min(bytes.byteLength - start, disk.free));
        disk.free -= result.bytesWritten;
        return result;
      },
      sync: async () => {
        disk.steps.push('sync');
        if (disk.failSync) throw failure('EIO');
        await sync();
      },
    });
  };
  const rename: typeof real.rename = async (from, to) => {
    disk.steps.push('rename');
    await real.rename(from, to);
  };
  return { ...real, open, rename };
});

beforeEach(() => {
  Object.assign(disk, { free: Infinity, failSync: false, steps: [] });
});

const entry = { name: 'w', dtype: 'U8', shape: [100_000], data: new Uint8Array(100_000).fill(3) } as const;

async function existing(): Promise<{ folder: string; path: string }> {
  const folder = await temporaryFolder();
  const path = join(folder, 'model.safetensors');
  await writeFile(path, 'the old file');
  return { folder, path };
}

async function expectOld({ folder, path }: { folder: string; path: string }): Promise<void> {
  expect(await readFile(path, 'utf8')).toBe('the old file');
  expect(await readdir(folder)).toEqual(['model.safetensors']);
}

it('flushes the new file to disk before it takes the name of the old one', async () => {
  const place = await existing();
  await writeSafetensors(place.path, [entry]);
  expect(disk.steps).toEqual(['sync', 'rename']);
  expect(await readdir(place.folder)).toEqual(['model.safetensors']);
  const file = await readSafetensors(await fileSource(place.path));
  expect(await file.readBytes(file.tensor('w'))).toEqual(entry.data);
  await file.close();
});

it('writes on when the file system takes only a part of what it was given', async () => {
  const place = await existing();
  disk.free = 200_000;
  await writeSafetensors(place.path, [entry]);
  expect((await readFile(place.path)).byteLength).toBeGreaterThan(100_000);
});

it('leaves the old file when the disk fills up, and nothing beside it', async () => {
  const place = await existing();
  disk.free = 50_000;
  const writing = writeSafetensors(place.path, [entry]);
  await expect(writing).rejects.toThrow(SinkWriteError);
  await expect(writing).rejects.toThrow('writing failed (ENOSPC); free some space and write again');
  await expectOld(place);
});

it('leaves the old file when flushing fails', async () => {
  const place = await existing();
  disk.failSync = true;
  await expect(writeSafetensors(place.path, [entry])).rejects.toThrow('flushing failed (EIO)');
  await expectOld(place);
});

it('leaves the old file when aborted between pieces', async () => {
  const place = await existing();
  const controller = new AbortController();
  function* pieces() {
    yield new Uint8Array(50_000);
    controller.abort();
    yield new Uint8Array(50_000);
  }
  const writing = writeSafetensors(place.path, [{ ...entry, data: pieces }], {}, { signal: controller.signal });
  await expect(writing).rejects.toMatchObject({ name: 'AbortError' });
  await expectOld(place);
});

it('leaves the old file when the data of a tensor fails to come or has another length', async () => {
  const place = await existing();
  const sources = [
    function* () {
      yield new Uint8Array(50_000);
      throw new Error('the tensor is gone');
    },
    function* () {
      yield new Uint8Array(99_999);
    },
    function* () {
      yield new Uint8Array(100_001);
    },
  ];
  for (const data of sources) {
    await expect(writeSafetensors(place.path, [{ ...entry, data }])).rejects.toThrow();
    const tensor = { name: 'w', type: 'I8', shape: [100_000], data } as const;
    await expect(writeGguf(place.path, { tensors: [tensor] })).rejects.toThrow();
    await expectOld(place);
  }
});

it('names the path that cannot be written', async () => {
  const folder = await temporaryFolder();
  const path = join(folder, 'no such folder', 'model.safetensors');
  await expect(writeSafetensors(path, [entry])).rejects.toThrow(`${path}: opening failed (ENOENT)`);
});
