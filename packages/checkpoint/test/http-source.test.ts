import { expect, it } from 'vitest';
import { bytesSink, httpSource, readGguf, SourceReadError, writeGguf } from '@filigree/checkpoint';
import { closedAddress, rangeOf, sendFile, serve } from './lib/file-server.js';

const content = Uint8Array.from({ length: 5000 }, (_, index) => index % 241);

it('reads ranges, and asks for no byte besides them', async () => {
  const ranges: string[] = [];
  const address = await serve((request, response) => {
    ranges.push(request.headers.range ?? 'everything');
    expect(request.headers['accept-encoding']).toBe('identity');
    sendFile(request, response, content);
  });
  const source = await httpSource(`${address}/model.gguf?signature=secret`);
  expect([source.size, source.name]).toEqual([5000, `${address}/model.gguf`]);
  expect(await source.read(1000, 300)).toEqual(content.slice(1000, 1300));
  expect(await source.read(0, 0)).toEqual(new Uint8Array(0));
  await expect(source.read(4999, 2)).rejects.toThrow('goes past the end');
  expect(ranges).toEqual(['bytes=0-0', 'bytes=1000-1299']);
});

it('opens a model over HTTP and reads one tensor of it', async () => {
  const sink = bytesSink();
  const weights = new Uint8Array(3_000_000).map((_, index) => index);
  const tensors = ['a', 'b'].map((name) => ({ name, type: 'I8', shape: [3_000_000], data: weights }) as const);
  await writeGguf(sink, { tensors });
  let sent = 0;
  const address = await serve((request, response) => {
    const range = rangeOf(request, sink.bytes().byteLength);
    sent += range ? range.end - range.start : sink.bytes().byteLength;
    sendFile(request, response, sink.bytes());
  });
  const file = await readGguf(await httpSource(address));
  expect(await file.readBytes(file.tensor('b'), { start: 256, length: 3 })).toEqual(Uint8Array.of(0, 1, 2));
  expect(sent).toBeLessThan(600_000);
});

it('sends the headers it is given', async () => {
  const seen = new Set<string | undefined>();
  const address = await serve((request, response) => {
    seen.add(request.headers.authorization);
    sendFile(request, response, content);
  });
  const source = await httpSource(address, { headers: { authorization: 'Bearer t' } });
  await source.read(0, 1);
  expect([...seen]).toEqual(['Bearer t']);
});

it('refuses a server without range requests instead of transferring the whole file for each read', async () => {
  const address = await serve((_, response) => response.end(content));
  await expect(httpSource(address)).rejects.toThrow('the server ignores range requests (status 200 instead of 206)');
});

it('refuses a server that does not state the size', async () => {
  const address = await serve((_, response) => response.writeHead(206, { 'content-range': 'bytes 0-0/*' }).end('x'));
  await expect(httpSource(address)).rejects.toThrow('does not state the size');
});

it.each([404, 403, 400])('says what the server answered: %i', async (status) => {
  let requests = 0;
  const address = await serve((_, response) => {
    requests++;
    response.writeHead(status).end();
  });
  await expect(httpSource(`${address}/x`)).rejects.toThrow(`${address}/x: the server answered ${status}`);
  expect(requests).toBe(1);
});

it('notices that the file changed on the server, by its etag or its size', async () => {
  let etag = '"one"';
  let current = content;
  const address = await serve((request, response) => {
    sendFile(request, response, current, { etag });
  });
  const source = await httpSource(address);
  await source.read(0, 10);
  etag = '"two"';
  await expect(source.read(0, 10)).rejects.toThrow('the file changed on the server');
  etag = '"one"';
  current = content.slice(0, 4000);
  await expect(source.read(0, 10)).rejects.toThrow('the file changed on the server');
});

it('tries again after answers of 429 and 5xx, and gives up after as many attempts as it is told', async () => {
  const failures = [503, 429];
  const address = await serve((request, response) => {
    const status = failures.shift();
    if (status === undefined) sendFile(request, response, content);
    else response.writeHead(status).end();
  });
  const source = await httpSource(address, { retries: 2 });
  expect(await source.read(7, 2)).toEqual(content.slice(7, 9));
  failures.push(500, 500, 500);
  await expect(source.read(7, 2)).rejects.toThrow('the server answered 500');
  expect(failures).toEqual([]);
});

it('reads again when the connection breaks in the middle of a range, and says so when it keeps breaking', async () => {
  let cuts = 2;
  const address = await serve((request, response) => {
    const range = rangeOf(request, content.byteLength);
    if (range && range.end - range.start > 1 && cuts-- > 0) {
      response.writeHead(206, { 'content-length': '1000', 'content-range': `bytes ${range.start}-${range.end - 1}/5000` });
      response.write(content.subarray(range.start, range.start + 100), () => response.destroy());
    } else sendFile(request, response, content);
  });
  const source = await httpSource(address, { retries: 2 });
  expect(await source.read(1000, 1000)).toEqual(content.slice(1000, 2000));
  cuts = Infinity;
  await expect(source.read(1000, 1000)).rejects.toThrow('the connection broke while reading 1000 bytes at 1000');
});

it('says that a server cannot be reached', async () => {
  await expect(httpSource(await closedAddress(), { retries: 0 })).rejects.toThrow('the server cannot be reached');
});

it('takes no more than it asked for from a server that sends other bytes', async () => {
  let answer = { range: 'bytes 0-0/5000', body: content.subarray(0, 1) };
  const address = await serve((_, response) => response.writeHead(206, { 'content-range': answer.range }).end(answer.body));
  const source = await httpSource(address, { retries: 0 });
  answer = { range: 'bytes 20-29/5000', body: content.subarray(20, 30) };
  await expect(source.read(10, 10)).rejects.toThrow('asked for bytes 10-19, got "bytes 20-29/5000"');
  answer = { range: 'bytes 10-19/5000', body: content };
  await expect(source.read(10, 10)).rejects.toThrow('more than the 10 bytes asked for');
  answer = { range: 'bytes 10-19/5000', body: content.subarray(10, 15) };
  await expect(source.read(10, 10)).rejects.toThrow(SourceReadError);
});

it('stops at once when aborted while the server is silent', async () => {
  let silent = false;
  const address = await serve((request, response) => {
    if (!silent) sendFile(request, response, content);
  });
  const source = await httpSource(address);
  silent = true;
  const controller = new AbortController();
  const reading = source.read(0, 10, controller.signal);
  setTimeout(() => {
    controller.abort();
  }, 20);
  await expect(reading).rejects.toMatchObject({ name: 'AbortError', code: 'ABORTED' });
});

it('opens an empty file', async () => {
  const address = await serve((request, response) => {
    sendFile(request, response, new Uint8Array(0));
  });
  expect((await httpSource(address)).size).toBe(0);
});
