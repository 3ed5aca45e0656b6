import { expect, it } from 'vitest';
import { bytesSink, readGguf, readSafetensors, writeGguf, writeSafetensors } from '@filigree/checkpoint';
import { recordingSource } from './lib/recording-source.js';

const mebibyte = 2 ** 20;

async function ggufBytes(vocabulary: number): Promise<Uint8Array> {
  const words = Array.from({ length: vocabulary }, (_, index) => `word number ${index}`);
  const sink = bytesSink();
  await writeGguf(sink, {
    metadata: [['tokens', { type: 'array', value: { elementType: 'string', values: words } }]],
    tensors: [
      { name: 'a', type: 'I8', shape: [4 * mebibyte], data: new Uint8Array(4 * mebibyte) },
      { name: 'b', type: 'I8', shape: [4, mebibyte], data: new Uint8Array(4 * mebibyte).fill(7) },
    ],
  });
  return sink.bytes();
}

it('opens a GGUF file by reading its header alone, once', async () => {
  const source = recordingSource(await ggufBytes(10));
  const file = await readGguf(source);
  expect(source.reads).toEqual([{ offset: 0, length: mebibyte / 2 }]);
  expect(file.tensors).toHaveLength(2);
});

it('reads a long GGUF header in few growing pieces without reading any byte twice', async () => {
  const source = recordingSource(await ggufBytes(100_000));
  const file = await readGguf(source);
  expect(file.dataOffset).toBeGreaterThan(2 * mebibyte);
  expect(source.reads.length).toBeLessThanOrEqual(3);
  let end = 0;
  for (const { offset, length } of source.reads) {
    expect(offset).toBe(end);
    end += length;
  }
  expect(end).toBeLessThan(5 * file.dataOffset);
});

it('reads of a GGUF tensor exactly the bytes asked for', async () => {
  const source = recordingSource(await ggufBytes(10));
  const file = await readGguf(source);
  const b = file.tensor('b');
  source.reads.length = 0;
  expect(await file.readBytes(b, { start: mebibyte, length: 3 })).toEqual(Uint8Array.of(7, 7, 7));
  expect(source.reads).toEqual([{ offset: b.offset + mebibyte, length: 3 }]);

  source.reads.length = 0;
  let total = 0;
  for await (const piece of file.readChunks(b, { chunkBytes: 3 * mebibyte })) total += piece.byteLength;
  expect(total).toBe(b.byteLength);
  expect(source.reads).toEqual([
    { offset: b.offset, length: 3 * mebibyte },
    { offset: b.offset + 3 * mebibyte, length: mebibyte },
  ]);
});

it('opens a safetensors file by reading its length and header alone', async () => {
  const sink = bytesSink();
  await writeSafetensors(sink, [{ name: 'a', dtype: 'U8', shape: [4 * mebibyte], data: new Uint8Array(4 * mebibyte) }]);
  const source = recordingSource(sink.bytes());
  const file = await readSafetensors(source);
  const header = source.size - 4 * mebibyte - 8;
  expect(source.reads).toEqual([
    { offset: 0, length: 8 },
    { offset: 8, length: header },
  ]);
  source.reads.length = 0;
  await file.readBytes(file.tensor('a'), { start: 5, length: 6 });
  expect(source.reads).toEqual([{ offset: 8 + header + 5, length: 6 }]);
});

it('refuses ranges outside of a tensor, and pieces that do not go into one buffer', async () => {
  const source = recordingSource(await ggufBytes(10));
  const file = await readGguf(source);
  const b = file.tensor('b');
  source.reads.length = 0;
  for (const range of [{ start: -1 }, { start: 4 * mebibyte + 1 }, { start: 1, length: 4 * mebibyte }, { length: 0.5 }])
    await expect(async () => file.readBytes(b, range)).rejects.toMatchObject({ code: 'OPTION' });
  const huge = { ...b, byteLength: 2 ** 40 };
  await expect(file.readBytes(huge)).rejects.toThrow('do not go into one buffer');
  await expect(file.readChunks(b, { chunkBytes: 0 }).next()).rejects.toMatchObject({ code: 'OPTION' });
  expect(source.reads).toEqual([]);
});

it('stops between pieces when aborted', async () => {
  const source = recordingSource(await ggufBytes(10));
  const file = await readGguf(source);
  const controller = new AbortController();
  const pieces = file.readChunks(file.tensor('b'), { chunkBytes: 1024, signal: controller.signal });
  await pieces.next();
  controller.abort();
  await expect(pieces.next()).rejects.toMatchObject({ name: 'AbortError' });
  await expect(readGguf(source, { signal: controller.signal })).rejects.toMatchObject({ name: 'AbortError' });
});
