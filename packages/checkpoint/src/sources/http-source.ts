import { AbortError, throwIfAborted } from '@filigree/core-tensor';
import { SourceReadError } from '../errors.js';
import { delay } from '../delay.js';
import { assertRange, type ByteSource } from './byte-source.js';
import { parseContentRange } from './content-range.js';

/** How an {@link httpSource} asks. */
export interface HttpSourceOptions {
  /** The `fetch` to use, for tests and proxies. */
  fetch?: typeof globalThis.fetch;
  /** Sent with every request, for example `authorization`. */
  headers?: Readonly<Record<string, string>>;
  /** Further attempts after a failed connection, 429 or 5xx, with doubling pauses. */
  retries?: number;
  /** Aborts the first request; each read takes its own signal. */
  signal?: AbortSignal;
}

/**
 * A file on a web server, read with range requests. Asks for one byte first, to learn the size and whether the server answers
 * ranges at all; a server that does not is refused, because every read would transfer the whole file.
 */
export async function httpSource(url: string | URL, options: HttpSourceOptions = {}): Promise<ByteSource> {
  const ranges = new RangeRequests(new URL(url), options);
  await ranges.open(options.signal);
  return ranges;
}

class RangeRequests implements ByteSource {
  size = 0;
  readonly name: string;
  /** Validator of the first answer: a file that changes on the server must not be read half old, half new. */
  #etag: string | null = null;

  constructor(
    readonly url: URL,
    readonly options: HttpSourceOptions,
  ) {
    // The query may hold a signature.
    this.name = `${url.origin}${url.pathname}`;
  }

  async open(signal: AbortSignal | undefined): Promise<void> {
    const response = await this.#request(0, 1, signal);
    await response.body?.cancel();
    const range = parseContentRange(response.headers.get('content-range'));
    if (range?.total === undefined)
      throw new SourceReadError(
        `${this.name}: the answer does not state the size of the file (Content-Range: bytes 0-0/SIZE). ` +
          'Across origins the server must expose the header (Access-Control-Expose-Headers: Content-Range, ETag).',
      );
    this.size = range.total;
    this.#etag = response.headers.get('etag');
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    throwIfAborted(signal);
    assertRange(this, offset, length);
    if (length === 0) return new Uint8Array(0);
    let failure: unknown;
    for (let attempt = 0; attempt <= this.#retries; attempt++) {
      const response = await this.#request(offset, length, signal);
      this.#check(response, offset, length);
      try {
        return await this.#body(response, length);
      } catch (error) {
        if (signal?.aborted) throw new AbortError(undefined, { cause: error });
        if (error instanceof SourceReadError) throw error;
        failure = error;
      }
    }
    throw new SourceReadError(`${this.name}: the connection broke while reading ${length} bytes at ${offset}`, {
      cause: failure,
    });
  }

  get #retries(): number {
    return this.options.retries ?? 3;
  }

  /** The first answer that is 206, or 416 for an empty file. */
  async #request(offset: number, length: number, signal: AbortSignal | undefined): Promise<Response> {
    const { fetch = globalThis.fetch, headers } = this.options;
    const init = {
      // With a range fetch asks for no compression by itself: offsets count bytes of the file.
      headers: { ...headers, range: `bytes=${offset}-${offset + length - 1}` },
      ...(signal ? { signal } : {}),
    };
    for (let attempt = 0; ; attempt++) {
      throwIfAborted(signal);
      let response: Response | undefined;
      let cause: unknown;
      try {
        response = await fetch(this.url, init);
      } catch (error) {
        if (signal?.aborted) throw new AbortError(undefined, { cause: error });
        cause = error;
      }
      if (response?.status === 206 || (response?.status === 416 && offset === 0)) return response;
      await response?.body?.cancel();
      const transient = !response || response.status === 429 || response.status >= 500;
      if (!transient || attempt >= this.#retries) throw this.#refusal(response, cause);
      await delay(200 * 2 ** attempt, signal);
    }
  }

  #refusal(response: Response | undefined, cause: unknown): SourceReadError {
    if (!response) return new SourceReadError(`${this.name}: the server cannot be reached`, { cause });
    if (response.status === 200)
      return new SourceReadError(
        `${this.name}: the server ignores range requests (status 200 instead of 206); download the file and open it locally`,
      );
    return new SourceReadError(`${this.name}: the server answered ${response.status} ${response.statusText}`.trimEnd());
  }

  #check(response: Response, offset: number, length: number): void {
    const header = response.headers.get('content-range');
    const range = parseContentRange(header);
    // Across origins the header may be hidden; the length of the body is checked in any case.
    if (header !== null && (range?.start !== offset || range.end !== offset + length - 1))
      throw new SourceReadError(`${this.name}: asked for bytes ${offset}-${offset + length - 1}, got "${header}"`);
    const etag = response.headers.get('etag');
    if ((range?.total !== undefined && range.total !== this.size) || (this.#etag && etag && etag !== this.#etag))
      throw new SourceReadError(`${this.name}: the file changed on the server while it was read; open it again`);
  }

  /** The body, of which no more than `length` bytes are kept, whatever the server sends. */
  async #body(response: Response, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let filled = 0;
    const reader = response.body?.getReader();
    for (;;) {
      const part = await reader?.read();
      if (!part?.value) break;
      if (filled + part.value.byteLength > length) {
        await reader?.cancel();
        throw new SourceReadError(`${this.name}: the server sent more than the ${length} bytes asked for`);
      }
      bytes.set(part.value, filled);
      filled += part.value.byteLength;
    }
    if (filled !== length) throw new Error(`the body ended after ${filled} of ${length} bytes`);
    return bytes;
  }
}
