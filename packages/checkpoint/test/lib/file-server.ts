import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Serves on 127.0.0.1 until the test ends; resolves to the address, without a slash at its end. */
export async function serve(handler: Handler): Promise<string> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The range a request asks for, `end` exclusive; undefined when it asks for everything. */
export function rangeOf(request: IncomingMessage, size: number): { start: number; end: number } | undefined {
  const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (!match) return undefined;
  return { start: Number(match[1]), end: Math.min(size, match[2] ? Number(match[2]) + 1 : size) };
}

/** Answers a request for `content`, ranges included. */
export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  content: Uint8Array,
  headers: Readonly<Record<string, string>> = {},
): void {
  const range = rangeOf(request, content.byteLength);
  if (range && range.start >= content.byteLength) {
    response.writeHead(416, { ...headers, 'content-range': `bytes */${content.byteLength}` }).end();
    return;
  }
  const { start, end } = range ?? { start: 0, end: content.byteLength };
  response.writeHead(range ? 206 : 200, {
    ...headers,
    'content-length': String(end - start),
    ...(range ? { 'content-range': `bytes ${start}-${end - 1}/${content.byteLength}` } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : content.subarray(start, end));
}

/** An address on which nothing listens any more. */
export async function closedAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}
