import { FiligreeError } from '@filigree/core-tensor';

/** Messages quote names from files, which may be long and hold anything: cut in the middle, control characters escaped. */
function printable(message: string): string {
  const short = message.length > 2000 ? `${message.slice(0, 1000)} … ${message.slice(-900)}` : message;
  return short.replace(/\p{Cc}/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A GGUF file is malformed, truncated or hostile; the message names the file and the field. */
export class GgufFormatError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('GGUF_FORMAT', printable(message), options);
  }
}

/** A safetensors file or index is malformed, truncated or hostile; the message names the file and the field. */
export class SafetensorsFormatError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('SAFETENSORS_FORMAT', printable(message), options);
  }
}

/** A tensor has an element type that is not read here. Never guessed: its size in bytes would be a guess too. */
export class UnsupportedTensorType extends FiligreeError {
  /** Name of the tensor. */
  readonly tensor: string;
  /** The type as the file states it: a number in GGUF, a name in safetensors. */
  readonly type: number | string;

  constructor(file: string, tensor: string, type: number | string, supported: readonly string[]) {
    super(
      'UNSUPPORTED_TENSOR_TYPE',
      printable(
        `${file}: tensor "${tensor}" has type ${JSON.stringify(type)}, which is not supported. Supported: ${supported.join(', ')}.`,
      ),
    );
    this.tensor = tensor;
    this.type = type;
  }
}

/** Bytes could not be read: outside of the source, the file shrank, the server failed or does not answer range requests. */
export class SourceReadError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('SOURCE_READ', message, options);
  }
}

/** Bytes could not be written: full disk, no permission; nothing is left under the final name. */
export class SinkWriteError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('SINK_WRITE', message, options);
  }
}

/**
 * Why a download failed:
 * - `unreachable` no answer, or none that lasts, after every retry;
 * - `not-found` the repository, revision or file does not exist (or is private and there is no token);
 * - `gated` it exists, but the token is missing or not allowed to read it;
 * - `checksum` the bytes are not those the Hub announced; they were deleted;
 * - `disk-full` no space; the partial file is kept and resumed from later;
 * - `offline` offline mode, and not in the cache;
 * - `protocol` the server answered something that is not its protocol;
 * - `file-system` the cache directory cannot be read or written.
 */
export type HubErrorKind =
  'unreachable' | 'not-found' | 'gated' | 'checksum' | 'disk-full' | 'offline' | 'protocol' | 'file-system';

/** A download from the Hub failed; `kind` says how, the message what to do. */
export class HubError extends FiligreeError {
  readonly kind: HubErrorKind;

  constructor(kind: HubErrorKind, message: string, options?: ErrorOptions) {
    super(`HUB_${kind.toUpperCase().replaceAll('-', '_')}`, message, options);
    this.kind = kind;
  }
}

/**
 * Why a model could not be taken out of a Python package:
 * - `unavailable` there is no Python with pip here;
 * - `unreachable` pip cannot reach its package index;
 * - `not-found` no such package, or nothing in it has the name asked for;
 * - `checksum` the file is not the one expected; it was deleted;
 * - `disk-full` no space;
 * - `failed` pip failed otherwise, or the package is no valid archive;
 * - `file-system` the cache directory cannot be read or written.
 */
export type PipErrorKind = 'unavailable' | 'unreachable' | 'not-found' | 'checksum' | 'disk-full' | 'failed' | 'file-system';

/** Fetching a model that a Python package carries failed; `kind` says how. */
export class PipError extends FiligreeError {
  readonly kind: PipErrorKind;

  constructor(kind: PipErrorKind, message: string, options?: ErrorOptions) {
    super(`PIP_${kind.toUpperCase().replaceAll('-', '_')}`, message, options);
    this.kind = kind;
  }
}

/** One place where a model was looked for, and why it was not taken from there. */
export interface ModelAttempt {
  readonly source: 'path' | 'cache' | 'hub' | 'pip';
  readonly reason: string;
  readonly error?: unknown;
}

/** Several files fit the name of a model, and none of them is the obvious one; `choices` are their names. */
export class AmbiguousModelError extends FiligreeError {
  readonly choices: readonly string[];

  constructor(model: string, choices: readonly string[]) {
    super('AMBIGUOUS_MODEL', `${model}: several files fit; name one of them:\n  ${choices.join('\n  ')}`);
    this.choices = choices;
  }
}

/** The browser grants too little storage. */
export class QuotaError extends FiligreeError {
  /** Bytes that were to be stored; undefined when the server does not say. */
  readonly neededBytes: number | undefined;
  /** Bytes that the browser says are free, which may be a round number on purpose; undefined when it does not say. */
  readonly availableBytes: number | undefined;

  constructor(file: string, neededBytes: number | undefined, availableBytes: number | undefined, options?: ErrorOptions) {
    super(
      'QUOTA',
      `${file}: ${neededBytes ?? 'an unknown number of'} bytes do not fit into the browser's storage ` +
        `(by its own account ${availableBytes ?? 'an unknown number of'} bytes are free); free some space, or read the file without caching it`,
      options,
    );
    this.neededBytes = neededBytes;
    this.availableBytes = availableBytes;
  }
}

/** No source had the model; the message names each that was tried. */
export class ModelNotFoundError extends FiligreeError {
  readonly attempts: readonly ModelAttempt[];

  constructor(model: string, attempts: readonly ModelAttempt[]) {
    const tried = attempts.map(({ source, reason }) => `\n  ${source}: ${reason}`).join('');
    super('MODEL_NOT_FOUND', `No source has the model "${model}". Tried:${tried}`);
    this.attempts = attempts;
  }
}
