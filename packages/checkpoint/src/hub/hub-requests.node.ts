import { throwIfAborted } from '@filigree/core-tensor';
import { delay } from '../delay.js';
import { HubError } from '../errors.js';

/** What every request to the Hub needs. */
export interface HubRequests {
  readonly fetch: typeof globalThis.fetch;
  readonly headers: Readonly<Record<string, string>>;
  /** "owner/name: file", for messages. */
  readonly what: string;
  readonly signal: AbortSignal | undefined;
  /** Attempts after the first. */
  readonly retries: number;
  /** First pause between attempts; it doubles. */
  readonly backoffMs: number;
  /** No answer, or no further byte, for this long counts as a broken connection. */
  readonly stallMs: number;
}

/** What the Hub says about a file before it is downloaded. */
export interface RemoteFile {
  readonly size?: number;
  /** Identifies the content. */
  readonly etag?: string;
  /** Of the content, in hex; known for large files. */
  readonly sha256?: string;
}

/** Failures that another attempt a second later does not change. */
const noSuchHost = new Set([
  'ENOTFOUND',
  'ECONNREFUSED',
  'EAI_AGAIN',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/**
 * Asks for a file's size and identity. Large files are redirected to another host, and the Hub states both on the redirect
 * itself (x-linked-size, x-linked-etag), so only redirects within the Hub (a renamed repository) are followed.
 */
export async function describeRemote(url: string, requests: HubRequests): Promise<RemoteFile> {
  let at = new URL(url);
  for (let hop = 0; hop < 5; hop++) {
    const target = at;
    const response = await withRetries(requests, (signal) =>
      requests.fetch(target, {
        method: 'HEAD',
        redirect: 'manual',
        headers: { ...requests.headers, 'accept-encoding': 'identity' },
        signal,
      }),
    );
    const { headers, status } = response;
    const linked = headers.get('x-linked-etag') ?? undefined;
    const next = headers.get('location');
    if (status >= 300 && status < 400 && next !== null && linked === undefined) {
      const location = new URL(next, at);
      if (location.origin !== at.origin) return {};
      at = location;
      continue;
    }
    if (status >= 400) throw refusal(response, requests.what);
    const etag = linked ?? headers.get('etag') ?? undefined;
    const size = Number(headers.get('x-linked-size') ?? headers.get('content-length') ?? Number.NaN);
    const sha256 = /^(?:W\/)?"?([0-9a-f]{64})"?$/i.exec(etag ?? '')?.[1].toLowerCase();
    return {
      ...(Number.isSafeInteger(size) ? { size } : {}),
      ...(etag === undefined ? {} : { etag }),
      ...(sha256 === undefined ? {} : { sha256 }),
    };
  }
  throw new HubError('protocol', `${requests.what}: the server redirects in circles`);
}

/**
 * The first answer below 500 that is not 429. A host that does not exist or refuses is not asked again. The signal given to
 * `send` limits the wait for the head of the answer, not for its body, which may take long.
 */
export async function withRetries(requests: HubRequests, send: (signal: AbortSignal) => Promise<Response>): Promise<Response> {
  for (let attempt = 0; ; attempt++) {
    throwIfAborted(requests.signal);
    const stalled = new AbortController();
    const timer = setTimeout(() => {
      stalled.abort(new DOMException(`no answer for ${requests.stallMs} ms`, 'TimeoutError'));
    }, requests.stallMs);
    let failure: unknown;
    try {
      const response = await send(requests.signal ? AbortSignal.any([requests.signal, stalled.signal]) : stalled.signal);
      if (response.status !== 429 && response.status < 500) return response;
      await response.body?.cancel();
      failure = new Error(`the server answered ${response.status}`);
    } catch (error) {
      throwIfAborted(requests.signal);
      failure = error;
    } finally {
      clearTimeout(timer);
    }
    if (attempt >= requests.retries || noSuchHost.has(codeOf(failure))) throw unreachable(requests.what, failure);
    await delay(requests.backoffMs * 2 ** attempt, requests.signal);
  }
}

/** The error for a connection that did not come about or did not last. */
export function unreachable(what: string, cause: unknown): HubError {
  const code = codeOf(cause);
  const reason = code || (cause instanceof Error ? cause.message : String(cause));
  return new HubError(
    'unreachable',
    `${what}: the Hub cannot be reached (${reason}); check the connection, or use a local file`,
    {
      cause,
    },
  );
}

/** What an answer of 400 and above means. The Hub says more in x-error-code than in the status. */
export function refusal(response: Response, what: string): HubError {
  const code = response.headers.get('x-error-code');
  const status = `${response.status}${code ? ` ${code}` : ''}`;
  if (code === 'GatedRepo' || response.status === 403)
    return new HubError('gated', `${what}: access is not granted (${status}); accept the terms on its page and set HF_TOKEN`);
  if (response.status === 401 && code !== 'RepoNotFound')
    return new HubError('gated', `${what}: a token is needed (${status}); set HF_TOKEN to one that may read it`);
  if (response.status === 401 || response.status === 404)
    return new HubError(
      'not-found',
      `${what}: no such repository, revision or file (${status}); a private one needs HF_TOKEN. Is the name right?`,
    );
  return new HubError('protocol', `${what}: the server answered ${status}`);
}

/** The error code of a failed fetch stands on its cause. */
function codeOf(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    if ('code' in at && typeof at.code === 'string') return at.code;
    if (at.name === 'TimeoutError') return 'timeout';
  }
  return '';
}
