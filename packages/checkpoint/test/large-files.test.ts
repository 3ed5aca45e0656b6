import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { fileSource, readGguf, readSafetensors, writeGguf, writeSafetensors, type ByteSink } from '@filigree/checkpoint';
import { temporaryFolder } from './lib/temporary-folder.js';

const mebibyte = 2 ** 20;
const zeros = new Uint8Array(64 * mebibyte);
/** 4.25 GiB, so that what follows lies beyond what 32 bits reach. */
const holes = 68;

function* fourGibibytes() {
  for (let index = 0; index < holes; index++) yield zeros;
}

/** Writes a file in which `zeros` are holes that take no space on the disk. */
async function sparseSink(path: string): Promise<ByteSink> {
  const handle = await open(path, 'w');
  let at = 0;
  return {
    name: path,
    async write(bytes) {
      if (bytes.buffer !== zeros.buffer) await handle.write(bytes, 0, bytes.byteLength, at);
      at += bytes.byteLength;
    },
    async close() {
      await handle.truncate(at);
      await handle.close();
    },
    async abort() {
      await handle.close();
    },
  };
}

const last = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

it('writes, opens and reads a GGUF file with tensors beyond 4 GiB', async () => {
  const path = join(await temporaryFolder(), 'large.gguf');
  await writeGguf(await sparseSink(path), {
    tensors: [
      { name: 'large', type: 'I8', shape: [holes, zeros.byteLength], data: fourGibibytes },
      { name: 'last', type: 'I8', shape: [8], data: last },
    ],
  });
  const file = await readGguf(await fileSource(path));
  const tensor = file.tensor('last');
  expect(tensor.offset).toBeGreaterThan(2 ** 32);
  expect(await file.readBytes(tensor)).toEqual(last);
  expect(await file.readBytes(file.tensor('large'), { start: 2 ** 32 + 5, length: 4 })).toEqual(new Uint8Array(4));
  await file.close();
});

it('writes, opens and reads a safetensors file with tensors beyond 4 GiB', async () => {
  const path = join(await temporaryFolder(), 'large.safetensors');
  await writeSafetensors(await sparseSink(path), [
    { name: 'a', dtype: 'U8', shape: [holes, zeros.byteLength], data: fourGibibytes },
    { name: 'b', dtype: 'U8', shape: [8], data: last },
  ]);
  const file = await readSafetensors(await fileSource(path));
  const tensor = file.tensor('b');
  expect(tensor.offset).toBeGreaterThan(2 ** 32);
  expect(await file.readBytes(tensor)).toEqual(last);
  const tail = file.readChunks(file.tensor('a'), { start: 2 ** 32 - 2, length: 4, chunkBytes: 3 });
  const pieces: Uint8Array[] = [];
  for await (const piece of tail) pieces.push(piece);
  expect(pieces.map(({ byteLength }) => byteLength)).toEqual([3, 1]);
  await file.close();
});
