import { bundle, withPage } from '@filigree/testing';
import { expect, it } from 'vitest';

/** What the page is asked to do. */
const page = `
import { opfsCachedSource, readSafetensors, removeOpfsCached } from '@filigree/checkpoint';

const failure = (promise) => promise.then(() => 'none', (error) => ({
  name: error.constructor.name, code: error.code, message: error.message, needed: error.neededBytes, available: error.availableBytes,
}));

globalThis.first = async () => {
  let fetches = 0;
  const counting = (...request) => (fetches++, fetch(...request));
  const progress = [];
  const options = { fetch: counting, onProgress: ({ doneBytes, totalBytes }) => progress.push([doneBytes, totalBytes]) };
  const sources = await Promise.all([opfsCachedSource('/model.safetensors', options), opfsCachedSource('/model.safetensors', options)]);
  const file = await readSafetensors(await opfsCachedSource('/model.safetensors', options));
  const bytes = await file.readBytes(file.tensor('w'), { start: 4, length: 4 });
  return { fetches, sizes: sources.map(({ size }) => size), last: progress.at(-1), bytes: [...bytes] };
};
globalThis.again = async () => {
  const source = await opfsCachedSource('/model.safetensors', { fetch: () => { throw new Error('fetched again'); } });
  return source.size;
};
globalThis.missing = () => failure(opfsCachedSource('/nothing.gguf'));
globalThis.cut = () => {
  const cutting = async () => new Response(new ReadableStream({
    start(controller) { controller.enqueue(new Uint8Array(1000)); controller.error(new TypeError('network error')); },
  }), { headers: { 'content-length': '5000' } });
  return failure(opfsCachedSource('/cut.gguf', { fetch: cutting }));
};
globalThis.aborted = () => {
  const controller = new AbortController();
  const onProgress = () => controller.abort();
  return failure(opfsCachedSource('/large.bin', { signal: controller.signal, onProgress }));
};
globalThis.unannounced = () => failure(opfsCachedSource('/large.bin'));
globalThis.announced = (bytes) => {
  const announcing = async (...request) => new Response((await fetch(...request)).body, { headers: { 'content-length': String(bytes) } });
  return failure(opfsCachedSource('/large.bin?announced', { fetch: announcing }));
};
globalThis.names = async () => {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('filigree');
  const names = [];
  for await (const name of folder.keys()) names.push(name);
  return names.map((name) => name.slice(33));
};
globalThis.remove = () => Promise.all(['/model.safetensors', '/nothing.gguf'].map((url) => removeOpfsCached(url)));
`;

interface Failure {
  name: string;
  code: string;
  message: string;
  needed?: number;
  available?: number;
}

it('keeps files in the origin-private file system, fetched once and never half', async () => {
  const script = await bundle(page, { platform: 'browser' });
  expect(script).not.toMatch(/\bfrom\s*["']node:|yauzl/);
  const header = new TextEncoder().encode('{"w":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}} ');
  const model = new Uint8Array(8 + header.byteLength + 16);
  new DataView(model.buffer).setBigUint64(0, BigInt(header.byteLength), true);
  model.set(header, 8);
  for (let index = 0; index < 16; index++) model[8 + header.byteLength + index] = index;
  const large = new Uint8Array(8 * 2 ** 20);
  const files = {
    '/': '<!doctype html><script type="module" src="/main.js"></script>',
    '/main.js': script,
    '/model.safetensors': model,
    '/large.bin': large,
    // An answer of 404 would be an error on the page's console.
    '/nothing.gguf': '',
  };
  await withPage(files, async (opened) => {
    await opened.waitForFunction('globalThis.remove !== undefined');
    const call = <T>(name: string, argument = '') => opened.evaluate<T>(`${name}(${argument})`);
    expect(await call('first')).toEqual({
      fetches: 1,
      sizes: [model.byteLength, model.byteLength],
      last: [model.byteLength, undefined],
      bytes: [4, 5, 6, 7],
    });
    await opened.reload();
    await opened.waitForFunction('globalThis.remove !== undefined');
    expect(await call('again')).toBe(model.byteLength);

    expect(await call<Failure>('missing')).toMatchObject({
      name: 'SourceReadError',
      message: expect.stringContaining('empty'),
    });
    expect(await call<Failure>('cut')).toMatchObject({ name: 'SourceReadError', message: expect.stringContaining('broke') });
    expect(await call<Failure>('aborted')).toMatchObject({ name: 'AbortError', code: 'ABORTED' });

    const protocol = await opened.context().newCDPSession(opened);
    await protocol.send('Storage.overrideQuotaForOrigin', { origin: new URL(opened.url()).origin, quotaSize: 2 ** 20 });
    const refused = await call<Failure>('announced', String(large.byteLength));
    expect(refused).toMatchObject({ name: 'QuotaError', code: 'QUOTA', needed: large.byteLength });
    // Chromium tells pages 10 GiB whatever the quota is, so that it does not tell them apart.
    expect(refused.available).toBeGreaterThan(0);
    expect(await call<Failure>('unannounced')).toMatchObject({ name: 'QuotaError', code: 'QUOTA' });

    expect(await call('names')).toEqual(['model.safetensors']);
    expect(await call('remove')).toEqual([true, false]);
    expect(await call('names')).toEqual([]);
  });
});
