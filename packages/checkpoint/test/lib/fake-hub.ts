import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendFile, serve } from './file-server.js';

interface StoredFile {
  readonly content: Uint8Array;
  /** Large files are redirected to another address, and their SHA-256 is known beforehand. */
  readonly large: boolean;
}

/** A request as it came. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

/** Answers a request itself and returns true, or leaves it to the Hub. */
export type Interception = (request: IncomingMessage, response: ServerResponse, path: string) => boolean;

/** A server that answers as the Hugging Face Hub does, in as much as a download sees of it. */
export class FakeHub {
  readonly requests: SeenRequest[] = [];
  intercept: Interception = () => false;
  readonly #files = new Map<string, Map<string, StoredFile>>();
  #endpoint = '';

  static async start(): Promise<FakeHub> {
    const hub = new FakeHub();
    hub.#endpoint = await serve((request, response) => {
      hub.#answer(request, response);
    });
    return hub;
  }

  get endpoint(): string {
    return this.#endpoint;
  }

  put(repo: string, file: string, content: Uint8Array | string, { large = true, revision = 'main' } = {}): void {
    const key = `${repo}@${revision}`;
    const files = this.#files.get(key) ?? new Map<string, StoredFile>();
    files.set(file, { content: typeof content === 'string' ? new TextEncoder().encode(content) : content, large });
    this.#files.set(key, files);
  }

  /** Requests that asked for the bytes of a large file. */
  transfers(): SeenRequest[] {
    return this.requests.filter(({ path }) => path.startsWith('/cdn/'));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
    const { range, authorization } = request.headers;
    this.requests.push({ method: request.method ?? '', path, range, authorization });
    if (this.intercept(request, response, path)) return;
    const listing = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(path);
    if (listing) {
      const files = this.#files.get(`${listing[1]}@${listing[2]}`);
      if (!files) response.writeHead(401, { 'x-error-code': 'RepoNotFound' }).end();
      else response.end(JSON.stringify({ id: listing[1], siblings: [...files.keys()].map((rfilename) => ({ rfilename })) }));
      return;
    }
    const place = /^\/(?:cdn\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const file = place ? this.#files.get(`${place[1]}@${place[2]}`)?.get(place[3]) : undefined;
    if (!file) {
      response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end();
      return;
    }
    const sha256 = createHash('sha256').update(file.content).digest('hex');
    if (file.large && !path.startsWith('/cdn/'))
      response
        .writeHead(302, {
          location: `/cdn${request.url ?? ''}`,
          'x-linked-etag': `"${sha256}"`,
          'x-linked-size': String(file.content.byteLength),
        })
        .end();
    else sendFile(request, response, file.content, { etag: `"${sha256.slice(0, 40)}"` });
  }
}
